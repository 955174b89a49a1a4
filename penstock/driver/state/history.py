"""What a run remembers of what it made: which results belong together, and how long calls took."""

from __future__ import annotations

import itertools

from penstock.graph.graphs import Graph
from penstock.graph.planning import Planner
from penstock.storage.records.records import ResultRecord
from penstock.worker.messages import new_origin, origin_of


class Origins:
    """Marks the results of one run: those of one origin belong together."""

    def __init__(self, graph: Graph, run_id: str) -> None:
        self._graph = graph
        self._run_id = run_id
        # Unique among all attempts ever made, without asking the system for chance 10 000 times.
        self._now = new_origin()
        self._all = {self._now}
        self._attempts = itertools.count()

    def begin_anew(self) -> None:
        """Values of the run became others: what it makes from now on need not belong to what it made before."""
        self._now = new_origin()
        self._all.add(self._now)

    def now(self) -> str:
        """What marks the results that the run makes or finds from now on."""
        if self._graph.ambiguous:
            self.begin_anew()  # two nodes of one recipe may have two results, of which the store keeps one
        return self._now

    def attempt_id(self) -> str:
        """Unique among all attempts ever made; begins with the origin."""
        return f"{self.now()}{next(self._attempts):x}"

    def made_earlier(self, record: ResultRecord) -> bool:
        """Whether an earlier attempt of this run made a result: nobody has to refresh it once more."""
        made_now = origin_of(record.attempt) in self._all
        return bool(self._run_id) and record.producer.run_id == self._run_id and not made_now


class Durations:
    """How long calls of each task took, at the longest."""

    def __init__(self, graph: Graph, planner: Planner) -> None:
        self._graph = graph
        self._planner = planner
        self._longest: dict[str, float] | None = None  # not before somebody asks

    def note(self, id: int, seconds: float | None) -> None:
        """A call of the node's task took so long, if that is known."""
        if self._longest is not None and seconds is not None:
            task = self._graph[id].entry.task.identity
            self._longest[task] = max(self._longest.get(task, 0.0), seconds)

    def usual(self, id: int) -> float:
        """How long calls of the node's task took, as far as this run has seen: its hits, what it ran, and an earlier
        result of this very node."""
        if self._longest is None:
            self._longest = {}
            for other, step in list(self._planner.steps.items()):
                self.note(other, getattr(step.answer, "seconds", None))
        return self._longest.get(self._graph[id].entry.task.identity, 0.0)
