"""Locks of one machine: a file of claims per session, and why two sessions never hold one key.

To take keys, a session

1. reads what others added to their files, and leaves out what they claim,
2. adds one line to its own: that it *wants* these keys,
3. reads what others added again,
4. adds another line: that it *holds* those that nobody else claims, and does without the others.

Thousands of keys are taken with the same handful of calls, nothing is kept per key, and with the session's file all of
it is gone. Nobody holds anything that others wait for between two steps, so whoever is stopped there stops nobody.

The argument. On one machine, a read of a file that begins after a write has returned shows what was written.

1. *Of two that want a key one sees the other.* Let the want of A be written before that of B is (the order in which
   the writes return). B reads A's file after that, and finds A's claim there, unless A has given it up.
2. *Who sees a claim that is held does not take the key.* So only claims that are not decided yet are left, where both
   see each other: then the session with the lower id waits until the other one has decided, and takes the key if that
   one gave it up; the other gives it up at once. Where both go on (the other decided before it could see the first),
   the first one finds the key held.
3. *The dead claim nothing.* Who judges a session dead removes its file before it takes what that one had. One that was
   only stopped meanwhile has lost its lease by its own clock, and after its last line sees that its file has no name
   any more (so whatever it wrote there, nobody read).
4. *Tokens grow.* A token is the time in microseconds, or one more than the highest seen, whichever is more, chosen
   after the last look. Who takes a key has read how its last holder took it and let it go, or that one's file was gone
   by then, and the time is later. (So if nobody has a session and the machine's clock is set back, tokens begin at that
   earlier time.)
"""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence

from penstock.clocks import SYSTEM_CLOCK, Clock
from penstock.errors import LockError
from penstock.locks.base import DEFAULT_LEASE_SECONDS, Damage, Holder, Lease, Outcome, Session, Wakeup
from penstock.locks.documents import LAST_TOKEN
from penstock.locks.repairs import repair_tables
from penstock.locks.session_views import PollingView, latest
from penstock.locks.sessions import Heartbeat, checked_lease, described
from penstock.locks.table_files import TableFiles
from penstock.locks.table_set import Tables
from penstock.locks.tables import BEAT, Opening, Table, gets, gives_up, releases, wants
from penstock.process.identity import ProcessIdentity

_PAUSES = (0.0005, 0.001, 0.002, 0.004, 0.01, 0.02, 0.05, 0.1)
"""Between looks at somebody who has not decided yet. Who takes longer is stopped, and is taken for a holder."""


class TableLocks:
    """Locks in a folder that only this machine reaches."""

    def __init__(
        self,
        files: TableFiles,
        *,
        lease_seconds: float | None,
        poll_seconds: tuple[float, float],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.files = files
        self.clock = clock
        self.tables = Tables(files, clock=clock)
        self.poll_seconds = poll_seconds
        self._lease_seconds = lease_seconds
        self._swept = False

    def open_session(
        self,
        *,
        info: dict[str, str] | None = None,
        lease_seconds: float | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> Session:
        seconds = checked_lease(lease_seconds, self._lease_seconds, DEFAULT_LEASE_SECONDS)
        process = ProcessIdentity.current()
        opening = Opening(uuid.uuid4().hex, seconds, described(info, process.host), process)
        self.files.create(opening.session_id, opening.line())
        session = OwnTableSession(self, opening, on_lost)
        if not self._swept:
            self.tables.sweep()
            self._swept = True
        return session

    def ping(self) -> None:
        self.files.names()

    def join_session(self, session_id: str) -> Session:
        return JoinedTableSession(self, session_id)

    def ls(self) -> list[Holder]:
        tables = self.tables.look()
        left = self.tables.seconds_left(tables)
        held = [
            table.holder(key, claim)
            for session_id, table in tables.items()
            if left[session_id] > 0
            for key, claim in list(table.claims.items())
            if claim.held
        ]
        return sorted(held, key=lambda holder: holder.key)

    def living(self) -> dict[str, float]:
        """The sessions that may be alive, with the seconds they may be if they are not heard of."""
        known = [session_id for session_id, table in self.tables.look().items() if table.opening is not None]
        return {session_id: left for session_id, left in self.tables.seconds_left(known).items() if left > 0}

    def repair(self, *, dry_run: bool = False) -> list[Damage]:
        return repair_tables(self.tables, dry_run=dry_run)

    def break_lock(self, key: str, fencing_token: int) -> bool:
        for table, claim in self.tables.claimants(key, self.tables.look().values()):
            if claim.held and claim.token == fencing_token:
                return self.files.append(table.session_id, releases(fencing_token, [key], "abandoned"))
        return False


class _TableSession(PollingView):
    """What a session and another process's view of it have in common."""

    def __init__(self, locks: TableLocks, session_id: str) -> None:
        super().__init__(session_id, locks.clock, locks.poll_seconds)
        self._locks = locks
        self._tables = locks.tables
        self._taking = threading.Lock()
        # Names that no other view of the session has.
        self._batches = (f"{uuid.uuid4().hex[:12]}.{number}" for number in itertools.count())
        # Batches that may have been written in part, or not been decided: an answer is missing.
        self._doubtful: list[str] = []

    def _acquired(self, keys: Sequence[str]) -> list[Lease | Holder]:
        with self._taking:
            answers = self._take(list(dict.fromkeys(keys)))
        return [answers[key] for key in keys]

    def _take(self, keys: list[str]) -> dict[str, Lease | Holder]:
        if self._doubtful:
            self._add(b"".join(map(gives_up, self._doubtful)))
            self._doubtful.clear()
        tables = self._tables.look()
        self._tables.bury(keys, tables, but=self._id)
        answers = self._claimed(keys, tables)
        if free := [key for key in keys if key not in answers]:
            batch = next(self._batches)
            self._doubtful.append(batch)
            self._add(wants(batch, self._clock.now(), free))
            refused = self._refused(free)
            # After the last look: whoever held one of the keys before is among those whose tokens it shows.
            token = max(int(self._clock.now() * 1e6), self._tables.highest_token() + 1)
            if token > LAST_TOKEN:
                raise _used_up(self._locks.files.folder)
            self._add(gets(batch, token, but=refused))
            self._doubtful.remove(batch)
            answers |= refused | self._claimed(free, {self._id: self._own()}, but=refused)
        return answers

    def _claimed(
        self, keys: Iterable[str], tables: dict[str, Table], *, but: Iterable[str] = ()
    ) -> dict[str, Lease | Holder]:
        """The keys that are somebody's already, ours among them."""
        answers: dict[str, Lease | Holder] = {}
        claiming = [table for table in tables.values() if table.claims]
        passed = set(but)
        for key in keys if claiming else ():
            for table, claim in self._tables.claimants(key, claiming) if key not in passed else ():
                mine = table.session_id == self._id and claim.held
                answers[key] = Lease(key, self._id, claim.token) if mine else table.holder(key, claim)
        return answers

    def _refused(self, keys: list[str]) -> dict[str, Holder]:
        """Those of the keys that we said we want which are somebody else's."""
        refused: dict[str, Holder] = {}
        for pause in (*_PAUSES, None):
            tables = self._tables.look()
            self._tables.bury(keys, tables, but=self._id)
            claiming = [table for table in tables.values() if table.claims]
            undecided = []
            for key in keys if len(claiming) > 1 or self._id not in tables else ():
                holder, waits = self._rival(key, claiming)
                if holder is not None and waits and pause is not None:
                    undecided.append(key)
                elif holder is not None:
                    refused[key] = holder
            keys = undecided
            if not keys:
                return refused
            assert pause is not None  # in the last look nobody is waited for
            self._clock.wait(threading.Event(), pause)
        return refused

    def _rival(self, key: str, tables: Iterable[Table]) -> tuple[Holder | None, bool]:
        """Somebody else who claims the key, and whether to wait for what they decide."""
        rival, waits = None, True
        for table, claim in self._tables.claimants(key, tables):
            if table.session_id != self._id:
                rival = table.holder(key, claim)
                waits = waits and not claim.held and self._id < table.session_id
        return rival, waits

    def free(self, keys: Sequence[str]) -> list[str]:
        return [wakeup.key for wakeup in self._look(keys, {})[0]]

    def release(self, leases: Iterable[Lease], outcome: Outcome) -> None:
        tokens = latest(leases, self._id)
        if not tokens or self.lost:
            return
        by_token: dict[int, list[str]] = {}
        for key, token in tokens.items():
            by_token.setdefault(token, []).append(key)
        # What is not held with that token any more is passed over by whoever reads it.
        self._locks.files.append(self._id, b"".join(releases(t, keys, outcome) for t, keys in by_token.items()))

    def wait_any(self, keys: Sequence[str], timeout: float) -> list[Wakeup]:
        seen: dict[str, tuple[str, int]] = {}
        return self._poll(lambda: self._look(keys, seen), timeout)

    def _look(self, keys: Sequence[str], seen: dict[str, tuple[str, int]]) -> tuple[list[Wakeup], float]:
        """The keys worth another look, and how soon the next of their holders may turn out to be dead.

        `seen` is who claimed them before, and is filled.
        """
        tables = self._tables.look()
        claimed = {key: table for key in dict.fromkeys(keys) for table in tables.values() if key in table.claims}
        left = self._tables.seconds_left({table.session_id for table in claimed.values()} - {self._id})
        wakeups = []
        for key in dict.fromkeys(keys):
            table = claimed.get(key)
            claim = None if table is None else table.claims.get(key)
            if table is None or claim is None or left.get(table.session_id, 1.0) <= 0:
                wakeups.append(Wakeup(key, self._ended(key, seen.get(key), tables)))
            else:
                by = (table.session_id, claim.token)
                if seen.setdefault(key, by) != by:
                    wakeups.append(Wakeup(key, self._ended(key, seen[key], tables)))
        return wakeups, min(left.values(), default=float("inf"))

    def _ended(self, key: str, by: tuple[str, int] | None, tables: dict[str, Table]) -> Outcome | None:
        """How a claim that was seen before ended, if that is known."""
        table = None if by is None else tables.get(by[0])
        token, outcome = (None, None) if table is None else table.ended.get(key, (None, None))
        return outcome if by is not None and token == by[1] else None

    def _add(self, data: bytes) -> None:
        if not self._locks.files.append(self._id, data):
            raise self._loss()

    def _own(self) -> Table:
        table = self._tables.refreshed(self._id)
        if table is None:
            raise self._loss()
        return table


def _used_up(folder: str) -> LockError:
    return LockError(
        "the tokens of the locks are used up",
        where=folder,
        because="somebody wrote one that no lock reaches",
        hint="`penstock locks repair` removes it",
    )


class OwnTableSession(_TableSession):
    """A session with its heartbeat."""

    def __init__(self, locks: TableLocks, opening: Opening, on_lost: Callable[[], None] | None) -> None:
        super().__init__(locks, opening.session_id)
        self._heartbeat = Heartbeat(self._beat, lease_seconds=opening.lease_seconds, clock=locks.clock, on_lost=on_lost)
        self._heartbeat.start()

    @property
    def lost(self) -> bool:
        return self._heartbeat.lost

    def _beat(self) -> bool:
        return self._locks.files.append(self._id, BEAT)

    def close(self) -> None:
        if self._heartbeat.forked:
            return
        self._closed = True
        self._heartbeat.stop()
        self._bell.ring()
        # Whatever was taken in the session's name is free with this.
        self._tables.remove(self._id)


class JoinedTableSession(_TableSession):
    """A worker's view of a driver's session. Asking for `lost` asks the folder."""

    @property
    def lost(self) -> bool:
        return self._tables.seconds_left([self._id])[self._id] <= 0
