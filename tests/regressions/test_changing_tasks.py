"""Constants that another task of the flow changes count for the calls made afterwards."""

from __future__ import annotations

import collections
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from penstock import INPUTS, TASK_CODE, Files, flow, task

CHANGING = """
from penstock import INPUTS, TASK_CODE, flow, task

CONFIG = {"x": 1}


@task
def configure(v):
    CONFIG["x"] = v


@task(cache_policy=INPUTS + TASK_CODE)
def read(n):
    return CONFIG["x"]


@flow
def changing():
    a = read(5)
    configure(9).result()
    return [a, read(5), read(6)]


@flow
def just(n):
    return read(n)


@flow
def asking():
    a = read(5).result()
    configure(9).result()
    return [a, read(5).result(), read(6).result()]
"""


def test_calls_after_another_task_has_changed_a_constant_have_its_new_value(
    project: Callable[..., ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    module: Any = project(changing=CHANGING)
    assert module.asking() == [1, 9, 9]
    module.CONFIG["x"] = 1
    assert [module.just(5), module.just(6)] == [1, 1]
    assert module.asking() == [1, 9, 9]


def test_a_chain_map_can_be_a_constant() -> None:
    chained = collections.ChainMap({}, {"a": 1})

    @task(cache_policy=INPUTS + TASK_CODE)
    def read() -> int:
        return chained["a"]

    assert read() == 1
    chained.maps[1]["a"] = 2
    assert read() == 2


@pytest.mark.slow
def test_a_subflow_with_a_future_as_parameter_reads_files_on_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_RUNNER", "processes?workers=1")
    data = tmp_path / "data.txt"
    data.write_text("text")

    @task
    def one() -> int:
        return 1

    @task(cache_policy=INPUTS + Files(parameter="path"))
    def read(path: str, n: int) -> str:
        return Path(path).read_text()

    @flow
    def inner(n: Any) -> Any:
        return read(str(data), n)

    @flow
    def outer() -> Any:
        return inner(one())

    assert outer() == "text"
