"""What a program changes between two flows of one process, behind aliases and wrappers, or by deleting it, counts."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest

from penstock import INPUTS, TASK_CODE, Task, flow, task

T = TypeVar("T")


class Box(Generic[T]):
    RATE = 1

    def scaled(self) -> int:
        return self.RATE * 2


class Base:
    def number(self) -> int:
        return 1


class Special(Base):
    def number(self) -> int:
        return 2


def times(number: int, factor: int = 1) -> int:
    return number * factor


def wrapped(function: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(function)
    def called(*args: Any) -> int:
        return function(*args)

    return called


@dataclasses.dataclass
class Scale:
    factor: int

    @wrapped
    def times(self, number: int) -> int:
        return number * self.factor


IntBox = Box[int]
twice = functools.wraps(times)(functools.partial(times, factor=2))
scale = Scale(2)
scaled = scale.times


@task(cache_policy=INPUTS + TASK_CODE)
def of_alias() -> int:
    return IntBox().scaled() + IntBox.RATE


@task(cache_policy=INPUTS + TASK_CODE)
def of_partial() -> int:
    return twice(3)


@task(cache_policy=INPUTS + TASK_CODE)
def of_method() -> int:
    return scaled(3)


@task(cache_policy=INPUTS + TASK_CODE)
def of_class() -> int:
    return Special().number()


CHANGES: dict[str, tuple[Task[Any, Any], Callable[[pytest.MonkeyPatch], None]]] = {
    "an attribute of a class behind an alias": (of_alias, lambda patch: patch.setattr(Box, "RATE", 5)),
    "a method of a class behind an alias": (of_alias, lambda patch: patch.setattr(Box, "scaled", lambda self: 70)),
    "an argument of a wrapping partial": (of_partial, lambda patch: patch.setitem(twice.keywords, "factor", 5)),  # type: ignore[attr-defined]
    "the object of a decorated method": (of_method, lambda patch: patch.setattr(scale, "factor", 5)),
    "a deleted method": (of_class, lambda patch: patch.delattr(Special, "number")),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_changes_between_two_flows_is_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    used, change = CHANGES[what]

    @flow
    def using() -> Any:
        return used()

    before = using()
    change(monkeypatch)
    assert using() == used.fn() != before
