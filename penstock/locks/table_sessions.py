"""Locks of one machine: a file of claims for each session, and why two sessions never hold one key.

To acquire keys, a session

1. reads the additions to all files, and leaves out the keys that other sessions claim,
2. adds one line to its own file: it *wants* the other keys,
3. reads the additions to all files again,
4. adds another line: it *holds* the keys that no other session claims, and gives up the others.

Thousands of keys need the same few calls, no file per key exists, and removing the session's file removes everything.
Between two steps a session holds nothing for which others wait, so a session that is stopped there blocks no other.

The argument assumes that on one machine, a read that begins after a write has returned shows what was written.

1. *Of two sessions that want a key, one sees the other.* Let A's want be written before B's (in the order in which the
   writes return). B reads A's file after that, and finds A's claim there unless A has given it up.
2. *A session that sees a held claim does not take the key.* There remain claims that are not decided yet, where both
   sessions see each other. Then the session with the lower id waits until the other one has decided, and takes the key
   if the other one gave it up; the other one gives it up at once. If neither gives up (the other one decided before it
   could see the first), the first one finds the key held.
3. *Dead sessions claim nothing.* A session that finds another one dead removes its file before it takes its keys. A
   session that was only stopped meanwhile has lost its lease by its own clock. After its last line it also sees that
   its file has no name any more, so no session read what it wrote there.
4. *Tokens grow.* A token is the time in microseconds or one more than the highest token seen, whichever is more, chosen
   after the last look. The session that takes a key has read how the last holder took and released it, or the holder's
   file did not exist by then: whoever removed it has told the token in another session's file before, and the time is
   later. (If no session exists and the machine's clock is set back, tokens begin at that earlier time.)
"""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence

from penstock.clocks import SYSTEM_CLOCK, Clock
from penstock.errors import LockError
from penstock.locks.base import DEFAULT_LEASE_SECONDS, Damage, Holder, Lease, LockOutcome, Session, Wakeup
from penstock.locks.documents import LAST_TOKEN
from penstock.locks.repairs import repair_tables
from penstock.locks.session_views import KeptAlive, PollingView, latest
from penstock.locks.sessions import Heartbeat, checked_lease, described
from penstock.locks.table_files import TableFiles
from penstock.locks.table_set import Tables
from penstock.locks.tables import BEAT, Opening, Table, gets, gives_up, releases, wants
from penstock.process.identity import ProcessIdentity

_PAUSES = (0.0005, 0.001, 0.002, 0.004, 0.01, 0.02, 0.05, 0.1)
"""The pauses between looks at a session that has not decided yet. If it takes longer, it counts as a holder."""


class TableLocks:
    """Locks in a folder that only this machine can access."""

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
            self.tables.sweep(by=opening.session_id)
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
        """Return the sessions that may be alive, with the seconds for which they may live without another beat."""
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
        # Names that no other view of the session uses.
        self._batches = (f"{uuid.uuid4().hex[:12]}.{number}" for number in itertools.count())
        # Batches that may be written in part or undecided, because an answer is missing.
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
            # After the last look, which shows the tokens of all earlier holders of the keys.
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
        """Return the answers for keys that a session, possibly this one, claims already."""
        answers: dict[str, Lease | Holder] = {}
        claiming = [table for table in tables.values() if table.claims]
        passed = set(but)
        for key in keys if claiming else ():
            for table, claim in self._tables.claimants(key, claiming) if key not in passed else ():
                mine = table.session_id == self._id and claim.held
                answers[key] = Lease(key, self._id, claim.token) if mine else table.holder(key, claim)
        return answers

    def _refused(self, keys: list[str]) -> dict[str, Holder]:
        """Return those of the wanted keys that other sessions claim, with their holders."""
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
            assert pause is not None  # the last look does not wait
            self._clock.wait(threading.Event(), pause)
        return refused

    def _rival(self, key: str, tables: Iterable[Table]) -> tuple[Holder | None, bool]:
        """Return another session that claims the key, and whether to wait for its decision."""
        rival, waits = None, True
        for table, claim in self._tables.claimants(key, tables):
            if table.session_id != self._id:
                rival = table.holder(key, claim)
                waits = waits and not claim.held and self._id < table.session_id
        return rival, waits

    def free(self, keys: Sequence[str]) -> list[str]:
        return [wakeup.key for wakeup in self._look(keys, {})[0]]

    def release(self, leases: Iterable[Lease], outcome: LockOutcome) -> None:
        tokens = latest(leases, self._id)
        if not tokens or self.lost:
            return
        by_token: dict[int, list[str]] = {}
        for key, token in tokens.items():
            by_token.setdefault(token, []).append(key)
        # Readers ignore keys that are no longer held with that token.
        self._locks.files.append(self._id, b"".join(releases(t, keys, outcome) for t, keys in by_token.items()))

    def wait_any(self, keys: Sequence[str], timeout: float) -> list[Wakeup]:
        seen: dict[str, tuple[str, int]] = {}
        return self._poll(lambda: self._look(keys, seen), timeout)

    def _look(self, keys: Sequence[str], seen: dict[str, tuple[str, int]]) -> tuple[list[Wakeup], float]:
        """Return wake-ups for keys that may be free, and the seconds after which a holder may be found dead.

        `seen` contains the claims that were seen before. New ones are added.
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

    def _ended(self, key: str, by: tuple[str, int] | None, tables: dict[str, Table]) -> LockOutcome | None:
        """Return the outcome of a claim that was seen before; None if it is unknown."""
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
        because="a claim has a token that no lock reaches",
        hint="`penstock locks repair` removes it",
    )


class OwnTableSession(KeptAlive, _TableSession):
    """A session with its heartbeat."""

    def __init__(self, locks: TableLocks, opening: Opening, on_lost: Callable[[], None] | None) -> None:
        super().__init__(locks, opening.session_id)
        self._heartbeat = Heartbeat(self._beat, lease_seconds=opening.lease_seconds, clock=locks.clock, on_lost=on_lost)
        self._heartbeat.start()

    def _beat(self) -> bool:
        return self._locks.files.append(self._id, BEAT)

    def close(self) -> None:
        if self._heartbeat.forked:
            return
        self._closed = True
        self._heartbeat.stop()
        self._bell.ring()
        # This also frees all locks that other processes acquired for the session.
        self._tables.close(self._id)


class JoinedTableSession(_TableSession):
    """A worker's view of a driver's session. Reading `lost` reads the folder."""

    @property
    def lost(self) -> bool:
        return self._tables.seconds_left([self._id])[self._id] <= 0
