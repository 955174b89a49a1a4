"""Runs: a flow function traced, planned and brought to its end; what is known of it afterwards."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from penstock.environments import (
    Environment,
    expand_files,
)
from penstock.graph.graphs import Graph
from penstock.graph.keys import KeyContext
from penstock.input_files import file_digest
from penstock.storage.results.generations import Found, Unknown
from penstock.storage.results.stored import StoredResult

R = TypeVar("R")


@dataclass(eq=False)
class Run(Generic[R]):
    """One run of a flow, as `flow.run(...)` returns it."""

    id: str
    flow_name: str
    parameters: Mapping[str, Any]
    state: str = "running"
    """running, completed, failed, cancelled or crashed."""
    graph: Graph = field(default_factory=Graph)
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    """Nodes by what became of them: hit, miss, pruned, bypass, executed, contended, retried, failed."""
    stats: dict[str, Any] = field(default_factory=dict)
    """What it cost: nodes, rounds and look-ups of planning, round trips and bytes of the store."""
    error: BaseException | None = None
    tasks: dict[str, dict[str, int]] = field(default_factory=dict)
    _value: Any = None
    _kept: dict[Any, dict[int, str]] = field(default_factory=dict)
    """Cache keys of stored results by node, for each storage; None is the run's own."""
    _environment: Environment | None = None

    def result(self, raise_on_failure: bool = True) -> R:
        """What the flow function returned; raises what made the run fail."""
        __tracebackhide__ = True  # by pytest and IPython
        if self.error is not None:
            if raise_on_failure:
                raise self.error
            return cast(R, self.error)
        return cast(R, self._value)

    def stored(self, task: Any = None) -> list[StoredResult]:
        """The stored results that the run made or found, of one task (or of its name) or of all, in order of the calls.

        As they are in the store now: what was removed since is left out, and what was refreshed is the new one. A hit
        stands for what it was made from: results that nobody needed are not among them. Raises as
        `ResultStore.look_up`, and `SignatureRefused` for what must not be used.
        """
        found: list[tuple[int, StoredResult]] = []
        for storage, pairs in self._kept.items():
            assert self._environment is not None  # it says where they are kept
            wanted = {node: key for node, key in pairs.items() if task is None or self._is_of(node, task)}
            results = self._environment.results(storage)
            identities = [(self.graph[node].entry.task.identity, key) for node, key in wanted.items()]
            for node, answer in zip(wanted, results.look_up_many(identities), strict=True):
                if isinstance(answer, Unknown):
                    raise answer.error
                if isinstance(answer, Found) and answer.refused is not None:
                    raise answer.refused
                if isinstance(answer, Found):
                    found.append((node, StoredResult(results, answer.record)))
        return [stored for _, stored in sorted(found, key=lambda each: each[0])]

    def _is_of(self, node: int, task: Any) -> bool:
        found = self.graph[node]
        return found.name == task if isinstance(task, str) else found.entry.task.identity == task.task_key

    def by_task(self) -> dict[str, dict[str, int]]:
        """`counts` for each task name."""
        return self.tasks

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {what}" for what, n in self.counts.items() if n)
        return f"Run({self.id}, {self.flow_name}, {self.state}{': ' + counts if counts else ''})"


def new_run_id() -> str:
    """Sorts by time, unique everywhere."""
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + os.urandom(4).hex()


def key_context(
    run_id: str, flow_name: str | None, parameters: Mapping[str, Any], salt: Callable[[], bytes] | None
) -> KeyContext:
    """What the keys of a flow's tasks are read against."""
    return KeyContext(
        run_id=run_id,
        flow_parameters=parameters,
        flow_name=flow_name,
        file_digest=file_digest,
        expand=expand_files,
        salt=salt,
    )
