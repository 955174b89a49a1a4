"""Fusion: when a worker may compute a cached result whose key the driver does not know yet.

The driver ensures that no two nodes of a run compute the same key, since it knows the key of each node before it
submits the node. But a chain of cached nodes can travel in one bundle, and their keys are then computed on the worker.
That is safe for a task if every other unfinished node of it comes later: downstream of the bundle's first node, or
behind it in the bundle, where it is looked up before it runs. The bundle then *owns* the task. Nodes of an owned task
that are traced meanwhile wait for the end of the bundle.
"""

from __future__ import annotations

from penstock.driver.state.run_state import RunState
from penstock.errors import PenstockError
from penstock.locks.single_flight import FlightOf
from penstock.worker.messages import Bundle

MAX_VISITS = 100_000
"""The most nodes that are visited to find out which come later."""
FEWER = 0.9
"""A task that cannot be owned is checked again when this share of its nodes is left unfinished."""


class Fusion:
    """Tracks the tasks that running bundles own."""

    def __init__(self, run: RunState, *, flight_of: FlightOf) -> None:
        self._run = run
        self._flight_of = flight_of
        self._owned: dict[str, int] = {}
        self._bundles: dict[int, list[str]] = {}
        self._waiting: dict[str, list[int]] = {}
        self._contested: dict[str, int] = {}

    def may_join(self, id: int, inside: set[int], own: set[str], *, short: bool) -> bool:
        """Return whether a cached node may join a bundle behind the nodes `inside` it, and add its task to `own`.

        It then runs without a lock, since its key is unknown, so only nodes known to be `short` may.
        """
        run, node = self._run, self._run.graph.nodes[id]
        progress = run.progress[id]
        if progress.key is not None or progress.seen is not None or node.entry.refresh:
            return False
        try:
            flight = self._flight_of(node)
        except PenstockError:
            return False  # submitted by itself, it gets the error
        if flight.manager is not None and (flight.required or not short):
            return False
        task = node.entry.task.identity
        if task not in own and not self._may_own(id, task, inside):
            return False
        own.add(task)
        return True

    def began(self, bundle: Bundle) -> None:
        """Register a submitted bundle."""
        tasks = {self._run.graph.nodes[call.node].entry.task.identity for call in bundle.calls if call.owns_task}
        if tasks:
            self._bundles[bundle.number] = sorted(tasks)
            self._owned.update(dict.fromkeys(tasks, bundle.number))

    def ended(self, bundle: Bundle) -> None:
        """Wake the nodes that waited for the end of a bundle."""
        for task in self._bundles.pop(bundle.number, ()):
            del self._owned[task]
            for id in self._waiting.pop(task, ()):
                self._run.wake(id, look_up=False)

    def must_wait(self, id: int) -> bool:
        """Return whether a running bundle may be computing the node's key. If so, `ended` wakes the node."""
        task = self._run.graph.nodes[id].entry.task.identity
        if task not in self._owned:
            return False
        self._waiting.setdefault(task, []).append(id)
        return True

    def _may_own(self, id: int, task: str, inside: set[int]) -> bool:
        run = self._run
        unfinished = run.scheduler.unfinished_of(task)
        if task in self._owned or unfinished > self._contested.get(task, unfinished):
            return False
        others = unfinished - 1 - sum(run.graph.nodes[n].entry.task.identity == task for n in inside)
        if others and not self._all_later(id, task, others):
            self._contested[task] = int(unfinished * FEWER)
            return False
        return True

    def _all_later(self, id: int, task: str, others: int) -> bool:
        """Return whether `others` unfinished nodes of the task are downstream of the node."""
        run, seen, stack = self._run, {id}, [id]
        while stack and others and len(seen) < MAX_VISITS:
            for later in run.scheduler.dependents(stack.pop()):
                if later not in seen and not run.scheduler.over(later):
                    seen.add(later)
                    stack.append(later)
                    others -= run.graph.nodes[later].entry.task.identity == task
        return others == 0
