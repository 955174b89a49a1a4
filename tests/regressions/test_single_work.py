"""Equal keys in one run are computed once, even if a key is known only after a value is."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import INPUTS, RUN_ID, CachePolicy, flow, task
from penstock.runners import ProcessRunner, ThreadRunner
from penstock.runners.base import Runner

RUNNERS = [ThreadRunner(2), pytest.param(ProcessRunner(2), marks=pytest.mark.slow)]


@task
def plain(x: int) -> int:
    return x * 10


@task(cache_policy=INPUTS)
def doubled(x: int) -> int:
    return x * 2


def by_parity(context: Any, parameters: dict[str, Any]) -> str:
    return str(parameters["x"] % 2)


@task(cache_policy=CachePolicy.from_cache_key_fn(by_parity) + RUN_ID)
def parity(x: int) -> int:
    return x % 2


@flow
def equal_values() -> list[int]:
    return [doubled(plain(1)), doubled(plain(1)), doubled(10)]


@flow
def equal_answers() -> list[int]:
    return [parity(plain(1)), parity(plain(2)), parity(4)]


@pytest.mark.parametrize("runner", RUNNERS)
def test_equal_values_computed_in_a_run_are_used_once(runner: Runner) -> None:
    run = equal_values.with_options(runner=runner).run()
    assert run.result() == [20, 20, 20]
    assert run.by_task()["doubled"]["executed"] == 1


@pytest.mark.parametrize("runner", RUNNERS)
def test_key_functions_that_return_equal_keys_cause_one_execution(runner: Runner) -> None:
    run = equal_answers.with_options(runner=runner).run()
    assert run.result() == [0, 0, 0]
    assert run.by_task()["parity"]["executed"] == 1
