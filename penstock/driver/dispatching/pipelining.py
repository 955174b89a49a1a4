"""Sending pipelining: calls whose inputs are still being made go to engines that hold them back until these are there.

A call that waits in the engine begins as soon as its inputs are made, without a word with the driver in between. What
travels in bundles need not: it is fused with what it waits for. If an input does not come (its call failed, was handed
back, lost its worker), the call that waited for it comes back untouched, and is decided again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from penstock.driver.dispatching.bundling import Bundler
from penstock.driver.state.run_state import RunState
from penstock.driver.state.transitions import State
from penstock.worker.messages import Bundle, Input

MAX_INPUTS = 32
"""A call with more inputs is not sent pipelining: the driver would look at all of them with each that sets out."""


@dataclass(frozen=True, slots=True)
class _Promise:
    """A value that is being made."""

    handle: Any
    expires: float | None
    """The earliest expiry of what it is made from."""


class Pipelining:
    """Which nodes may follow those that are under way, and where they will find their inputs."""

    def __init__(self, run: RunState, bundler: Bundler) -> None:
        self._run = run
        self._bundler = bundler
        self.held_back = 0
        """So many bundles the engine takes besides those that could run."""
        self._promises: dict[int, _Promise] = {}
        self._parents: deque[int] = deque()

    def promises(self, id: int) -> bool:
        """Whether others may be sent after the node, which travels by itself."""
        run, node = self._run, self._run.graph.nodes[id]
        options = node.entry.task.options
        # A call with a time-out may be cancelled: what waits for it in the engine would keep it going.
        stays = not node.cached and options.timeout_seconds is None and options.resources is None
        return stays and self.held_back > 0 and bool(run.scheduler.dependents(id))

    def began(self, bundle: Bundle, promise: Any) -> None:
        """The bundle was submitted; `promise` stands for what its call will make, if others may be sent after it."""
        call = bundle.calls[0]
        if call.promised:
            self._promises[call.node] = _Promise(promise, call.upstream_expires)
            self._parents.append(call.node)

    def ended(self, bundle: Bundle) -> None:
        """The bundle is over, whatever came of it."""
        if bundle.calls[0].promised:
            self._promises.pop(bundle.calls[0].node, None)

    def followers(self, room: Callable[[], bool]) -> Iterator[int]:
        """Nodes to be submitted now, as long as there is room; each is taken for running from here on."""
        scheduler = self._run.scheduler
        while self._parents and room():
            parent = self._parents.popleft()
            if parent not in self._promises or self._run.remade:
                continue
            for id in dict.fromkeys(scheduler.dependents(parent)):
                if scheduler.state(id) is State.WAITING and self._may_follow(id):
                    self._run.join(id)
                    yield id

    def input(self, id: int, consumer: int) -> Input:
        """Where a consumer finds the value of a node that is done or under way."""
        promise = self._promises.get(id)
        return self._run.values.input(id, consumer) if promise is None else Input(handle=promise.handle)

    def expires(self, id: int) -> float | None:
        """The earliest expiry of the value of a node that is done or under way."""
        promise = self._promises.get(id)
        return self._run.results[id].expires if promise is None else promise.expires

    def _may_follow(self, id: int) -> bool:
        run, node = self._run, self._run.graph.nodes[id]
        if node.cached or len(node.deps) > MAX_INPUTS or not self._bundler.alone(id):
            return False
        if node.entry.task.options.resources is not None or run.progress[id].limited:
            return False  # it would hold them, or the permit of a limit, while it waits
        here = all(d in self._promises or run.values.there(d) for d in node.deps)
        return here and all(run.scheduler.over(n) for n in node.order)
