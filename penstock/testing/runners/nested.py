"""Tests of runners: tasks that call tasks and flows, which run inside their calls."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.errors import TracingError
from penstock.flows.decorator import flow
from penstock.graph.policies import INPUTS, RUN_ID, TASK_CODE, TASK_SOURCE, IsolationLevel
from penstock.limits.tables import set_limit
from penstock.runtime import flow_run
from penstock.storage import open_store
from penstock.tasks import task
from penstock.testing.runners.support import RunnerBench
from penstock.testing.runners.tasks import mark

ONCE = INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE)
FACTOR = 10


def _scaled(x: int) -> int:
    return x * FACTOR


@task(cache_policy=INPUTS + TASK_CODE)
def scaled(log: str, x: int, more: int = 1) -> int:
    mark(log, "scaled")
    return _scaled(x) + more


@task(cache_policy=INPUTS + TASK_SOURCE)
def fibonacci(log: str, n: int, base: int = 2) -> int:
    mark(log, "fibonacci")
    return n if n < base else fibonacci(log, n - 1) + fibonacci(log, n - 2)


@task(cache_policy=ONCE)
def fibonacci_once(log: str, n: int) -> int:
    mark(log, f"once {n}")
    return n if n < 2 else fibonacci_once(log, n - 1) + fibonacci_once(log, n - 2)


@flow
def both(log: str, x: int) -> Any:
    return scaled(log, x), scaled(log, x, more=2)


@task
def calls_tasks_and_flows(log: str, x: int) -> list[Any]:
    low, high = both(log, x)
    return [scaled(log, x), low, high, fibonacci(log, 4)]


@task(cache_policy=ONCE)
def asks_for_itself(log: str, x: int) -> Any:
    mark(log, "asks_for_itself")
    return asks_for_itself(log, x)


@task(cache_policy=INPUTS + RUN_ID)
def of_the_run(log: str, x: int) -> str:
    mark(log, "of_the_run")
    return str(flow_run.id)


@task
def asks_for_the_run(log: str, x: int) -> tuple[str, str]:
    return str(flow_run.id), of_the_run(log, x % 2)


@task(tags=["narrow"])
def narrow(log: str, x: int) -> int:
    mark(log, "narrow")
    return x + 1


@task(tags=["narrow"])
def narrow_twice(log: str, x: int) -> int:
    return narrow(log, narrow(log, x))


@task
def wide(log: str, x: int) -> int:
    return narrow(log, x)


class NestedWorkTests(RunnerBench):
    """Nested work is looked up, locked and published as usual, and never waits for the call around it."""

    def test_tasks_and_flows_can_run_inside_a_task(self) -> None:
        log = self.log
        assert self.value(lambda: [calls_tasks_and_flows(log, 1), fibonacci(log, 5)]) == [[11, 11, 12, 3], 5]
        before = self.executions()
        assert before["scaled"] == 2
        assert self.value(lambda: [calls_tasks_and_flows(log, 1), fibonacci(log, 5)]) == [[11, 11, 12, 3], 5]
        assert self.executions() == before

    def test_nested_results_equal_those_of_a_flow(self) -> None:
        log = self.log
        assert self.value(lambda: [scaled(log, 1), fibonacci(log, 4)]) == [11, 3]
        before = self.executions()
        assert self.value(lambda: calls_tasks_and_flows(log, 1)) == [11, 11, 12, 3]
        assert self.executions() == {**before, "scaled": before["scaled"] + 1}

    @pytest.mark.parametrize("workers", [1, 2])
    def test_a_nested_call_runs_under_the_lock_of_its_run(self, workers: int) -> None:
        log = self.log
        numbers = [7, 6, 5, 4, 3]
        assert self.value(lambda: [fibonacci_once(log, n) for n in numbers], workers=workers) == [13, 8, 5, 3, 2]
        if workers == 1 and self.lends_workers:  # else there may be others
            assert self.executions() == {f"once {n}": 1 for n in range(8)}

    def test_a_call_for_its_own_key_fails_with_a_clear_error(self) -> None:
        log = self.log
        with pytest.raises(TracingError, match="would wait for itself"):
            self.value(lambda: asks_for_itself(log, 1))
        assert self.executions() == {"asks_for_itself": 1}

    def test_nested_calls_belong_to_the_outer_run(self) -> None:
        log = self.log
        # One after the other: at the same time two of them may compute one key twice.
        run = self.run(lambda: [asks_for_the_run.submit(log, x).result() for x in range(4)], workers=1)
        assert run.result() == [(run.id, run.id)] * 4
        assert self.executions() == {"of_the_run": 2}

    def test_a_tagged_nested_call_runs_under_the_permit_of_the_outer_call(self) -> None:
        log = self.log
        set_limit(open_store(self.settings.store), "narrow", 1)
        assert self.value(lambda: [narrow_twice(log, x) for x in range(3)]) == [2, 3, 4]
        assert self.executions() == {"narrow": 6}

    def test_a_nested_call_that_waits_lends_its_worker_out(self) -> None:
        if not self.lends_workers:
            pytest.skip("it waits for a minute and fails then")
        log = self.log
        set_limit(open_store(self.settings.store), "narrow", 1)
        assert self.value(lambda: [f(log, x) for x in range(3) for f in (wide, narrow)], workers=1) == [
            1,
            1,
            2,
            2,
            3,
            3,
        ]
