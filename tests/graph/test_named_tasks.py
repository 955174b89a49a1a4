"""The tasks that a flow may call later are found by the names in its code."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from penstock import flow, task
from penstock.graph.constants.named_tasks import tasks_named_in


@task
def plain() -> int:
    return 1


class Holder:
    @task
    def method(self) -> int:
        return 1

    def calling(self) -> int:
        return plain()


HOLDER = Holder()
TABLE = {"plain": [(plain, 1)]}


def helper() -> int:
    return plain()


@flow
def inner() -> int:
    return plain()


def by_name() -> int:
    return plain()


def by_helper() -> int:
    return helper()


def by_subflow() -> int:
    return inner()


def by_object() -> int:
    return HOLDER.calling()


def by_table() -> Any:
    return TABLE


def by_decorator() -> Any:
    return wrapped()


@functools.lru_cache
def wrapped() -> int:
    return plain()


def by_closure() -> Callable[[], int]:
    own = plain
    return lambda: own()


WAYS: list[Any] = [
    by_name, by_helper, by_subflow, by_object, by_table, by_decorator, by_closure(), functools.partial(by_name),
]  # fmt: skip


@pytest.mark.parametrize("fn", WAYS, ids=range(len(WAYS)))
def test_a_task_is_found(fn: Any) -> None:
    assert plain.definition in list(tasks_named_in(fn))  # type: ignore[attr-defined]


def test_a_task_method_is_found_in_its_class() -> None:
    assert [each.name for each in tasks_named_in(lambda: Holder)] == ["method", "plain"]


def test_what_a_task_calls_is_not_searched() -> None:
    @task
    def outer() -> int:
        return plain()

    assert [each.name for each in tasks_named_in(lambda: outer)] == ["outer"]
