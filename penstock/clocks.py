"""Clocks: the time source that everything that waits or expires receives as an argument; and chance, for its pauses."""

from __future__ import annotations

import os
import random
import threading
import time
from typing import Protocol

JITTER = random.Random()
"""Chance for pauses, apart from that of `random`, whose numbers belong to the program and may be seeded by it."""
os.register_at_fork(after_in_child=JITTER.seed)  # or all children would pause alike


class Clock(Protocol):
    """A source of time. Leases use `monotonic`, records and expiry use `now`."""

    def now(self) -> float:
        """Return the wall-clock time in seconds since the epoch (UTC)."""
        ...

    def monotonic(self) -> float:
        """Return seconds on a clock that never jumps. Only differences are meaningful."""
        ...

    def wait(self, event: threading.Event, timeout: float) -> bool:
        """Wait until `event` is set or `timeout` seconds have passed. Return whether it was set."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, event: threading.Event, timeout: float) -> bool:
        return event.wait(timeout)

    def __repr__(self) -> str:
        return "SystemClock()"


SYSTEM_CLOCK = SystemClock()


def pause_after(failures: int, clock: Clock) -> None:
    """Wait before another try: 0.05 to 0.1 s after the first failure, and twice as long after each further one."""
    clock.wait(threading.Event(), 0.05 * 2.0**failures * JITTER.uniform(0.5, 1.0))


def moment(at: float | None) -> str:
    """Format seconds since the epoch as local date and time; empty for None or 0, `?` for an invalid time."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at else ""
    except (ValueError, OverflowError, OSError):
        return "?"
