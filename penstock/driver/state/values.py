"""The values of a run: where they are, which may still be requested, and which the engine may release."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from penstock.digests.large import Large
from penstock.graph.graphs import Graph
from penstock.storage.records.records import ResultRecord
from penstock.storage.results.commits import Closing
from penstock.worker.messages import Input

IDLE_BYTES = 256 * 2**20
"""How many bytes of unused large arguments stay with the workers, since later calls may receive them again."""


@dataclass(slots=True, eq=False)
class Result:
    """The location of a node's value."""

    digest: str | None = None
    record: ResultRecord | None = None
    handle: Any = None
    """The value inside the engine, as long as it may be requested."""
    expires: float | None = None
    """The earliest expiry of the value and everything it was computed from."""
    part_of: str = ""
    """As `Input.part_of`."""
    replaces: Closing | None = None
    """As `Published.replaces`."""

    @property
    def there(self) -> bool:
        """Whether the value is available."""
        return self.record is not None or self.handle is not None


class Values:
    """The results of a run's nodes, and their remaining uses."""

    def __init__(self, graph: Graph, held: Callable[[int], bool]) -> None:
        """`held(node)` returns whether a future of the node exists, so that its value may still be requested."""
        self.results: dict[int, Result] = {}
        self.planned = 0
        """Nodes from this number on were traced but not planned yet."""
        self._graph = graph
        self.held = held
        self._uses: dict[int, int] = {}
        self._idle: dict[Large, int] = {}  # sizes of unused large arguments on workers, oldest first
        self._idle_bytes = 0

    def there(self, id: int) -> bool:
        """Return whether the node's value is available."""
        result = self.results.get(id)
        return result is not None and result.there

    def absent(self, id: int) -> list[int]:
        """Return the inputs of the node whose values are not available."""
        return [dep for dep in self._graph.nodes[id].deps if not self.there(dep)]

    def use_inputs(self, id: int) -> None:
        """Mark the inputs of a node that must run as used."""
        for dep in self._graph.nodes[id].deps:
            self._uses[dep] = self._uses.get(dep, 0) + 1
        if self._graph.large:
            self._large_needed(id)

    def inputs_used(self, id: int) -> list[Any]:
        """Return the handles of inputs that are no longer needed now that the node is over."""
        deps = self._graph.nodes[id].deps
        for dep in deps:
            self._uses[dep] -= 1
        handles = self.let_go(deps) if deps else []
        return handles + self._large_used(id) if self._graph.large else handles

    def wanted(self, id: int, inner: int = 0) -> bool:
        """Return whether the node's value may still be requested, other than by `inner` nodes of its own bundle."""
        return self._uses.get(id, 0) > inner or self.held(id) or self._graph.used_from(id, self.planned)

    def input(self, id: int, consumer: int) -> Input:
        """Return where a consumer finds the node's value."""
        result = self.results.get(id) or Result()  # from the same bundle: filled in on the worker
        store, shared = self._graph.nodes[id].entry.task.options.result_storage, self._uses.get(id, 0) > 1
        sole = self._is_sole(id, consumer)
        return Input(result.digest, result.record, store, result.handle, shared, sole, result.part_of)

    def _is_sole(self, id: int, consumer: int) -> bool:
        """Return whether a single attempt of the consumer is the last use of the node's value."""
        if self._uses.get(id, 0) != 1 or self.held(id) or self._graph.used_from(id, self.planned):
            return False  # checked in this order: new nodes can only use it through a future
        node = self._graph.nodes[consumer]
        # A cached consumer may find its generation closed after it ran, and run again.
        return not node.cached and not node.entry.task.options.retries

    def let_go(self, ids: Iterable[int]) -> list[Any]:
        """Forget the values that can no longer be requested, and return their handles."""
        handles = []
        for id in ids:
            result = self.results.get(id)
            if result is not None and result.handle is not None and not self.wanted(id):
                handles.append(result.handle)
                result.handle = None
        return handles

    def let_all_go(self) -> list[Any]:
        """Forget all values of a run that is over, and return their handles."""
        handles = [result.handle for result in self.results.values() if result.handle is not None]
        for result in self.results.values():
            result.handle = None
        handles += [large.handle for large in self._idle]
        self._idle.clear()
        return handles

    def _large_needed(self, id: int) -> None:
        for large in self._graph.large.get(id, ()):
            large.uses += 1
            if large in self._idle:
                self._idle_bytes -= self._idle.pop(large)

    def _large_used(self, id: int) -> list[Any]:
        """Return the handles of the large arguments unused for longest, if there are too many."""
        for large in self._graph.large.get(id, ()):
            large.uses -= 1
            if not large.uses and large.handle is not None:
                self._idle[large] = large.size
                self._idle_bytes += large.size
        handles = []
        while self._idle_bytes > IDLE_BYTES:
            oldest = next(iter(self._idle))
            self._idle_bytes -= self._idle.pop(oldest)
            handles.append(oldest.handle)
            oldest.handle = None
        return handles
