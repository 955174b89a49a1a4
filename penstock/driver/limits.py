"""Named limits: a node whose task has a limited tag runs only while its driver holds one of the tag's slots.

A slot is a lock like any other, so limits hold wherever the locks reach, slots of a dead driver come back within its
lease, and whoever waits is woken by a release. A limit of 0 pauses: what waits is looked at again every few seconds.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from penstock import events
from penstock.driver.leases import Claims
from penstock.driver.run_state import Board
from penstock.locks.base import Lease, LockManager
from penstock.runners.nesting import Nesting

_PREFIX = "penstock limit "
_PAUSED = "paused"
"""In place of a slot's number: of a tag that is paused there is no slot to watch."""
PAUSE_SECONDS = 10.0
"""A tag that is paused is looked at so often."""


class Limits:
    """The slots that the nodes of one driver hold or wait for."""

    def __init__(
        self,
        board: Board,
        claims: Claims,
        *,
        limits: Callable[[], Mapping[str, int]],
        manager: Callable[[], LockManager],
        wake_later: Callable[[str, float], None],
        around: Nesting | None = None,
    ) -> None:
        """`limits()` are those in force now, by tag; `manager()` is who keeps the slots; `wake_later(key, seconds)` has
        `woken(key)` called then. `around` are the calls that the run is inside of, if it is: it runs under their slots.
        """
        self._board = board
        self._claims = claims
        self._limits = limits
        self._manager = manager
        self._wake_later = wake_later
        self._paused: set[str] = set()
        """Tags that are looked at again later."""
        self._around = around
        self._held: dict[int, tuple[str, ...]] = {}
        self._parked: dict[str, deque[int]] = {}

    def acquire(self, ids: Iterable[int]) -> list[int]:
        """The nodes that need no slot, and those that have theirs now; the others are parked until one is free."""
        run = []
        wanted: dict[int, tuple[str, ...]] = {}
        for id in ids:
            tags = self._tags(id)
            if not tags or id in self._held:
                run.append(id)
            else:
                wanted[id] = tags
        return sorted(run + self._acquire(wanted)) if wanted else run

    def release(self, id: int) -> None:
        """The node's attempt is over: its slots are free, and others of this driver that wait for them try again."""
        if id not in self._held:
            return
        self._board.progress[id].has_slot = False
        for tag in self._held.pop(id):
            self._claims.release((id, tag), "abandoned")
            self._resume(tag)

    def clear(self) -> None:
        """Nobody waits for a slot any more."""
        self._parked.clear()
        self._paused.clear()

    def woken(self, key: str) -> bool:
        """A slot may be free; False if the key is none."""
        if not key.startswith(_PREFIX):
            return False
        tag, _, slot = key.removeprefix(_PREFIX).rpartition(" ")
        if slot == _PAUSED:
            self._paused.discard(tag)
            self._try_paused(tag)
        else:
            self._resume(tag)
        return True

    def _acquire(self, wanted: Mapping[int, tuple[str, ...]]) -> list[int]:
        limits, manager = self._limits(), self._manager()
        free: dict[str, list[str]] = {}
        for tag in {tag for tags in wanted.values() for tag in tags}:
            free[tag] = self._claims.free(manager, _slots(tag, limits[tag])) if limits[tag] else []
            random.shuffle(free[tag])  # contenders for the same few slots had better not all begin with the first
        tried: dict[tuple[int, str], str] = {}
        for id, tags in wanted.items():
            full = next((tag for tag in tags if not free[tag]), None)
            if full is not None:
                self._park(id, full, limits[full], manager)
            else:
                tried |= {(id, tag): free[tag].pop() for tag in tags}
        answers = self._claims.acquire(manager, tried) if tried else {}
        granted = []
        for id in dict.fromkeys(id for id, _ in tried):
            refused = next((tag for tag in wanted[id] if not isinstance(answers[id, tag], Lease)), None)
            if refused is None:
                self._held[id] = wanted[id]
                self._board.progress[id].has_slot = True
                granted.append(id)
                continue
            # All or none: who holds one kind of slot never waits for another.
            for tag in wanted[id]:
                self._claims.release((id, tag), "abandoned")
            self._park(id, refused, limits[refused], manager)
        return granted

    def _park(self, id: int, tag: str, limit: int, manager: LockManager) -> None:
        board, progress = self._board, self._board.progress[id]
        board.scheduler.hold(id)
        self._parked.setdefault(tag, deque()).append(id)
        if limit:
            self._claims.watch(manager, _slots(tag, limit))
        else:
            self._pause(tag)
        if progress.parked_since is None:
            progress.parked_since = board.clock.monotonic()
            told = {"limit": f"{tag} ({f'{limit} at once' if limit else 'paused: its limit is 0'})"}
            board.emit(
                events.NodeParked(at=board.clock.now(), node=id, task=board.name(id), key=_PREFIX + tag, holder=told)
            )

    def _pause(self, tag: str) -> None:
        if tag not in self._paused:
            self._paused.add(tag)
            self._wake_later(f"{_PREFIX}{tag} {_PAUSED}", PAUSE_SECONDS)

    def _try_paused(self, tag: str) -> None:
        limit = self._limits().get(tag)
        if limit == 0:
            self._pause(tag)
            return
        for _ in range(len(self._parked.get(tag, ())) if limit is None else limit):
            self._resume(tag)

    def _resume(self, tag: str) -> None:
        waiting = self._parked.get(tag)
        while waiting:
            id = waiting.popleft()
            if not self._board.scheduler.over(id):
                self._board.scheduler.resume(id)
                return

    def _tags(self, id: int) -> tuple[str, ...]:
        if not self._board.progress[id].limited:
            return ()
        limits = self._limits()
        tags = self._board.graph[id].entry.task.options.tags
        if self._around is not None:
            tags -= self._around.tags
        return tuple(sorted(tag for tag in tags if tag in limits))


def _slots(tag: str, limit: int) -> list[str]:
    return [f"{_PREFIX}{tag} {number}" for number in range(limit)]
