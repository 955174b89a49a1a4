"""Presences: a driver's session with each lock manager, and the thread that waits there for contended keys."""

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


class Presences:
    """One presence for each manager, opened on first need; a new one where the session was lost."""

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
        """`lease_seconds` is for managers that name none themselves.

        `on_lost` hears once of each session whose lease ran out, from any thread; `on_gone` when another takes its
        place; `on_error(what was to be done, why not)` of one that cannot be closed.
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
        """The presence at the manager. Raises `LockError`."""
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
        """The presence at the manager, if there is one."""
        return self._presences.get(id(manager))

    def by_id(self, manager: int) -> Presence | None:
        """As `known`, for the manager with this identity."""
        return self._presences.get(manager)

    def try_one(self, manager: LockManager) -> None:
        """Open a session and close it, to see whether the manager answers. Raises `LockError`; from any thread."""
        manager.open_session(info=self._info, lease_seconds=self._lease_of(manager)).close()

    def drop(self, presence: Presence) -> None:
        """What it held may belong to others now; new work goes on under a new session."""
        if not presence.told:
            self._report_loss(presence.manager)
        del self._presences[id(presence.manager)]
        self._on_gone(presence)
        # Not here: a manager that does not answer would have the driver wait for each of its calls.
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
        """The lease to ask for; None where the manager has one of its own."""
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
