"""The inbox of a driver: a queue of events from other threads."""

from __future__ import annotations

import queue

from penstock.driver.events import Event, LocksDown, LocksLost, Woken
from penstock.errors import PenstockError


class Inbox:
    """A queue that any thread fills and the driver's thread empties."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self.put = self._events.put
        """Add an event. None stops the driver."""
        self.get = self._events.get
        """Return the next event. Raises `queue.Empty` after the timeout."""
        self.get_nowait = self._events.get_nowait

    def wake(self, key: str) -> None:
        """Report that a key may be free or published."""
        self.put(Woken(key))

    def locks_lost(self, held: int) -> None:
        """Report that the lease of a lock session with this number of locks expired."""
        self.put(LocksLost(held))

    def locks_down(self, doing: str, error: PenstockError, unlocked: bool) -> None:
        """Report that the lock manager did not answer or cannot lock, which is not fatal."""
        reason = ": ".join(text for text in (error.what, error.because) if text)
        self.put(LocksDown(doing, reason, unlocked))
