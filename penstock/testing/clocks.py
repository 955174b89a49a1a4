"""`FakeClock`: a clock that a test controls."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

# How often a waiter checks whether the time was moved. Setting its event wakes it at once, but moving the time cannot
# wake a `threading.Event` without using its private parts. The longer it has waited the less often it checks: a test
# may leave threads behind, which wait for a time that nobody will move.
_LOOK_SECONDS = 0.001
_LOOKS_PER_WAIT = 50
_RARELY_SECONDS = 0.1


@dataclass(eq=False, slots=True)
class _Waiter:
    thread: threading.Thread
    event: threading.Event
    deadline: float


class FakeClock:
    """A `penstock.clocks.Clock` for tests, which any number of threads may use.

    Time stands still until `advance` (a jump, as after a suspend of the machine: all waiters that are due wake late and
    at once) or `run_for` (time passes: each waiter wakes when it is due, and acts before time continues).

    Args:
        now: The wall-clock time at the start, in seconds since the epoch.
        monotonic: The monotonic time at the start, in seconds.
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
        """Wait until `event` is set or the clock has moved by `timeout` seconds. Return whether it was set."""
        with self._changed:
            waiter = _Waiter(threading.current_thread(), event, self._monotonic + timeout)
            self._waiters.append(waiter)
            self._changed.notify_all()
        began = time.monotonic()
        pause = _LOOK_SECONDS
        try:
            while not event.wait(pause):
                pause = min(max(_LOOK_SECONDS, (time.monotonic() - began) / _LOOKS_PER_WAIT), _RARELY_SECONDS)
                if self.monotonic() >= waiter.deadline:
                    return event.is_set()
            return True
        finally:
            with self._changed:
                self._waiters.remove(waiter)

    @property
    def waiting(self) -> int:
        """The number of threads that wait for this clock, without those that are due."""
        with self._changed:
            return len(self._asleep())

    def wait_until_waiting(self, count: int, *, timeout: float = 100.0) -> None:
        """Wait until at least `count` threads wait for this clock.

        Args:
            count: The number of threads.
            timeout: The longest wait in real seconds.

        Raises:
            TimeoutError: There were not enough threads in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._asleep()) >= count, timeout):
                raise TimeoutError(f"{len(self._asleep())} threads wait for the clock instead of {count}")

    def advance(self, seconds: float) -> None:
        """Move both clocks by `seconds` at once, and wake the threads that are due."""
        with self._changed:
            self._now += seconds
            self._monotonic += seconds

    def set_now(self, now: float) -> None:
        """Set the wall clock only, as an administrator or a time server may do."""
        with self._changed:
            self._now = now

    def run_for(self, seconds: float, *, settle: float = 10.0) -> None:
        """Let time pass, stopping at each deadline until the threads that wake there wait again or have ended.

        This is for threads that wait for nothing but this clock, such as heartbeats.

        Args:
            seconds: How much time passes.
            settle: How long to wait for each thread, in real seconds.

        Raises:
            TimeoutError: A thread neither waited again nor ended in time.
        """
        end = self.monotonic() + seconds
        while True:
            with self._changed:
                # Never backwards: a thread may have moved the time while it was awake.
                due = max(self._monotonic, min([end, *(waiter.deadline for waiter in self._asleep())]))
                woken = [waiter.thread for waiter in self._waiters if waiter.deadline <= due]
                self._now += due - self._monotonic
                self._monotonic = due
            self.settle(woken, timeout=settle)
            if due >= end:
                return

    def settle(self, threads: Iterable[threading.Thread], *, timeout: float = 100.0) -> None:
        """Wait, in real time, until each thread waits for this clock or has ended. Raises `TimeoutError`."""
        limit = time.monotonic() + timeout
        for thread in threads:
            while thread.is_alive() and not self._waits(thread):
                if time.monotonic() > limit:
                    raise TimeoutError(f"{thread.name} neither waits for the clock nor has ended")
                thread.join(_LOOK_SECONDS)

    def _waits(self, thread: threading.Thread) -> bool:
        with self._changed:
            return any(waiter.thread is thread for waiter in self._asleep())

    def _asleep(self) -> list[_Waiter]:
        return [w for w in self._waiters if w.deadline > self._monotonic and not w.event.is_set()]

    def __repr__(self) -> str:
        return f"FakeClock({self.monotonic():g}, {self.waiting} waiting)"
