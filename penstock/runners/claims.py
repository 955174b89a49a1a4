"""The driver's locks: sessions opened on first need, all ready keys tried in one call, contended keys watched.

Nobody waits here: a contended node is parked in the driver, and one thread per lock manager waits for all of its keys
together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from penstock.errors import PenstockError
from penstock.locks.base import Holder, Lease, LockManager, Outcome, Session

LOOK_AGAIN_SECONDS = 5.0
"""A parked key is looked at this often even if nobody says anything: messages may be lost, holders may die."""


class Claims:
    """Leases of one driver, by node."""

    def __init__(
        self,
        *,
        info: Mapping[str, str],
        on_wake: Callable[[str], None],
        on_lost: Callable[[int], None],
    ) -> None:
        """`on_wake(key)` and `on_lost(number of leases)` are called from other threads."""
        self._info = dict(info)
        self._on_wake = on_wake
        self._on_lost = on_lost
        self._presences: dict[int, _Presence] = {}
        self._leases: dict[int, tuple[_Presence, Lease]] = {}

    def acquire(self, manager: LockManager, wanted: Mapping[int, str]) -> dict[int, Lease | Holder]:
        """One try for the key of each node, in one call. Leases are kept until `release`."""
        presence = self._presence(manager)
        answers = presence.session.try_acquire(list(wanted.values()))
        result = dict(zip(wanted, answers, strict=True))
        for node, answer in result.items():
            if isinstance(answer, Lease):
                self._leases[node] = (presence, answer)
            else:
                presence.watch(answer.key, self._on_wake)
        return result

    def lease(self, node: int) -> Lease | None:
        """What the node holds."""
        held = self._leases.get(node)
        return held[1] if held else None

    def release(self, node: int, outcome: Outcome) -> None:
        """Let the node's lock go and tell waiters how it ended. Nothing happens if it holds none."""
        held = self._leases.pop(node, None)
        if held is not None:
            presence, lease = held
            presence.session.release([lease], outcome)

    def release_all(self, nodes: Iterable[int], outcome: Outcome) -> None:
        """`release` for each node."""
        for node in nodes:
            self.release(node, outcome)

    def close(self) -> None:
        """Release everything and stop the heartbeats and watchers."""
        for presence in self._presences.values():
            presence.close()
        self._presences.clear()
        self._leases.clear()

    def _presence(self, manager: LockManager) -> _Presence:
        presence = self._presences.get(id(manager))
        if presence is None or presence.session.lost:
            if presence is not None:
                # What it held may belong to others now; new work goes on under a new session.
                self._leases = {n: held for n, held in self._leases.items() if held[0] is not presence}
                presence.close()
            session = manager.open_session(info=self._info, on_lost=lambda: self._report_loss(manager))
            presence = self._presences[id(manager)] = _Presence(manager, session)
        return presence

    def _report_loss(self, manager: LockManager) -> None:
        presence = self._presences.get(id(manager))
        self._on_lost(sum(1 for held in list(self._leases.values()) if held[0] is presence))


@dataclass(slots=True, eq=False)
class _Presence:
    """A session with one manager and the thread that waits for its contended keys."""

    manager: LockManager
    session: Session
    _watched: set[str] = field(default_factory=set)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread | None = None
    _closed: bool = False

    def watch(self, key: str, on_wake: Callable[[str], None]) -> None:
        with self._guard:
            self._watched.add(key)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._wait, args=(on_wake,), name="penstock-parking", daemon=True
                )
                self._thread.start()
        self.session.wake()

    def _wait(self, on_wake: Callable[[str], None]) -> None:
        while True:
            with self._guard:
                if self._closed or not self._watched:
                    self._thread = None
                    return
                keys = sorted(self._watched)
            try:
                woken = [w.key for w in self.session.wait_any(keys, LOOK_AGAIN_SECONDS)]
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
