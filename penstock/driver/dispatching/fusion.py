"""Owning a task while a bundle is under way: when may a worker compute a cached result whose key nobody knows yet?

The driver sees to it that no two nodes of a run compute the same key: it knows the key of each node before it hands it
over. Links of a chain of cached nodes travel in one bundle, though, and their keys come about on the worker. That is
safe for a task of which every other unfinished node comes later: it lies downstream of the bundle's first one, or in
the bundle behind it, where it is looked up before it runs. Nodes of an owned task that are traced meanwhile wait for
the bundle's end.
"""

from __future__ import annotations

from penstock.driver.state.run_state import RunState
from penstock.errors import PenstockError
from penstock.locks.single_flight import FlightOf
from penstock.worker.messages import Bundle

MAX_VISITS = 100_000
"""So many nodes are looked at to see who comes later."""
FEWER = 0.9
"""A task that cannot be owned is looked at again when only this share of its nodes is left unfinished."""


class Fusion:
    """Which tasks are owned by bundles under way."""

    def __init__(self, run: RunState, *, flight_of: FlightOf) -> None:
        self._run = run
        self._flight_of = flight_of
        self._owned: dict[str, int] = {}
        self._bundles: dict[int, list[str]] = {}
        self._waiting: dict[str, list[int]] = {}
        self._contested: dict[str, int] = {}

    def may_join(self, id: int, inside: set[int], own: set[str], *, short: bool) -> bool:
        """Whether a cached node may travel in a bundle, behind the nodes `inside` it; its task is then among `own`.

        Behind others it runs without a lock, for nobody knows its key: so only what is known to be `short` does.
        """
        run, node = self._run, self._run.graph.nodes[id]
        progress = run.progress[id]
        if progress.key is not None or progress.seen is not None or node.entry.refresh:
            return False
        try:
            flight = self._flight_of(node)
        except PenstockError:
            return False  # by itself it hears why
        if flight.manager is not None and (flight.required or not short):
            return False
        task = node.entry.task.identity
        if task not in own and not self._may_own(id, task, inside):
            return False
        own.add(task)
        return True

    def began(self, bundle: Bundle) -> None:
        """The bundle was submitted."""
        tasks = {self._run.graph.nodes[call.node].entry.task.identity for call in bundle.calls if call.claims}
        if tasks:
            self._bundles[bundle.number] = sorted(tasks)
            self._owned.update(dict.fromkeys(tasks, bundle.number))

    def ended(self, bundle: Bundle) -> None:
        """The bundle is over: the nodes that waited for that go on."""
        for task in self._bundles.pop(bundle.number, ()):
            del self._owned[task]
            for id in self._waiting.pop(task, ()):
                self._run.wake(id, look_up=False)

    def must_wait(self, id: int) -> bool:
        """Whether a bundle under way may be computing the node's key; `ended` then wakes the node."""
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
        """Whether so many unfinished nodes of the task lie downstream of the node."""
        run, seen, stack = self._run, {id}, [id]
        while stack and others and len(seen) < MAX_VISITS:
            for later in run.scheduler.dependents(stack.pop()):
                if later not in seen and not run.scheduler.over(later):
                    seen.add(later)
                    stack.append(later)
                    others -= run.graph.nodes[later].entry.task.identity == task
        return others == 0
