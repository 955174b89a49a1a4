"""Presences: a driver's session with each lock manager, and its thread that waits for contended keys."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from penstock.errors import LockError, PenstockError
from penstock.locks.base import LeaseNaming, LockManager, Session


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
        """Return the keys that are still being watched."""
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
                # The driver gets the same error when it tries the key, and reports it then.
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


class Presences:
    """One presence for each manager, opened on first use, and replaced when its session is lost."""

    def __init__(
        self,
        *,
        info: Mapping[str, str],
        lease_seconds: float | None,
        look_again: float,
        on_wake: Callable[[str], None],
        on_lost: Callable[[Presence | None], None],
        on_gone: Callable[[Presence], None],
        on_error: Callable[[str, LockError], None],
    ) -> None:
        """Create the presences of a driver. `lease_seconds` is for managers that do not set it.

        `on_lost` is called once for each expired session, from any thread; `on_gone` when another one replaces it;
        `on_error(operation, error)` if one cannot be closed.
        """
        self._info = dict(info)
        self._lease_seconds = lease_seconds
        self._look_again = look_again
        self._on_wake = on_wake
        self._on_lost = on_lost
        self._on_gone = on_gone
        self._on_error = on_error
        self._presences: dict[int, Presence] = {}
        self._closing: list[threading.Thread] = []

    def of(self, manager: LockManager) -> Presence:
        """Return the presence with a manager, opening it if needed. Raises `LockError`."""
        presence = self.known(manager)
        if presence is not None and presence.session.lost:
            self.drop(presence)
            presence = None
        if presence is None:
            session = manager.open_session(
                info=self._info, lease_seconds=self._lease_of(manager), on_lost=lambda: self._report_loss(manager)
            )
            presence = self._presences[id(manager)] = Presence(manager, session, self._look_again)
        return presence

    def known(self, manager: LockManager) -> Presence | None:
        """Return the presence with a manager if there is one."""
        return self._presences.get(id(manager))

    def by_id(self, manager: int) -> Presence | None:
        """Return the presence with the manager of this `id()` if there is one."""
        return self._presences.get(manager)

    def try_one(self, manager: LockManager) -> None:
        """Open and close a session to find out whether the manager answers. From any thread. Raises `LockError`."""
        manager.open_session(info=self._info, lease_seconds=self._lease_of(manager)).close()

    def drop(self, presence: Presence) -> None:
        """Drop a lost session, whose locks others may hold. New work uses a new session."""
        if not presence.told:
            self._report_loss(presence.manager)
        del self._presences[id(presence.manager)]
        self._on_gone(presence)
        # In another thread, since the driver must not wait for a manager that does not answer.
        thread = threading.Thread(target=self._end, args=[presence], name="penstock-closing", daemon=True)
        self._closing = [thread, *(each for each in self._closing if each.is_alive())]
        thread.start()
        for key in presence.watched():
            self._on_wake(key)

    def close(self) -> None:
        """End all sessions."""
        for presence in self._presences.values():
            self._end(presence)
        for thread in self._closing:
            thread.join()
        self._presences.clear()

    def _lease_of(self, manager: LockManager) -> float | None:
        """Return the lease to request, or None if the manager sets its own."""
        asks = isinstance(manager, LeaseNaming) and manager.lease_seconds is None
        return self._lease_seconds if asks else None

    def _end(self, presence: Presence) -> None:
        try:
            presence.close()
        except LockError as error:
            self._on_error("close the session", error)

    def _report_loss(self, manager: LockManager) -> None:
        presence = self.known(manager)
        if presence is not None:
            presence.told = True
        self._on_lost(presence)
