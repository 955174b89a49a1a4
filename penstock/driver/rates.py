"""Named rates: a node whose task has a tag with a rate goes on only with one of the period's starts.

A start is used up when the node is handed to its runner, whatever becomes of it; each attempt takes one. Who finds none
left is parked until the next period begins, and holds no slot meanwhile.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from penstock import events
from penstock.driver.run_state import Board
from penstock.storage.rates import Rate, RateTable

_PREFIX = "penstock rate "
_JITTER = 0.05
"""Of a period: so that drivers do not all come at once."""


class Rates:
    """The starts that the nodes of one driver use or wait for."""

    def __init__(
        self,
        board: Board,
        *,
        rates: Callable[[], Mapping[str, Rate]],
        table: RateTable,
        wake_later: Callable[[str, float], None],
    ) -> None:
        """`rates()` are those in force now, by tag; `wake_later(key, seconds)` has `woken(key)` called then."""
        self._board = board
        self._rates = rates
        self._table = table
        self._wake_later = wake_later
        self._parked: dict[str, deque[int]] = {}

    def use(self, ids: Iterable[int]) -> tuple[list[int], list[int]]:
        """The nodes that may begin now, and those that were parked. Raises `StoreError`."""
        run, parked = [], []
        for id in ids:
            tags = self._tags(id)
            short = self._short(tags)
            if short is None:
                run.append(id)
            else:
                self._park(id, short)
                parked.append(id)
        return run, parked

    def clear(self) -> None:
        """Nobody waits for a period any more."""
        self._parked.clear()

    def woken(self, key: str) -> bool:
        """A period has begun; False if the key is none of these."""
        if not key.startswith(_PREFIX):
            return False
        tag = key.removeprefix(_PREFIX)
        waiting, rate = self._parked.get(tag, deque()), self._rates().get(tag)
        # No more than can begin: of ten thousand, the others are not looked at before it is their turn.
        left = len(waiting) if rate is None else rate.starts
        while waiting and left:
            id = waiting.popleft()
            if not self._board.scheduler.over(id):
                self._board.scheduler.resume(id)
                left -= 1
        if waiting and rate is not None:
            self._wake(tag, rate)
        return True

    def _short(self, tags: Iterable[str]) -> str | None:
        """A tag of which there is no start left; None if one of each was used. All or none."""
        used: list[str] = []
        for tag in tags:
            if not self._table.take(tag, self._rates()[tag], 1):
                for other in used:
                    self._table.give_back(other, 1)
                return tag
            used.append(tag)
        return None

    def _park(self, id: int, tag: str) -> None:
        board, progress, rate = self._board, self._board.progress[id], self._rates()[tag]
        board.scheduler.hold(id)
        waiting = self._parked.setdefault(tag, deque())
        if not waiting:
            self._wake(tag, rate)
        waiting.append(id)
        if progress.parked_since is None:
            progress.parked_since = board.clock.monotonic()
            told = {"limit": f"{tag} ({rate})"}
            board.emit(
                events.NodeParked(at=board.clock.now(), node=id, task=board.name(id), key=_PREFIX + tag, holder=told)
            )

    def _wake(self, tag: str, rate: Rate) -> None:
        """Look at those that wait for the tag again when the next period has begun."""
        seconds = self._table.seconds_left(rate) + random.uniform(0.0, _JITTER * min(rate.seconds, 10.0))
        self._wake_later(_PREFIX + tag, seconds)

    def _tags(self, id: int) -> tuple[str, ...]:
        if not self._board.progress[id].limited:
            return ()
        rates = self._rates()
        return tuple(sorted(tag for tag in self._board.graph[id].entry.task.options.tags if tag in rates))
