"""Ready nodes that wait for room, lowest number first; those that did not fit are kept apart by what they ask for."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping

Needs = Mapping[str, float]


class ReadyQueue:
    """A heap of nodes, and one for each combination of resources that nodes asked for in vain.

    So a node that does not fit is not looked at again until something like it does, however many there are.
    """

    def __init__(self) -> None:
        self.ready: list[int] = []
        """The heap of nodes that may fit."""
        self._aside: dict[tuple[tuple[str, float], ...], list[int]] = {}

    def __bool__(self) -> bool:
        return bool(self.ready or self._aside)

    def push(self, id: int) -> None:
        """The node waits."""
        heapq.heappush(self.ready, id)

    def set_aside(self, id: int, needs: Needs) -> None:
        """There is no room for the node, which needs so much."""
        heapq.heappush(self._aside.setdefault(tuple(sorted(needs.items())), []), id)

    def pop(self, fits: Callable[[Needs], bool]) -> int | None:
        """The first node that may fit; `fits(needs)` says whether there is room for so much. None if there is none."""
        heaps = [heap for needs, heap in self._aside.items() if fits(dict(needs))]
        if self.ready:
            heaps.append(self.ready)
        if not heaps:
            return None
        first = min(heaps, key=lambda heap: heap[0])
        id = heapq.heappop(first)
        if not first and first is not self.ready:
            self._aside = {needs: heap for needs, heap in self._aside.items() if heap}
        return id

    def clear(self) -> None:
        """Nobody waits any more."""
        self.ready.clear()
        self._aside.clear()
