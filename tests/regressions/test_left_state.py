"""What tasks have left in their own state does not change the keys of later runs in the same process."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import pytest

Project = Callable[..., types.ModuleType]

STATE = """
from penstock import INPUTS, TASK_CODE, flow, task

CACHE = {}
COUNT = 0
MODE = "slow"
RAN = []


def remembered(x):
    global COUNT
    COUNT += 1
    if x not in CACHE:
        CACHE[x] = f"{MODE} {x}"
    return CACHE[x]


@task(cache_policy=INPUTS + TASK_CODE)
def work(x):
    _ran(x)
    return remembered(x)


def _ran(x):
    RAN.append(x)


@task
def set_mode(mode):
    global MODE
    MODE = mode


@flow
def both(*xs):
    return [work(x) for x in xs]


@flow
def switching(mode, x):
    done = set_mode(mode)
    done.result()
    return work(x)
"""


@pytest.fixture
def module(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> types.ModuleType:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    return project(state=STATE)


def test_a_second_run_finds_the_results_of_the_first(module: Any) -> None:
    assert [module.both(1, 2), module.both(1, 2), module.both(2, 3)] == [["slow 1", "slow 2"]] * 2 + [
        ["slow 2", "slow 3"]
    ]
    assert sorted(module.RAN) == [1, 2, 3]


def test_a_task_called_by_itself_finds_its_results(module: Any) -> None:
    assert [module.work(1), module.work(2), module.work(1)] == ["slow 1", "slow 2", "slow 1"]
    assert module.RAN == [1, 2]


def test_what_the_user_changes_between_runs_counts(module: Any) -> None:
    module.both(1)
    module.MODE = "fast"
    module.CACHE.clear()
    assert module.both(1) == ["fast 1"]
    module.CACHE[1] = "planted"
    assert module.both(1) == ["planted"]


def test_what_another_task_changes_counts(module: Any) -> None:
    assert module.switching("slow", 1) == "slow 1"
    module.CACHE.clear()
    assert module.switching("fast", 1) == "fast 1"
    module.CACHE.clear()
    module.MODE = "slow"
    assert module.work(1) == "slow 1"


def test_a_flow_that_changes_the_state_itself_leaves_nothing(module: Any) -> None:
    from penstock import flow

    @flow
    def own() -> str:
        found = module.work(1).result()
        module.MODE = "fast"
        module.CACHE.clear()
        return found

    assert own() == "slow 1"
    assert module.work(1) == "fast 1"
