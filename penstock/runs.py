"""`Run`: the state, counts and results of one execution of a flow."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from penstock.driver.state.run_state import RunState
from penstock.environments import Environment, warn_of_unmatched
from penstock.graph.graphs import Entry, Graph
from penstock.graph.keys import KeyContext
from penstock.graph.steps import Status
from penstock.input_files import file_digest, file_stamp, matching_files
from penstock.storage.results.generations import Found, Unknown
from penstock.storage.results.store import ResultStore
from penstock.storage.results.stored import StoredResult

R = TypeVar("R")


@dataclass(eq=False)
class Run(Generic[R]):
    """One run of a flow, as `flow.run(...)` returns it."""

    id: str
    """Unique; ids sort by the time of the start (UTC)."""
    flow_name: str
    parameters: Mapping[str, Any]
    state: str = "running"
    """running, completed, failed, cancelled or crashed."""
    graph: Graph = field(default_factory=Graph)
    """The calls of the flow."""
    seconds: float = 0.0
    """The duration of the run."""
    counts: dict[str, int] = field(default_factory=dict)
    """The number of calls by result: hit, miss, pruned, bypass, executed, contended, retried, failed, not_run.

    Each call is one of hit, pruned, executed, failed and not_run. The last are calls whose input failed, and those of a
    run that ended before they were decided or had finished. Taking a part of a result is no call, and counts only if it
    fails.
    """
    stats: dict[str, Any] = field(default_factory=dict)
    """Costs of planning: the number of nodes, rounds and lookups."""
    error: BaseException | None = None
    """What made the run fail."""
    tasks: dict[str, dict[str, int]] = field(default_factory=dict)
    """`counts` by task name."""
    _value: Any = None
    _kept: dict[int, str] = field(default_factory=dict)
    """Cache keys of the results that it computed or reused, by node."""
    _environment: Environment | None = None

    def result(self, raise_on_failure: bool = True) -> R:
        """Return the value of the flow function.

        Args:
            raise_on_failure: False returns the exception of a failed run instead of raising it.

        Raises:
            BaseException: Whatever made the run fail.
        """
        __tracebackhide__ = True  # by pytest and IPython
        if self.error is not None:
            if raise_on_failure:
                raise self.error
            return cast(R, self.error)
        return cast(R, self._value)

    def stored(self, task: Any = None) -> list[StoredResult]:
        """Return the stored results of the run's calls, in the order of the calls, without loading them.

        These are the results that the run computed or reused, and those that it did not need because a result further
        down was there. They are read from the store now: results removed since are missing, refreshed ones are the
        new ones.

        Args:
            task: A task or its name. None selects all tasks.

        Raises:
            StoreError: The store cannot be read.
            SignatureRefused: A result's signature is missing or invalid.
        """
        found: list[tuple[int, StoredResult]] = []
        nodes: dict[Any, list[int]] = {}
        for node in sorted({*self._kept, *_above(self.graph, self._kept)}):
            if task is None or self._is_of(node, task):
                nodes.setdefault(self.graph[node].entry.task.options.result_storage, []).append(node)
        for storage, wanted in nodes.items():
            assert self._environment is not None  # set before any result is known
            results = self._environment.results(storage)
            keys = {node: self._kept[node] for node in wanted if node in self._kept}
            keys.update(self._pruned_keys(results, [node for node in wanted if node not in keys]))
            identities = [(self.graph[node].entry.task.identity, key) for node, key in keys.items()]
            for node, answer in zip(keys, results.look_up_many(identities), strict=True):
                if isinstance(answer, Unknown):
                    raise answer.error
                if isinstance(answer, Found) and answer.refused is not None:
                    raise answer.refused
                if isinstance(answer, Found):
                    found.append((node, StoredResult(results, answer.record)))
        return [stored for _, stored in sorted(found, key=lambda each: each[0])]

    def _pruned_keys(self, results: ResultStore, nodes: Sequence[int]) -> dict[int, str]:
        """Return the cache keys of nodes that the run did not need, as far as the graph or the store knows them."""
        pruned = [self.graph[node] for node in nodes]
        by_recipe = {n.id: n.recipe_key for n in pruned if n.cache_key is None and n.recipe_key is not None}
        entries = results.get_recipes(list(by_recipe.values())) if by_recipe else []
        known = {node: entry.key for node, entry in zip(by_recipe, entries, strict=True) if entry is not None}
        return {**known, **{n.id: n.cache_key for n in pruned if n.cache_key is not None}}

    def _is_of(self, node: int, task: Any) -> bool:
        found = self.graph[node]
        return found.name == task if isinstance(task, str) else found.entry.task.identity == task.task_key

    def by_task(self) -> dict[str, dict[str, int]]:
        """Return `counts` for each task name."""
        return self.tasks

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {what}" for what, n in self.counts.items() if n)
        return f"Run({self.id}, {self.flow_name}, {self.state}{': ' + counts if counts else ''})"


def tally(run: Run[Any], state: RunState) -> None:
    """Update the run's counts, results and statistics."""
    steps = state.planner.steps
    names = ("hit", "miss", "pruned", "bypass", "executed", "contended", "retried", "failed", "not_run")
    counts = dict.fromkeys(names, 0)
    alike: dict[tuple[Entry, str | None, str | None], int] = {}
    undecided = _undecided(run.graph, state) if run.state != "completed" else frozenset()
    for node in run.graph:
        step = steps.get(node.id)
        outcome: str | None = state.outcomes.get(node.id)
        if node.entry.task.derived and outcome != "failed":
            continue
        if node.id in undecided:
            what = None
        elif step is None:
            what = "pruned"
        elif outcome == "hit" or step.status is Status.HIT:
            what = "hit"
        elif step.status is Status.BYPASS or step.status is Status.PRUNED:
            what = str(step.status)
        else:
            what = "miss"
        if outcome is None and what not in ("hit", "pruned"):
            outcome = "not_run"
        kind = (node.entry, what, outcome)
        alike[kind] = alike.get(kind, 0) + 1
    for (entry, what, how), count in alike.items():
        task = run.tasks.setdefault(entry.task.name, dict.fromkeys(names, 0))
        for name in (what, how if how in ("executed", "failed", "not_run") else None):
            if name is not None:
                counts[name] += count
                task[name] += count
    counts["contended"], counts["retried"] = state.counts["contended"], state.counts["retried"]
    for id, result in state.results.items():
        if result.record is not None:
            run._kept[id] = result.record.key
    run.counts = counts
    planning = state.planner.counters
    run.stats = {"nodes": len(run.graph), "rounds": planning.rounds, "lookups": planning.lookups}


def _undecided(graph: Graph, state: RunState) -> frozenset[int]:
    """Return the nodes that a run has neither decided nor found unnecessary because of a value further down."""
    steps = state.planner.steps
    undecided: set[int] = set()
    unnecessary: set[int] = set()
    for node in reversed(graph.nodes):  # users of a node come after it
        step = steps.get(node.id)
        unknown = step is not None and step.status is Status.UNKNOWN and node.id not in state.outcomes
        if unknown or (step is None and node.id not in unnecessary):
            undecided.add(node.id)
        elif step is None or not step.runs:
            unnecessary.update(node.deps)
    return frozenset(undecided)


def _above(graph: Graph, nodes: Iterable[int]) -> set[int]:
    """Return the cached nodes from whose results those of the given ones are computed."""
    waiting, met = list(nodes), set(nodes)
    while waiting:
        above = set(graph[waiting.pop()].deps) - met
        met |= above
        waiting.extend(above)
    return {node for node in met if graph[node].cached}


def new_run_id() -> str:
    """Return a globally unique id; ids sort by time."""
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + os.urandom(4).hex()


def key_context(
    run_id: str, flow_name: str | None, parameters: Mapping[str, Any], salt: Callable[[], bytes] | None
) -> KeyContext:
    """Return the context in which the keys of a flow's tasks are computed."""
    return KeyContext(
        run_id=run_id,
        flow_parameters=parameters,
        flow_name=flow_name,
        file_digest=file_digest,
        expand=matching_files,
        stamp=file_stamp,
        unmatched=warn_of_unmatched,
        salt=salt,
    )
