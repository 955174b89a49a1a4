"""Values: where those of a run are, who may still ask for them, and which of them the engine may forget."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from penstock.digests.large import Large
from penstock.graph.graphs import Graph
from penstock.storage.records.records import ResultRecord
from penstock.worker.messages import Input

IDLE_BYTES = 256 * 2**20
"""So much of large arguments that no call needs now stays with the workers: the next call may be given them again."""


@dataclass(slots=True, eq=False)
class Result:
    """Where a node's value is."""

    digest: str | None = None
    record: ResultRecord | None = None
    handle: Any = None
    """The value inside the engine, as long as somebody may ask for it."""
    expires: float | None = None
    """The earliest expiry of the value and of all it was made from."""
    part_of: str = ""
    """As `Input.part_of`."""

    @property
    def there(self) -> bool:
        """Whether the value can be had."""
        return self.record is not None or self.handle is not None


class Values:
    """The results of a run's nodes, and the uses of them that are still to come."""

    def __init__(self, graph: Graph, held: Callable[[int], bool]) -> None:
        """`held(node)`: a future of the node is alive, so its value may still be asked for."""
        self.results: dict[int, Result] = {}
        self.planned = 0
        """Nodes from this number on were traced, but nothing was decided about them yet."""
        self._graph = graph
        self.held = held
        self._uses: dict[int, int] = {}
        self._idle: dict[Large, int] = {}  # sizes of large arguments that workers have and no call needs, oldest first
        self._idle_bytes = 0

    def there(self, id: int) -> bool:
        """Whether the node's value can be had."""
        result = self.results.get(id)
        return result is not None and result.there

    def absent(self, id: int) -> list[int]:
        """Inputs of the node whose values cannot be had (any more)."""
        return [dep for dep in self._graph.nodes[id].deps if not self.there(dep)]

    def use_inputs(self, id: int) -> None:
        """The node has to run: its inputs are in use from now on."""
        for dep in self._graph.nodes[id].deps:
            self._uses[dep] = self._uses.get(dep, 0) + 1
        if self._graph.large:
            self._large_needed(id)

    def inputs_used(self, id: int) -> list[Any]:
        """The node is over: handles of inputs that nobody needs any more."""
        deps = self._graph.nodes[id].deps
        for dep in deps:
            self._uses[dep] -= 1
        handles = self.let_go(deps) if deps else []
        return handles + self._large_used(id) if self._graph.large else handles

    def wanted(self, id: int, inner: int = 0) -> bool:
        """Whether anybody may still ask for the node's value, besides so many nodes of its own bundle."""
        return self._uses.get(id, 0) > inner or self.held(id) or self._graph.used_from(id, self.planned)

    def input(self, id: int, consumer: int) -> Input:
        """Where a consumer finds the node's value."""
        result = self.results.get(id) or Result()  # of a node of the same bundle: filled in on the worker
        store, shared = self._graph.nodes[id].entry.task.options.result_storage, self._uses.get(id, 0) > 1
        sole = self._is_sole(id, consumer)
        return Input(result.digest, result.record, store, result.handle, shared, sole, result.part_of)

    def _is_sole(self, id: int, consumer: int) -> bool:
        """Whether one attempt of the consumer is the last that anybody sees of the node's value."""
        if self._uses.get(id, 0) != 1 or self.held(id) or self._graph.used_from(id, self.planned):
            return False  # in this order: only who holds a future of it can use it in a new node
        node = self._graph.nodes[consumer]
        # A cached one may find its generation closed when it has run, and run again.
        return not node.cached and not node.entry.task.options.retries

    def let_go(self, ids: Iterable[int]) -> list[Any]:
        """Handles of those values that nobody can ask for any more, forgotten here."""
        handles = []
        for id in ids:
            result = self.results.get(id)
            if result is not None and result.handle is not None and not self.wanted(id):
                handles.append(result.handle)
                result.handle = None
        return handles

    def let_all_go(self) -> list[Any]:
        """The handles of all values, forgotten here: the run is over."""
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
        """Handles of the large arguments that have been idle for longest, if there are many now."""
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
