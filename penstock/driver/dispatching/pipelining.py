"""Pipelining: submitting calls whose inputs are still being computed, to engines that hold them back until then.

A call that waits in the engine starts as soon as its inputs are available, without a round trip to the driver. Calls in
bundles do not need this, since they are fused with the calls they wait for. If an input is not computed (its call
failed, was handed back, or lost its worker), the waiting call is returned untouched and decided again.
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
"""Calls with more inputs are not pipelined: the driver would check all of them whenever one is submitted."""


@dataclass(frozen=True, slots=True)
class _Promise:
    """A value that is being computed."""

    handle: Any
    expires: float | None
    """The earliest expiry of everything from which it is computed."""


class Pipelining:
    """Tracks which nodes may follow running ones, and where they will find their inputs."""

    def __init__(self, run: RunState, bundler: Bundler) -> None:
        self._run = run
        self._bundler = bundler
        self.held_back = 0
        """How many bundles the engine accepts in addition to those that can run."""
        self._promises: dict[int, _Promise] = {}
        self._parents: deque[int] = deque()

    def promises(self, id: int) -> bool:
        """Return whether calls may be pipelined behind a node that travels by itself."""
        run, node = self._run, self._run.graph.nodes[id]
        options = node.entry.task.options
        # A call with a timeout may be cancelled, and calls that wait for it in the engine would keep it running.
        stays = not node.cached and options.timeout_seconds is None and options.resources is None
        return stays and self.held_back > 0 and bool(run.scheduler.dependents(id))

    def began(self, bundle: Bundle, promise: Any) -> None:
        """Register a submitted bundle. `promise` is the handle of its call's future value, if others may follow it."""
        call = bundle.calls[0]
        if call.promised:
            self._promises[call.node] = _Promise(promise, call.upstream_expires)
            self._parents.append(call.node)

    def ended(self, bundle: Bundle) -> None:
        """Forget a bundle that is over."""
        if bundle.calls[0].promised:
            self._promises.pop(bundle.calls[0].node, None)

    def followers(self, room: Callable[[], bool]) -> Iterator[int]:
        """Yield nodes to submit now, as long as there is room, and count each as running."""
        scheduler = self._run.scheduler
        while self._parents and room():
            parent = self._parents.popleft()
            if parent not in self._promises or self._run.ages.unsettled:
                continue
            for id in dict.fromkeys(scheduler.dependents(parent)):
                if scheduler.state(id) is State.WAITING and self._may_follow(id):
                    self._run.join(id)
                    yield id

    def input(self, id: int, consumer: int) -> Input:
        """Return where a consumer finds the value of a node that is done or running."""
        promise = self._promises.get(id)
        return self._run.values.input(id, consumer) if promise is None else Input(handle=promise.handle)

    def expires(self, id: int) -> float | None:
        """Return the earliest expiry of the value of a node that is done or running."""
        promise = self._promises.get(id)
        return self._run.results[id].expires if promise is None else promise.expires

    def _may_follow(self, id: int) -> bool:
        run, node = self._run, self._run.graph.nodes[id]
        if node.cached or len(node.deps) > MAX_INPUTS or not self._bundler.alone(id):
            return False
        if node.entry.task.options.resources is not None or run.progress[id].limited:
            return False  # it would occupy them, or a permit of a limit, while it waits
        here = all(d in self._promises or run.values.there(d) for d in node.deps)
        return here and all(run.scheduler.over(n) for n in node.order)
