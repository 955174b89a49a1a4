"""The inbox of a driver: everything that other threads have to say to it, one event after the other."""

from __future__ import annotations

import queue

from penstock.driver.events import Event, LocksDown, LocksLost, Woken
from penstock.errors import PenstockError


class Inbox:
    """Filled from any thread, emptied by the driver's."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self.put = self._events.put
        """An event; None: the driver is to stop."""
        self.get = self._events.get
        """The next one; raises `queue.Empty` when there was none for so long."""
        self.get_nowait = self._events.get_nowait

    def wake(self, key: str) -> None:
        """A key that nodes wait for may be free or published."""
        self.put(Woken(key))

    def locks_lost(self, held: int) -> None:
        """A lock session's lease ran out, under so many locks."""
        self.put(LocksLost(held))

    def locks_down(self, doing: str, error: PenstockError, unlocked: bool) -> None:
        """The lock manager did not answer, or cannot lock, which was not fatal."""
        reason = ": ".join(text for text in (error.what, error.because) if text)
        self.put(LocksDown(doing, reason, unlocked))
