"""All tables of a folder as one process knows them: what is new in them, who is alive, who is buried.

A session is dead

* at once, if its file is gone: it was closed, or somebody found it dead before;
* at once, if it ran in a process of this machine that certainly no longer exists;
* else when no beat was added to its file for a full lease, measured by whoever watches on its own monotonic clock.

As in `locks/liveness`, no two clocks are compared, and a session counts itself as lost 0.2 leases before others may.
A file that nobody can read (a power cut left it) claims nothing, and is dead after the usual lease.
"""

from __future__ import annotations

from collections.abc import Iterable

from penstock.clocks import Clock
from penstock.errors import LockError
from penstock.locks.base import DEFAULT_LEASE_SECONDS
from penstock.locks.table_files import TableFiles
from penstock.locks.tables import Claim, Table

_UNREADABLE_SECONDS = 3600.0
"""What nobody can read, and nobody has added to for so long, is removed."""


class Tables:
    """Reads what was added to the tables of a folder."""

    def __init__(self, files: TableFiles, *, clock: Clock) -> None:
        self._files = files
        self._clock = clock
        # Single reads and writes of each only, so no mutex: a table keeps its own.
        self._tables: dict[str, Table] = {}
        self._beats: dict[str, tuple[int, float]] = {}
        """Per session the last number of beats, and when it was first seen."""
        self._highest_gone = 0

    def look(self) -> dict[str, Table]:
        """Every session's table, with all that was there when this was called. Raises `LockError`."""
        names = self._files.names()
        for gone in self._tables.keys() - set(names):
            self._forget(gone)
        tables = {name: self.refreshed(name) for name in names}
        return {name: table for name, table in tables.items() if table is not None}

    def refreshed(self, session_id: str) -> Table | None:
        """A session's table; None if it is gone."""
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
                "a session's claims are of another version",
                where=self.name(session_id),
                because=table.refusal.because,
                hint=table.refusal.hint,
            )
        return table

    def seconds_left(self, session_ids: Iterable[str]) -> dict[str, float]:
        """For each session how long it may still live if it is not heard of; 0 if it is dead.

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
        """Who claims a key."""
        return [(table, claim) for table in tables if (claim := table.claims.get(key)) is not None]

    def bury(self, keys: Iterable[str], tables: dict[str, Table], *, but: str) -> None:
        """Remove the sessions among those that claim the keys which are dead, and take them out of `tables`.

        Before anybody takes what they held: one that only slept finds itself gone at its next beat.
        """
        others = [table for session_id, table in tables.items() if session_id != but and table.claims]
        concerned = {table.session_id for key in keys for table in others if key in table.claims} if others else set()
        for session_id, left in self.seconds_left(concerned).items():
            if left <= 0:
                self.remove(session_id)
                del tables[session_id]

    def remove(self, session_id: str) -> None:
        """The end of a session."""
        self._files.remove(session_id)
        self._forget(session_id)

    def sweep(self) -> None:
        """Remove what killed processes of this machine, or a power cut, left behind."""
        for session_id, table in self.look().items():
            if table.opening is None:
                if self._files.age(session_id) >= _UNREADABLE_SECONDS:
                    self.remove(session_id)
            elif table.opening.process.is_gone():
                self.remove(session_id)

    def names(self) -> list[str]:
        """The sessions that have a file."""
        return self._files.names()

    def name(self, session_id: str) -> str:
        """Of a session's file, for messages."""
        return f"{self._files.folder}/{session_id}"

    def age(self, session_id: str) -> float:
        """Seconds since a session's file was last added to."""
        return self._files.age(session_id)

    def highest_token(self) -> int:
        """The highest that was seen in any table."""
        return max([self._highest_gone, *(table.highest for table in list(self._tables.values()))])

    def _left(self, table: Table, before: float, after: float) -> float:
        lease = DEFAULT_LEASE_SECONDS if table.opening is None else table.opening.lease_seconds
        if table.opening is not None and table.opening.process.is_gone():
            return 0.0
        beats, since = self._beats.get(table.session_id, (-1, after))
        if beats != table.beats:
            # Seen after the answer came, judged by a look that began a lease later: slow answers only ever add
            # patience.
            since = after
            self._beats[table.session_id] = (table.beats, since)
        return min(lease, max(0.0, since + lease - before))

    def _forget(self, session_id: str) -> None:
        table = self._tables.pop(session_id, None)
        self._beats.pop(session_id, None)
        if table is not None:
            self._highest_gone = max(self._highest_gone, table.highest)
