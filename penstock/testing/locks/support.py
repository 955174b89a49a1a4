"""What the suite of lock managers is written with: managers, sessions, and time that passes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import ClassVar

import pytest

from penstock.clocks import SYSTEM_CLOCK, Clock
from penstock.errors import LockError
from penstock.locks.base import Holder, Lease, LockManager, Session
from penstock.testing.clocks import FakeClock

PATIENCE = 120.0
"""Seconds a test waits for what must happen; never waited for when all is well."""


class LockSupport:
    """What a suite for lock managers overrides, and what its tests are written with."""

    fake_time: ClassVar[bool] = True

    lease_seconds: ClassVar[float] = 30.0

    entries_per_thread: ClassVar[int] = 200

    travels: ClassVar[bool] = True
    """Whether the manager may be pickled; else pickling must be a `PenstockError`."""

    clock: Clock

    def make_manager(self, clock: Clock) -> LockManager:
        """A manager whose locks nobody else has touched."""
        raise NotImplementedError

    def make_twin(self, manager: LockManager, clock: Clock) -> LockManager:
        """Another manager over the same locks, as another process would make it; the same one if there is no such
        thing."""
        return manager

    def starve(self, session: Session) -> None:
        """Make all further renewals of this session fail, as if it were cut off."""

        def fail() -> bool:
            raise LockError("cut off by the test")

        session._heartbeat._beat = fail  # type: ignore[attr-defined]

    def pass_time(self, seconds: float) -> None:
        if isinstance(self.clock, FakeClock):
            # A thread that was just started is not yet in its first wait, and would sleep through the time.
            self.clock.settle(set(threading.enumerate()) - self._before)
            self.clock.run_for(seconds)
        else:
            time.sleep(seconds)

    def let_threads_wait(self, count: int) -> None:
        """Go on when `count` threads wait in `wait_any` (in real time: when they have had the time to)."""
        if isinstance(self.clock, FakeClock):
            self.clock.wait_until_waiting(count + len(self._sessions))  # each session's heartbeat waits as well
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
        """A manager in real time, for tests in which threads wait for each other."""
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
