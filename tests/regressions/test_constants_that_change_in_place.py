"""Values that change in place while a flow runs: no result of a task that reads them lies under another one's key."""

from __future__ import annotations

import collections
import functools
import operator
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from penstock import INPUTS, TASK_CODE, TASK_SOURCE, flow, task
from penstock.errors import DigestError

CODE = INPUTS + TASK_CODE
SETTINGS: dict[str, Any] = {"level": 0, "deep": {"rows": [0]}}
ROWS = [0]
NAMES = {0}
WINDOW = collections.deque([0])
BYTES = bytearray(b"\0")
LATE: dict[str, int] = {}
LIMITS = types.SimpleNamespace(level=0)
RESULTS: dict[int, int] = {}
CALLS = {"count": 0}
LOG: list[int] = []


@dataclass
class Model:
    level: int = 0
    offset = 0

    def add(self, x: int) -> int:
        return x + self.level

    def shift(self, x: int) -> int:
        return x + type(self).offset

    def train(self, level: int) -> None:
        self.level = level

    @task(cache_policy=CODE)
    def of_own(self, x: int) -> int:
        return x + self.own_offset

    @property
    def own_offset(self) -> int:
        return self.offset


@dataclass
class Remembering:
    """Fills itself while it is used."""

    seen: list[int]
    calls: int = 0

    def add(self, x: int) -> int:
        self.calls += 1
        self.seen.append(x)
        return x


class Registry(dict[str, int]):
    def remember(self, x: int) -> None:
        self["last"] = x


MODEL = Model()
REMEMBERING = Remembering([])
REGISTRY = Registry()


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    for change in CHANGES.values():
        change(0)
    LATE.clear()
    yield
    for kept in (RESULTS, LOG, REMEMBERING.seen, REGISTRY):
        kept.clear()  # type: ignore[attr-defined]
    CALLS["count"] = 0


def helped(x: int) -> int:
    return x + int(helped.level)  # type: ignore[attr-defined]


def halved(x: int, by: list[int] = ROWS) -> int:
    return x + by[0]


def other(x: int) -> int:
    return x + 10


@task(cache_policy=CODE)
def of_dict(x: int) -> int:
    return x + int(SETTINGS["level"])


@task(cache_policy=CODE)
def of_nested(x: int) -> int:
    return x + int(SETTINGS["deep"]["rows"][0])


@task(cache_policy=CODE)
def of_list(x: int) -> int:
    return x + ROWS[0]


@task(cache_policy=CODE)
def of_set(x: int) -> int:
    return x + sum(NAMES)


@task(cache_policy=CODE)
def of_deque(x: int) -> int:
    return x + WINDOW[0]


@task(cache_policy=CODE)
def of_bytes(x: int) -> int:
    return x + BYTES[0]


@task(cache_policy=CODE)
def of_empty(x: int) -> int:
    return x + LATE.get("level", 0)


@task(cache_policy=CODE)
def of_namespace(x: int) -> int:
    return x + int(LIMITS.level)


@task(cache_policy=CODE)
def of_object(x: int) -> int:
    return MODEL.add(x)


@task(cache_policy=CODE)
def of_class(x: int) -> int:
    return x + Model.offset


@task(cache_policy=CODE)
def of_function(x: int) -> int:
    return helped(x)


@task(cache_policy=CODE)
def of_default(x: int) -> int:
    return halved(x)


def _set_dict(level: int) -> None:
    SETTINGS["level"] = level


def _set_nested(level: int) -> None:
    SETTINGS["deep"]["rows"][0] = level


def _set_list(level: int) -> None:
    ROWS[0] = level


def _set_set(level: int) -> None:
    NAMES.clear()
    NAMES.add(level)


def _set_deque(level: int) -> None:
    WINDOW[0] = level


def _set_bytes(level: int) -> None:
    BYTES[0] = level


def _set_empty(level: int) -> None:
    LATE["level"] = level


def _set_namespace(level: int) -> None:
    LIMITS.level = level


def _set_object(level: int) -> None:
    MODEL.train(level)


def _set_class(level: int) -> None:
    Model.offset = level


def _set_function(level: int) -> None:
    helped.level = level  # type: ignore[attr-defined]


CHANGES: dict[Any, Callable[[int], None]] = {
    of_dict: _set_dict,
    of_nested: _set_nested,
    of_list: _set_list,
    of_set: _set_set,
    of_deque: _set_deque,
    of_bytes: _set_bytes,
    of_empty: _set_empty,
    of_namespace: _set_namespace,
    of_object: _set_object,
    of_class: _set_class,
    MODEL.of_own: _set_class,
    of_function: _set_function,
    of_default: _set_list,
}
_each = pytest.mark.parametrize(
    ("called", "change"), [pytest.param(*pair, id=pair[0].name) for pair in CHANGES.items()]
)


@_each
def test_a_call_after_the_change_has_another_key(called: Any, change: Callable[[int], None]) -> None:
    @flow
    def changing(levels: list[int]) -> list[int]:
        found = []
        for level in levels:
            change(level)
            found.append(called(1).result())
        return found

    assert changing([0, 10, 0, 20]) == [1, 11, 1, 21]
    assert changing([20, 10, 0]) == [21, 11, 1]


@_each
def test_a_call_whose_constant_changes_before_it_runs_fails(called: Any, change: Callable[[int], None]) -> None:
    @flow
    def late(level: int) -> int:
        found: int = called(1)
        change(level)
        return found

    with pytest.raises(DigestError, match=f"{called.name} changed after the call"):
        late(5)
    assert late(5) == 6
    change(0)
    assert flow(lambda: called(1))() == 1


def test_a_changed_attribute_of_an_annotated_class_counts() -> None:
    @task(cache_policy=CODE)
    def of_annotated(x: int, model: Model) -> int:
        return x + model.offset

    @flow
    def changing(levels: list[int]) -> list[int]:
        found = []
        for level in levels:
            Model.offset = level
            found.append(of_annotated(1, Model()).result())
        return found

    assert changing([0, 10, 0]) == [1, 11, 1]

    @flow
    def late(level: int) -> int:
        found: int = of_annotated(2, Model())
        Model.offset = level
        return found

    with pytest.raises(DigestError, match="of_annotated changed after the call"):
        late(5)


@pytest.mark.parametrize("policy", [INPUTS, INPUTS + TASK_SOURCE, CODE], ids=str)
def test_the_object_of_a_bound_method_and_the_arguments_of_a_partial_are_compared(policy: Any) -> None:
    def add(held: dict[str, int], x: int) -> int:
        return x + held["level"]

    @flow
    def late(level: int, *, bound: bool) -> int:
        model, held = Model(0), {"level": 0}
        called = task(cache_policy=policy)(model.add if bound else functools.partial(add, held))
        found: int = called(1)
        model.level = held["level"] = level
        return found

    for bound in (True, False):
        with pytest.raises(DigestError, match="changed after the call"):
            late(5, bound=bound)
        assert late(0, bound=bound) == 1


def test_a_constant_that_is_patched_for_one_call_counts_in_the_key_of_this_call() -> None:
    @flow
    def patched() -> list[int]:
        found = [of_class(1).result()]
        with mock.patch.object(Model, "offset", 4):
            found.append(of_class(1).result())
        return [*found, of_class(1).result()]

    assert patched() == [1, 5, 1]


def test_a_function_that_is_patched_for_one_call_counts_in_the_key_of_this_call() -> None:
    @flow
    def patched() -> list[int]:
        found = [of_function(1).result()]
        with mock.patch(f"{__name__}.helped", other):
            found.append(of_function(1).result())
        return [*found, of_function(1).result()]

    assert patched() == [1, 11, 1]


def leveled(x: int) -> int:
    return x + int(getattr(leveled, "level", 0))


def test_an_attribute_that_a_function_gets_later_counts() -> None:
    @task(cache_policy=CODE)
    def of_attribute(x: int) -> int:
        return leveled(x)

    @flow
    def changing() -> list[int]:
        before = of_attribute(1).result()
        leveled.level = 10  # type: ignore[attr-defined]
        return [before, of_attribute(1).result()]

    assert changing() == [1, 11]


@task(cache_policy=CODE)
def remembers(x: int) -> int:
    if x not in RESULTS:
        RESULTS[x] = x
    return RESULTS[x]


@task(cache_policy=CODE)
def counts(x: int) -> int:
    _count(CALLS)
    return x


def _count(calls: dict[str, int]) -> None:
    held = calls
    held["count"] += 1


@task(cache_policy=CODE)
def logs(x: int) -> int:
    rows = LOG
    rows.append(x)
    return x


@task(cache_policy=CODE)
def asks_an_object(x: int) -> int:
    return REMEMBERING.add(x)


@task(cache_policy=CODE)
def registers(x: int) -> int:
    REGISTRY.remember(x)
    return x


@pytest.mark.parametrize("filling", [remembers, counts, logs, asks_an_object, registers], ids=lambda each: each.name)
def test_what_a_task_itself_fills_is_no_constant(filling: Any) -> None:
    @flow
    def filled() -> list[int]:
        found = [filling(number) for number in range(3)]
        return [int(each) for each in found] + [filling(7).result()]

    assert filled() == [0, 1, 2, 7]


@pytest.mark.needs("pandas")
def test_small_tables_and_arrays_are_compared_by_content() -> None:
    import numpy as np
    import pandas as pd

    table, array = pd.DataFrame({"level": [0, 1]}), np.zeros(2, dtype=np.int64)

    @task(cache_policy=CODE)
    def of_both(x: int) -> int:
        return x + int(table["level"].iloc[0]) + int(array[0])

    @flow
    def changing() -> list[int]:
        found = [of_both(1).result()]
        table.loc[0, "level"] = 10
        found.append(of_both(1).result())
        array[0] = 100
        return [*found, of_both(1).result()]

    assert changing() == [1, 11, 111]


def remembering(x: int, memo: dict[int, int] = {}) -> int:  # noqa: B006 (this is under test)
    return memo.setdefault(x, x)


def counted(fn: Callable[[int], int]) -> Callable[[int], int]:
    @functools.wraps(fn)
    def wrapper(x: int) -> int:
        wrapper.calls += 1  # type: ignore[attr-defined]
        return fn(x)

    wrapper.calls = 0  # type: ignore[attr-defined]
    return wrapper


@counted
def wrapped(x: int) -> int:
    return x


@task(cache_policy=CODE)
def remembers_in_a_default(x: int) -> int:
    return remembering(x)


@task(cache_policy=CODE)
def counts_in_a_wrapper(x: int) -> int:
    return wrapped(x)


@task(cache_policy=CODE)
def fills_by_operator(x: int) -> int:
    operator.setitem(RESULTS, x, x)
    return x


@task(cache_policy=CODE)
def fills_unseen(x: int) -> int:
    functools.partial(RESULTS.setdefault, x)(x)
    return x


def test_what_a_task_fills_in_ways_that_its_syntax_does_not_show_is_no_constant_if_the_flow_waits() -> None:
    @flow
    def filled() -> list[int]:
        return [fills_unseen(number).result() for number in (0, 1, 2, 7)]

    assert filled() == [0, 1, 2, 7]
    assert filled() == [0, 1, 2, 7]


@pytest.mark.parametrize(
    "filling", [remembers_in_a_default, counts_in_a_wrapper, fills_by_operator], ids=lambda each: each.name
)
def test_what_a_task_fills_through_a_default_a_wrapper_or_an_operator_is_no_constant(filling: Any) -> None:
    @flow
    def filled() -> list[int]:
        found = [filling(number) for number in range(3)]
        return [int(each) for each in found] + [filling(7).result()]

    assert filled() == [0, 1, 2, 7]
    assert filled() == [0, 1, 2, 7]


@task
def sets(level: int) -> None:
    SETTINGS["level"] = level


def test_what_another_task_has_changed_makes_a_call_fail() -> None:
    @flow
    def sets_first(level: int) -> int:
        before = sets(level)
        return of_dict(1, wait_for=[before])

    with pytest.raises(DigestError, match="of_dict changed after the call"):
        sets_first(5)
    assert sets_first(5) == 6
    SETTINGS["level"] = 0
    assert flow(lambda: of_dict(1))() == 1


DEFAULTS = {"rate": 0}


@task(cache_policy=CODE)
def of_a_copy(x: int) -> int:
    parameters = DEFAULTS.copy()
    parameters["x"] = x
    return parameters["x"] + parameters["rate"]


def test_a_constant_that_the_task_copies_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    @flow
    def changing() -> list[int]:
        found = []
        for rate in (0, 10, 20):
            monkeypatch.setitem(DEFAULTS, "rate", rate)
            found.append(of_a_copy(1).result())
        return found

    assert changing() == [1, 11, 21]


WORDS = dict.fromkeys(range(5000), 0)


@task(cache_policy=CODE)
def of_many(x: int) -> int:
    return x + WORDS[0]


def test_large_constants_are_compared_once_between_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    @flow
    def changing(*, waits: bool) -> list[int]:
        found: list[Any] = []
        for level in (0, 10):
            monkeypatch.setitem(WORDS, 0, level)
            found.append(of_many(1).result() if waits else of_many(1))
        return found

    with pytest.raises(DigestError, match="of_many changed after the call"):
        changing(waits=False)
    assert changing(waits=True) == [1, 11]
