"""A clock that moves only when a test says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

# How often a waiter looks whether the time was moved. Setting its event wakes it at once; moving the time has no hook
# into somebody else's `threading.Event`, short of its private parts.
_LOOK_SECONDS = 0.001


@dataclass(eq=False, slots=True)
class _Waiter:
    thread: threading.Thread
    event: threading.Event
    deadline: float


class FakeClock:
    """A `penstock.clocks.Clock` for tests, usable from any number of threads.

    Time stands still until `advance` (a jump: everything due comes late and at once, as after a pause of the machine)
    or `run_for` (time that passes: each waiter wakes when it is due, and acts before time goes on).
    """

    def __init__(self, *, now: float = 1_700_000_000.0, monotonic: float = 1_000.0) -> None:
        self._changed = threading.Condition()
        self._now = now
        self._monotonic = monotonic
        self._waiters: list[_Waiter] = []

    def now(self) -> float:
        with self._changed:
            return self._now

    def monotonic(self) -> float:
        with self._changed:
            return self._monotonic

    def wait(self, event: threading.Event, timeout: float) -> bool:
        """Until `event` is set or the time was moved by `timeout` seconds; True if it was set."""
        with self._changed:
            waiter = _Waiter(threading.current_thread(), event, self._monotonic + timeout)
            self._waiters.append(waiter)
            self._changed.notify_all()
        try:
            while not event.wait(_LOOK_SECONDS):
                if self.monotonic() >= waiter.deadline:
                    return event.is_set()
            return True
        finally:
            with self._changed:
                self._waiters.remove(waiter)

    @property
    def waiting(self) -> int:
        """How many threads wait for this clock, not counting those that are due to go on."""
        with self._changed:
            return len(self._asleep())

    def wait_until_waiting(self, count: int, *, timeout: float = 10.0) -> None:
        """Wait (in real time) until at least `count` threads wait for this clock; `TimeoutError` otherwise."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._asleep()) >= count, timeout):
                raise TimeoutError(f"{len(self._asleep())} threads wait for the clock, not {count}")

    def advance(self, seconds: float) -> None:
        """Jump ahead: both clocks move by `seconds` at once, and whoever is due wakes."""
        with self._changed:
            self._now += seconds
            self._monotonic += seconds

    def set_now(self, now: float) -> None:
        """Set the wall clock alone, as an administrator or a time server does."""
        with self._changed:
            self._now = now

    def run_for(self, seconds: float, *, settle: float = 10.0) -> None:
        """Let `seconds` pass: stop at each deadline until the threads that wake there wait again or have ended.

        For threads that do nothing but wait for this clock between their deeds, such as heartbeats. `TimeoutError` if
        one of them does not within `settle` real seconds.
        """
        end = self.monotonic() + seconds
        while True:
            with self._changed:
                # Not back, if a thread moved the time on while it was awake.
                due = max(self._monotonic, min([end, *(waiter.deadline for waiter in self._asleep())]))
                woken = [waiter.thread for waiter in self._waiters if waiter.deadline <= due]
                self._now += due - self._monotonic
                self._monotonic = due
            self.settle(woken, timeout=settle)
            if due >= end:
                return

    def settle(self, threads: Iterable[threading.Thread], *, timeout: float = 10.0) -> None:
        """Wait (in real time) until each of `threads` waits for this clock or has ended; `TimeoutError` otherwise."""
        limit = time.monotonic() + timeout
        for thread in threads:
            while thread.is_alive() and not self._waits(thread):
                if time.monotonic() > limit:
                    raise TimeoutError(f"{thread.name} neither waits for the clock nor has it ended")
                thread.join(_LOOK_SECONDS)

    def _waits(self, thread: threading.Thread) -> bool:
        with self._changed:
            return any(waiter.thread is thread for waiter in self._asleep())

    def _asleep(self) -> list[_Waiter]:
        return [w for w in self._waiters if w.deadline > self._monotonic and not w.event.is_set()]

    def __repr__(self) -> str:
        return f"FakeClock({self.monotonic():g}, {self.waiting} waiting)"
