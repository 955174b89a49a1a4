"""The history of a run: which results belong together, how often values changed, and how long calls took."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from penstock.graph.graphs import Graph
from penstock.graph.planning import Planner
from penstock.storage.records.records import ResultRecord
from penstock.worker.messages import cohort_of, new_cohort


class Cohorts:
    """Marks the results of one run with a cohort: results of one cohort belong together."""

    def __init__(self, graph: Graph, run_id: str) -> None:
        self._graph = graph
        self._run_id = run_id
        # Unique among all attempts ever made, without requesting randomness from the system 10 000 times.
        self._now = new_cohort()
        self._all = {self._now}
        self._attempts = itertools.count()

    def begin_anew(self) -> None:
        """Start a new cohort, because values of the run changed and later results may not belong to earlier ones."""
        self._now = new_cohort()
        self._all.add(self._now)

    def now(self) -> str:
        """Return the cohort for the results that the run computes or finds next."""
        if self._graph.ambiguous:
            self.begin_anew()  # two nodes with one recipe may have two results, of which the store keeps one
        return self._now

    def attempt_id(self) -> str:
        """Return an id that is unique among all attempts ever made and begins with the cohort."""
        return f"{self.now()}{next(self._attempts):x}"

    def made_earlier(self, record: ResultRecord) -> bool:
        """Return whether an earlier attempt of this run computed a result, which need not be refreshed again."""
        made_now = cohort_of(record.attempt) in self._all
        return bool(self._run_id) and record.producer.run_id == self._run_id and not made_now


class Ages:
    """How often values were recomputed and changed, which tells whether keys and values made of them are outdated."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.remade: dict[int, int] = {}
        """How many times values were lost and recomputed, by node."""
        self.changes: dict[int, int] = {}
        """How many times values changed after others had used them, by node."""

    @property
    def unsettled(self) -> bool:
        """Whether any value was recomputed or has changed, so that nodes may be decided again."""
        return bool(self.remade or self.changes)

    def recomputed(self, id: int) -> None:
        """Count that a value is recomputed."""
        self.remade[id] = self.remade.get(id, 0) + 1

    def changed(self, ids: Iterable[int]) -> None:
        """Count that values changed."""
        for id in ids:
            self.changes[id] = self.changes.get(id, 0) + 1

    def of_inputs(self, id: int) -> int:
        """Return how often inputs of the node were recomputed or changed. If it is another number, its key may be."""
        if not self.unsettled:
            return 0
        return sum(self.remade.get(d, 0) + self.changes.get(d, 0) for d in self._graph.nodes[id].deps)

    def changes_of_inputs(self, id: int) -> int:
        """Return how often inputs of the node changed. Values made at different numbers have different inputs."""
        return sum(self.changes.get(d, 0) for d in self._graph.nodes[id].deps) if self.changes else 0


class Durations:
    """The longest duration of calls of each task."""

    def __init__(self, graph: Graph, planner: Planner) -> None:
        self._graph = graph
        self._planner = planner
        self._longest: dict[str, float] | None = None  # computed on first use

    def note(self, id: int, seconds: float | None) -> None:
        """Record the duration of a call of the node's task, if it is known."""
        if self._longest is not None and seconds is not None:
            task = self._graph[id].entry.task.identity
            self._longest[task] = max(self._longest.get(task, 0.0), seconds)

    def usual(self, id: int) -> float:
        """Return the longest duration of calls of the node's task among this run's hits and executions, and an earlier
        result of this node."""
        if self._longest is None:
            self._longest = {}
            for other, step in list(self._planner.steps.items()):
                self.note(other, getattr(step.answer, "seconds", None))
        return self._longest.get(self._graph[id].entry.task.identity, 0.0)
