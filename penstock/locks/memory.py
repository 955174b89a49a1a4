"""Locks between the threads of one process. The reference implementation of lock managers."""

from __future__ import annotations

import itertools
import os
import platform
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from penstock.clocks import SYSTEM_CLOCK, Clock
from penstock.errors import ConfigurationError, LockError
from penstock.locks.base import DEFAULT_LEASE_SECONDS, Holder, Lease, LockOutcome, Session, Wakeup
from penstock.locks.session_views import KeptAlive, SessionView
from penstock.locks.sessions import Heartbeat, checked_lease, described, own_leases
from penstock.storage.stores.base import Reach


@dataclass(slots=True)
class _Member:
    """The manager's record of a session."""

    session_id: str
    lease_seconds: float
    info: dict[str, str]
    renewed: float

    def left(self, now: float) -> float:
        """Return the remaining seconds of its lease; zero or less if it is dead."""
        return self.renewed + self.lease_seconds - now


@dataclass(slots=True)
class _Held:
    lease: Lease
    by: _Member
    since: float

    def holder(self) -> Holder:
        return Holder(
            self.lease.key,
            self.lease.session_id,
            self.lease.fencing_token,
            dict(self.by.info),
            self.since,
        )


@dataclass(eq=False, slots=True)
class _Waiter:
    event: threading.Event
    heard: list[Wakeup] = field(default_factory=list)


class MemoryLockManager:
    """Locks between the threads of this process only.

    Guarantee: at most one session that is not `lost` holds a key. Sessions have heartbeats and lose their leases as
    with any other manager, so a test with a fake clock behaves like a driver in a cluster.

    It stays in its process: pickling it raises `ConfigurationError`, and using it after a fork raises `LockError`.

    Args:
        lease_seconds: The lease of sessions that are opened without one; by default `DEFAULT_LEASE_SECONDS`.
        clock: The clock, for tests.

    Raises:
        ConfigurationError: The lease is not a positive number of seconds.
    """

    reach: Reach = "process"

    def __init__(self, *, lease_seconds: float | None = None, clock: Clock = SYSTEM_CLOCK) -> None:
        self._lease_seconds = None if lease_seconds is None else checked_lease(lease_seconds)
        self._clock = clock
        self._pid = os.getpid()
        self._tokens = itertools.count(1)
        # One mutex protects everything. An entry of `_held` exists while the key is held, one of `_waiting` while a
        # thread waits. There are no lock objects, of which a waiter might keep an old one and a newcomer make another.
        self._mutex = threading.Lock()
        self._members: dict[str, _Member] = {}
        self._held: dict[str, _Held] = {}
        self._waiting: dict[str, list[_Waiter]] = {}

    @property
    def lease_seconds(self) -> float | None:
        """The lease that the manager was given, in seconds; None if it was given none."""
        return self._lease_seconds

    def open_session(
        self,
        *,
        info: dict[str, str] | None = None,
        lease_seconds: float | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> Session:
        seconds = checked_lease(lease_seconds, self._lease_seconds, DEFAULT_LEASE_SECONDS)
        member = _Member(uuid.uuid4().hex, seconds, described(info, platform.node()), self._clock.monotonic())
        with self._table():
            self._members[member.session_id] = member
        return OwnMemorySession(self, member, on_lost)

    def ping(self) -> None:
        with self._table():
            pass

    def join_session(self, session_id: str) -> Session:
        return JoinedMemorySession(self, session_id)

    def ls(self) -> list[Holder]:
        with self._table():
            now = self._clock.monotonic()
            return [held.holder() for _, held in sorted(self._held.items()) if held.by.left(now) > 0]

    def break_lock(self, key: str, fencing_token: int) -> bool:
        with self._table():
            held = self._held.get(key)
            if held is None or held.lease.fencing_token != fencing_token:
                return False
            self._free(held.lease, "abandoned")
            return True

    def __reduce__(self) -> NoReturn:
        raise ConfigurationError(
            "a MemoryLockManager cannot leave its process",
            because="its locks are in this process's memory, so a copy elsewhere would exclude no other session",
            hint="use FileSystemLockManager for the processes of one machine",
        )

    def __repr__(self) -> str:
        return f"MemoryLockManager({len(self._held)} held)"

    # -- for its sessions; all but `_table` are called with the mutex held

    def _table(self) -> threading.Lock:
        if os.getpid() != self._pid:
            raise LockError(
                "a MemoryLockManager was used after a fork",
                because="parent and child have separate memories, so its locks no longer exclude other sessions",
                hint="use FileSystemLockManager for the processes of one machine",
            )
        return self._mutex

    def _take(self, key: str, member: _Member) -> Lease | Holder:
        now = self._clock.monotonic()
        held = self._held.get(key)
        if held is not None and held.by is member:
            return held.lease
        if held is not None and held.by.left(now) > 0:
            return held.holder()
        if held is not None:
            # Its session notices at its next beat. All other keys that it held are free at once.
            self._forget(held.by.session_id)
        lease = Lease(key, member.session_id, next(self._tokens))
        self._held[key] = _Held(lease, member, self._clock.now())
        return lease

    def _free(self, lease: Lease, outcome: LockOutcome | None) -> None:
        held = self._held.get(lease.key)
        if held is None or held.lease != lease:
            return
        del self._held[lease.key]
        for waiter in self._waiting.get(lease.key, ()):
            waiter.heard.append(Wakeup(lease.key, outcome))
            waiter.event.set()

    def _forget(self, session_id: str, outcome: LockOutcome | None = None) -> None:
        self._members.pop(session_id, None)
        for held in [held for held in self._held.values() if held.lease.session_id == session_id]:
            self._free(held.lease, outcome)

    def _listen(self, keys: Sequence[str], waiter: _Waiter) -> tuple[list[Wakeup], float]:
        """Return the keys that are free, and the seconds until the lease of another key's holder may run out."""
        now = self._clock.monotonic()
        free, soonest = [], float("inf")
        for key in keys:
            held = self._held.get(key)
            if held is None or held.by.left(now) <= 0:
                free.append(Wakeup(key, None))
            else:
                soonest = min(soonest, held.by.left(now))
                self._waiting.setdefault(key, []).append(waiter)
        return free, soonest

    def _unlisten(self, keys: Iterable[str], waiter: _Waiter) -> None:
        for key in keys:
            waiting = self._waiting.get(key, [])
            if waiter in waiting:
                waiting.remove(waiter)
            if not waiting:
                self._waiting.pop(key, None)


class _MemorySession(SessionView):
    """What a session and another thread's view of it have in common."""

    def __init__(self, manager: MemoryLockManager, session_id: str) -> None:
        super().__init__(session_id, manager._clock)
        self._manager = manager

    def _acquired(self, keys: Sequence[str]) -> list[Lease | Holder]:
        with self._manager._table():
            member = self._manager._members.get(self._id)
            if member is None:
                raise self._loss()
            return [self._manager._take(key, member) for key in keys]

    def free(self, keys: Sequence[str]) -> list[str]:
        with self._manager._table():
            now = self._clock.monotonic()
            held = {key: self._manager._held.get(key) for key in keys}
            return [key for key, by in held.items() if by is None or by.by.left(now) <= 0]

    def release(self, leases: Iterable[Lease], outcome: LockOutcome) -> None:
        leases = own_leases(leases, self._id)
        if self.lost:
            return
        with self._manager._table():
            for lease in leases:
                self._manager._free(lease, outcome)

    def wait_any(self, keys: Sequence[str], timeout: float) -> list[Wakeup]:
        manager, keys = self._manager, list(dict.fromkeys(keys))
        deadline = self._clock.monotonic() + timeout
        with self._bell.listening() as event:
            waiter = _Waiter(event)
            while True:
                with manager._table():
                    free, soonest = manager._listen(keys, waiter)
                try:
                    left = deadline - self._clock.monotonic()
                    rung = not free and self._clock.wait(event, max(0.0, min(left, soonest)))
                finally:
                    with manager._table():
                        manager._unlisten(keys, waiter)
                if free or rung or self._clock.monotonic() >= deadline:
                    return free + waiter.heard


class OwnMemorySession(KeptAlive, _MemorySession):
    """A session with its heartbeat."""

    def __init__(self, manager: MemoryLockManager, member: _Member, on_lost: Callable[[], None] | None) -> None:
        super().__init__(manager, member.session_id)
        self._member = member
        self._heartbeat = Heartbeat(
            self._beat, lease_seconds=member.lease_seconds, clock=manager._clock, on_lost=on_lost
        )
        self._heartbeat.start()

    def _beat(self) -> bool:
        with self._manager._mutex:
            self._member.renewed = self._clock.monotonic()
            return self._id in self._manager._members

    def close(self) -> None:
        if self._heartbeat.forked:
            return
        self._closed = True
        self._heartbeat.stop()
        self._bell.ring()
        with self._manager._table():
            self._manager._forget(self._id, "abandoned")


class JoinedMemorySession(_MemorySession):
    """Another thread's view of a session. Reading `lost` looks the session up."""

    @property
    def lost(self) -> bool:
        with self._manager._table():
            member = self._manager._members.get(self._id)
            return member is None or member.left(self._clock.monotonic()) <= 0


PROCESS_WIDE = MemoryLockManager()
"""The manager of all runs with the setting `memory`, so that they exclude each other. It has the default lease, because
the sessions of one process end together."""
