"""The hooks and tools of the suite for lock managers: managers, sessions, and passing time."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import pytest

from penstock.clocks import SYSTEM_CLOCK, Clock
from penstock.errors import LockError
from penstock.locks.base import Holder, Lease, LockManager, Session
from penstock.testing.clocks import FakeClock
from penstock.testing.suites import Suite

PATIENCE = 120.0
"""How long a test waits for an event before it fails, in seconds."""


class LockSupport(Suite):
    """The methods and attributes that subclasses of the suite override, and the tools of its tests."""

    fake_time: ClassVar[bool] = True
    """Whether leases run by the clock that `make_manager` is given. False if a server times them."""
    lease_seconds: ClassVar[float] = 30.0
    """The lease of the sessions in tests. Keep it short without `fake_time`: tests wait for its end."""
    entries_per_thread: ClassVar[int] = 200
    """How many times each thread takes the lock in the test of mutual exclusion."""
    travels: ClassVar[bool] = True
    """Whether the manager can be pickled. If not, pickling it must raise a `PenstockError`."""

    clock: Clock

    @abstractmethod
    def make_manager(self, clock: Clock) -> LockManager:
        """Return a manager with unused locks."""

    def make_twin(self, manager: LockManager, clock: Clock) -> LockManager:
        """Return another manager of the same locks, as another process would create it, or the same one if there is
        none."""
        return manager

    def starve(self, session: Session) -> None:
        """Make all further renewals of a session fail, as if it had lost its connection."""

        def fail() -> bool:
            raise LockError("cut off by the test")

        session._heartbeat._beat = fail  # type: ignore[attr-defined]

    def pass_time(self, seconds: float) -> None:
        if isinstance(self.clock, FakeClock):
            # A thread that was just started may not be waiting yet, and would miss the time.
            self.clock.settle(set(threading.enumerate()) - self._before)
            self.clock.run_for(seconds)
        else:
            time.sleep(seconds)

    def let_threads_wait(self, count: int) -> None:
        """Return when `count` threads wait in `wait_any`, or in real time, when they have had enough time to."""
        if isinstance(self.clock, FakeClock):
            self.clock.wait_until_waiting(count + len(self._sessions))  # the heartbeat of each session waits, too
        else:
            time.sleep(0.2)

    @pytest.fixture(autouse=True)
    def _close_all(self) -> Iterator[None]:
        self._sessions: list[Session] = []
        self._before = set(threading.enumerate())
        self.clock = FakeClock() if self.fake_time else SYSTEM_CLOCK
        yield
        for session in self._sessions:
            session.close()
        leaked = [thread.name for thread in set(threading.enumerate()) - self._before if "heartbeat" in thread.name]
        assert leaked == []

    @pytest.fixture
    def manager(self) -> LockManager:
        return self.make_manager(self.clock)

    @pytest.fixture
    def live_manager(self) -> LockManager:
        """Return a manager in real time, for tests in which threads wait for each other."""
        return self.make_manager(SYSTEM_CLOCK)

    def open(self, manager: LockManager, **options: object) -> Session:
        options.setdefault("lease_seconds", self.lease_seconds)
        session = manager.open_session(**options)  # type: ignore[arg-type]
        self._sessions.append(session)
        return session

    def take(self, session: Session, key: str) -> Lease:
        (lease,) = session.try_acquire([key])
        assert isinstance(lease, Lease), f"{key!r} is held by {lease}"
        return lease

    def refused(self, session: Session, key: str) -> Holder:
        (holder,) = session.try_acquire([key])
        assert isinstance(holder, Holder), f"{key!r} was free"
        return holder
