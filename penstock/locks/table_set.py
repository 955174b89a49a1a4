"""All tables of a folder as one process knows them: it reads additions, detects dead sessions and removes them.

A session is dead

* at once, if its file does not exist: it was closed, or another session found it dead;
* at once, if it ran in a process of this machine that certainly no longer exists;
* otherwise when no beat was added to its file for a full lease, by the monotonic clock of the process that watches it.

As in `locks/liveness`, no two clocks are compared, and a session counts itself as lost 0.2 leases before others may
consider it dead. A file that cannot be read (after a power cut) claims nothing, and is dead after the default lease.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from penstock.clocks import Clock
from penstock.errors import LockError
from penstock.locks.base import DEFAULT_LEASE_SECONDS
from penstock.locks.documents import LAST_TOKEN
from penstock.locks.table_files import TableFiles
from penstock.locks.tables import Claim, Table, passes_on

_UNREADABLE_SECONDS = 3600.0
"""An unreadable file without additions for this many seconds is removed."""


class Tables:
    """The tables of a folder."""

    def __init__(self, files: TableFiles, *, clock: Clock) -> None:
        self._files = files
        self._clock = clock
        # Single reads and writes only, so no mutex: each table has its own.
        self._tables: dict[str, Table] = {}
        self._beats: dict[str, tuple[int, float]] = {}
        """For each session its last number of beats, and when that was first seen."""
        self._highest_gone = 0

    def look(self) -> dict[str, Table]:
        """Return the table of each session, with everything written before this call. Raises `LockError`."""
        names = self._files.names()
        for gone in self._tables.keys() - set(names):
            self._forget(gone)
        tables = {name: self.refreshed(name) for name in names}
        return {name: table for name, table in tables.items() if table is not None}

    def refreshed(self, session_id: str) -> Table | None:
        """Return a session's table with all additions; None if its file does not exist. Raises `LockError`."""
        table = self._tables.get(session_id) or Table(session_id)
        start = table.read
        data = self._files.read(session_id, start)
        if data is None:
            self._forget(session_id)
            return None
        table = self._tables.setdefault(session_id, table)
        table.absorb(start, data)
        if table.refusal is not None:
            raise LockError(
                "a session's claims were written by another version",
                where=self.name(session_id),
                because=table.refusal.because,
                hint=table.refusal.hint,
            )
        return table

    def seconds_left(self, session_ids: Iterable[str]) -> dict[str, float]:
        """Return for each session the seconds for which it may live without another beat; 0 if it is dead.

        The first look at a living session gives it a full lease.
        """
        before = self._clock.monotonic()
        tables = {session_id: self.refreshed(session_id) for session_id in dict.fromkeys(session_ids)}
        after = self._clock.monotonic()
        return {
            session_id: 0.0 if table is None else self._left(table, before, after)
            for session_id, table in tables.items()
        }

    def claimants(self, key: str, tables: Iterable[Table]) -> list[tuple[Table, Claim]]:
        """Return the tables that claim a key, with their claims."""
        return [(table, claim) for table in tables if (claim := table.claims.get(key)) is not None]

    def bury(self, keys: Iterable[str], tables: dict[str, Table], *, but: str) -> None:
        """Remove the dead sessions among those that claim the keys, also from `tables`.

        Call this before taking their keys: a session that was only suspended finds its file missing at its next beat.
        """
        others = [table for session_id, table in tables.items() if session_id != but and table.claims]
        concerned = {table.session_id for key in keys for table in others if key in table.claims} if others else set()
        dead = [session_id for session_id, left in self.seconds_left(concerned).items() if left <= 0]
        if dead:
            self._pass_on(but)
        for session_id in dead:
            self.remove(session_id)
            del tables[session_id]

    def remove(self, session_id: str) -> None:
        """Remove a session."""
        self._files.remove(session_id)
        self._forget(session_id)

    def close(self, session_id: str) -> None:
        """Remove a session that ends in order. Another one, if there is any, learns its tokens."""
        with contextlib.suppress(LockError):
            self.refreshed(session_id)  # its workers may have added tokens
            tables = self.look() if self.highest_token() else {}
            readable = (name for name, table in tables.items() if table.opening is not None and name != session_id)
            any(map(self._pass_on, readable))  # to the first that still exists
        self.remove(session_id)

    def sweep(self, *, by: str) -> None:
        """Remove the files of killed processes of this machine, and old unreadable files, for the session `by`."""
        tables = self.look()
        gone = [
            session_id
            for session_id, table in tables.items()
            if (
                self._files.age(session_id) >= _UNREADABLE_SECONDS
                if table.opening is None
                else table.opening.process.is_gone()
            )
        ]
        if gone:
            self._pass_on(by)
        for session_id in gone:
            self.remove(session_id)

    def names(self) -> list[str]:
        """Return the sessions that have a file."""
        return self._files.names()

    def name(self, session_id: str) -> str:
        """Return the path of a session's file, for messages."""
        return f"{self._files.folder}/{session_id}"

    def age(self, session_id: str) -> float:
        """Return the seconds since the last addition to a session's file."""
        return self._files.age(session_id)

    def highest_token(self) -> int:
        """Return the highest token that was seen in any table."""
        return max([self._highest_gone, *(table.highest for table in list(self._tables.values()))])

    def _pass_on(self, to: str) -> bool:
        """Tell the highest token in a session's file, which all others read. Returns whether it is known there.

        Tokens then grow even if the machine's clock is set back and who takes a key next has not read the file of the
        last holder, which is about to be removed.
        """
        highest, there = self.highest_token(), self._tables.get(to)
        if not 0 < highest < LAST_TOKEN or (there is not None and there.highest >= highest):
            return True
        return self._files.append(to, passes_on(highest))

    def _left(self, table: Table, before: float, after: float) -> float:
        lease = DEFAULT_LEASE_SECONDS if table.opening is None else table.opening.lease_seconds
        if table.opening is not None and table.opening.process.is_gone():
            return 0.0
        beats, since = self._beats.get(table.session_id, (-1, after))
        if beats != table.beats:
            # The time after the answer counts, and a look that began a lease later decides, so slow answers only
            # extend a session's life.
            since = after
            self._beats[table.session_id] = (table.beats, since)
        return min(lease, max(0.0, since + lease - before))

    def _forget(self, session_id: str) -> None:
        table = self._tables.pop(session_id, None)
        self._beats.pop(session_id, None)
        if table is not None:
            self._highest_gone = max(self._highest_gone, table.highest)
