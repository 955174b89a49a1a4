"""A presence: one driver's session with one lock manager, and the thread that waits there for contended keys."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from penstock.errors import PenstockError
from penstock.locks.base import LockManager, Session


@dataclass(slots=True, eq=False)
class Presence:
    """A session with one manager and the thread that waits for its contended keys."""

    manager: LockManager
    session: Session
    look_again: float
    told: bool = False
    """`on_lost` was called."""
    _watched: set[str] = field(default_factory=set)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread | None = None
    _closed: bool = False

    def watch(self, key: str, on_wake: Callable[[str], None]) -> None:
        with self._guard:
            if key in self._watched:
                return
            self._watched.add(key)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._wait, args=(on_wake,), name="penstock-parking", daemon=True
                )
                self._thread.start()
        self.session.wake()

    def watched(self) -> list[str]:
        """The keys that nobody was woken for."""
        with self._guard:
            return sorted(self._watched)

    def _wait(self, on_wake: Callable[[str], None]) -> None:
        while True:
            with self._guard:
                if self._closed or not self._watched:
                    self._thread = None
                    return
                keys = sorted(self._watched)
            try:
                woken = [w.key for w in self.session.wait_any(keys, self.look_again)]
            except PenstockError:
                # The driver meets the same trouble when it tries the key, and reports it there.
                woken = keys
            with self._guard:
                changed = not woken and set(keys) != self._watched
                if not changed:
                    woken = woken or keys
                    self._watched.difference_update(woken)
            for key in woken:
                on_wake(key)

    def close(self) -> None:
        with self._guard:
            self._closed = True
            thread = self._thread
        self.session.wake()
        if thread is not None:
            thread.join()
        self.session.close()
