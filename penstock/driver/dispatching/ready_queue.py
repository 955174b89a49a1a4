"""The queue of ready nodes, lowest number first. Nodes that did not fit are kept apart by the resources they need."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping

Needs = Mapping[str, float]


class ReadyQueue:
    """A heap of nodes, and one for each combination of resources for which there was no room.

    So nodes that do not fit are not checked again until one with the same needs fits, however many there are.
    """

    def __init__(self) -> None:
        self.ready: list[int] = []
        """The heap of nodes that may fit."""
        self._aside: dict[tuple[tuple[str, float], ...], list[int]] = {}

    def __bool__(self) -> bool:
        return bool(self.ready or self._aside)

    def push(self, id: int) -> None:
        """Add a node."""
        heapq.heappush(self.ready, id)

    def set_aside(self, id: int, needs: Needs) -> None:
        """Put a node aside for which there is no room."""
        heapq.heappush(self._aside.setdefault(tuple(sorted(needs.items())), []), id)

    def pop(self, fits: Callable[[Needs], bool]) -> int | None:
        """Remove and return the first node that may fit, or None. `fits(needs)` returns whether there is room."""
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
        """Remove all nodes."""
        self.ready.clear()
        self._aside.clear()
