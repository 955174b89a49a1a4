"""Previews: tracing a flow function without running any task, for `flow.plan` and `flow.trace`."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Sequence
from typing import Any

from penstock.driver.effects.lookups import Lookups
from penstock.environments import Environment
from penstock.graph.arguments import fill_all, replace_futures
from penstock.graph.futures import Future
from penstock.graph.planning import Planner
from penstock.graph.plans import Plan
from penstock.graph.steps import Hit
from penstock.graph.tracing import FlowFrame, Trace, tracing
from penstock.storage.results.stored import StoredResult


class _NeedsValue(BaseException):
    """The flow function needs a value that only a run can provide. A BaseException, so that no `except` swallows it."""


class _Preview:
    """Returns the values of hits and stops at the first value that is not cached (penstock.graph.tracing.Values)."""

    def __init__(self, frame: FlowFrame, environment: Environment, *, look_up: bool) -> None:
        self.trace = Trace(self, frame)
        self.planner = Planner(self.trace.graph)
        self.stopped_at: str | None = None
        self._environment = environment
        self._look_up = look_up
        self._lookups = Lookups(self.trace.graph, environment.results, environment.clock)
        self._planned = 0
        self._brought: set[int] = set()

    def plan_all(self, *wanted: int) -> None:
        """Plan everything traced so far."""
        targets = [*self.trace.graph.outputs(self._planned, self.trace.held), *wanted]
        self._planned = len(self.trace.graph)
        if self._look_up:
            self._lookups.drive(self.planner, targets)

    def value(self, node: int, timeout: float | None) -> Any:
        found = self.trace.graph[node]
        if found.entry.task.derived:
            self.plan_all(node)
            value = found.entry.task.fn(**fill_all(found.arguments, lambda _, ref: self.value(ref.node, timeout)))
        else:
            value = self.stored(node).load()
        self._brought.add(node)
        return value

    def stored(self, node: int) -> StoredResult:
        self.plan_all(node)
        step = self.planner.steps.get(node)
        if step is None or step.runs or not isinstance(step.answer, Hit):
            self.stopped_at = f"{_place_in_user_code()} ({self.trace.graph[node].name})"
            raise _NeedsValue
        storage = self.trace.graph[node].entry.task.options.result_storage
        results = self._environment.results(storage)
        return StoredResult(results, results.whole(step.answer.record))

    def returned(self, value: Any) -> None:
        """Plan what the flow returned and all that is left, as a run does at its end."""
        futures: list[Future[Any]] = []
        replace_futures(value, futures.append)
        self.plan_all(*(future._node for future in futures if future._source is self.trace))

    def wait(self, node: int, timeout: float | None) -> None:
        """Plan what was called so far, as a run does. The flow goes on the same way whatever the node's result."""
        self.plan_all(node)

    def failure(self, nodes: Sequence[int]) -> BaseException | None:
        """Return None: nothing ran, so nothing failed."""
        return None

    def failed(self, node: int) -> bool:
        return False

    def settled(self, node: int) -> bool:
        return node in self._brought

    def released(self, node: int) -> None:
        self._brought.discard(node)


def preview(call: Callable[[], Any], frame: FlowFrame, environment: Environment, *, look_up: bool) -> Plan:
    """Call the flow function to trace its graph, continuing past sync points whose value is cached.

    Runs no task, but runs the flow function itself with everything it does outside of tasks.

    Args:
        call: Calls the flow function.
        frame: The flow's name, options and key context.
        environment: Opens the stores.
        look_up: Whether to look up keys. False only traces, up to the first sync point.
    """
    view = _Preview(frame, environment, look_up=look_up)
    try:
        with tracing(view.trace):
            value = call()
        view.returned(value)  # while its futures exist: a run fetches the values of all of them
    except _NeedsValue:
        view.plan_all()
    view.trace.graph.end()  # the plan keeps the graph, which would keep the planner
    view.trace.graph.stopped_at = view.stopped_at
    from penstock.explanations.explainer import Explainer  # only plans need it

    explains = Explainer(environment.results, environment.clock) if look_up else None
    return Plan(frame.name, view.trace.graph, view.planner.steps, view.planner.counters, view.stopped_at, explains)


def _place_in_user_code() -> str:
    """Return `file:line: text` of the innermost frame outside of Penstock."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "penstock":
        frame = frame.f_back
    name, line = frame.f_code.co_filename, frame.f_lineno
    text = linecache.getline(name, line).strip()
    return f"{name.rpartition('/')[2]}:{line}{': ' + text if text else ''}"
