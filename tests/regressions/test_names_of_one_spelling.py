"""Settings that a task reads count, though it modifies something else of the same name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROGRAM = """
from dataclasses import dataclass

from penstock import INPUTS, TASK_CODE, flow, task


@dataclass
class Settings:
    rate: int = 1


@dataclass
class Result:
    rate: int = 0


class Reader:
    def load(self, x):
        return x


settings = Settings()


@task
def update(rate):
    settings.rate = rate


def load(rate):
    settings.rate = rate


@task
def by_helper(rate):
    load(rate)


@task
def by_name(rate):
    for name, value in {"rate": rate}.items():
        setattr(settings, name, value)


@task
def by_dict(rate):
    vars(settings).update({"rate": rate})


@task
def by_item(rate):
    for name in ("rate",):
        settings.__dict__[name] = rate


@task
def by_text(rate):
    exec(f"settings.rate = {rate}", globals())


@task(cache_policy=INPUTS + TASK_CODE)
def with_a_method_of_a_dict(x):
    row = {}
    row.update(x=x)
    return settings.rate * row["x"]


@task(cache_policy=INPUTS + TASK_CODE)
def with_a_method_of_its_own(x):
    return settings.rate * Reader().load(x)


@task(cache_policy=INPUTS + TASK_CODE)
def with_an_attribute(x):
    result = Result()
    result.rate = settings.rate * x
    return result.rate


@flow
def changing(called, by):
    found = []
    for rate in (1, 2, 3, 2):
        by(rate).result()
        found.append(called(10).result())
    return found


@flow
def one(called):
    return called(10)
"""
TASKS = ("with_a_method_of_a_dict", "with_a_method_of_its_own", "with_an_attribute")


@pytest.mark.parametrize("how", ["update", "by_helper", "by_name", "by_dict", "by_item", "by_text"])
@pytest.mark.parametrize("name", TASKS)
def test_a_setting_counts_though_the_task_has_something_of_the_same_name(
    project: Callable[..., ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, how: str
) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    module: Any = project(one_spelling=PROGRAM)
    called, by = getattr(module, name), getattr(module, how)
    assert module.changing(called, by) == [10, 20, 30, 20]
    for rate in (1, 2, 3):
        module.settings.rate = rate
        assert module.one(called) == rate * 10
    again: Any = project(one_spelling=PROGRAM)
    assert again.one(getattr(again, name)) == 10
