"""Constants and closure variables that change while a flow runs: no result lies under the key of another value."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock import INPUTS, TASK_CODE, TASK_SOURCE, flow, task
from penstock.errors import DigestError
from penstock.graph.constants.code_witness import CodeWitness

LEVEL = 0
COUNT = 0
POLICIES = [INPUTS, INPUTS + TASK_SOURCE, INPUTS + TASK_CODE]


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(f"{__name__}.LEVEL", 0)
    monkeypatch.setattr(f"{__name__}.COUNT", 0)


@pytest.mark.parametrize("policy", POLICIES, ids=str)
@pytest.mark.parametrize("runner", ["threads", pytest.param("processes?workers=1", marks=pytest.mark.slow)])
def test_tasks_that_close_over_a_loop_variable_store_nothing_under_the_key_of_its_earlier_value(
    monkeypatch: pytest.MonkeyPatch, policy: Any, runner: str
) -> None:
    monkeypatch.setenv("PENSTOCK_RUNNER", runner)

    @flow
    def late(numbers: list[int]) -> list[int]:
        found = []
        for number in numbers:

            @task(cache_policy=policy)
            def adding(x: int) -> int:
                return x + number  # noqa: B023 (this is under test)

            found.append(adding(1))
        return found

    with pytest.raises(DigestError, match="adding changed after the call"):
        late([0, 10, 20])
    assert [late([number])[0] for number in (0, 10, 20, 0)] == [1, 11, 21, 1]


@task(cache_policy=INPUTS + TASK_CODE)
def leveled(x: int) -> int:
    return helped(x)


def helped(x: int) -> int:
    return x + LEVEL


@flow
def sets_between_calls(levels: list[int]) -> list[int]:
    global LEVEL
    found = []
    for level in levels:
        LEVEL = level
        found.append(leveled(1).result())
    return found


@flow
def sets_after_the_call(level: int) -> int:
    global LEVEL
    found = leveled(1)
    LEVEL = level
    return found


def test_a_call_after_a_constant_changed_has_another_key() -> None:
    assert sets_between_calls([0, 10, 0, 20]) == [1, 11, 1, 21]
    assert sets_between_calls([20, 0]) == [21, 1]


def test_a_call_whose_constant_changes_before_it_runs_fails() -> None:
    with pytest.raises(DigestError, match="leveled changed after the call"):
        sets_after_the_call(5)
    assert sets_after_the_call(5) == 6


@task(cache_policy=INPUTS + TASK_CODE)
def slow(x: int, folder: Path) -> int:
    (folder / "begun").touch()
    while not (folder / "changed").exists():
        time.sleep(0.01)
    return x + LEVEL


@task
def begun(folder: Path) -> None:
    while not (folder / "begun").exists():
        time.sleep(0.01)


@flow
def changes_what_runs(folder: Path, level: int) -> int:
    global LEVEL
    found = slow(1, folder)
    begun(folder).wait()
    LEVEL = level
    (folder / "changed").touch()
    return found


def test_a_result_whose_constant_the_flow_changed_while_it_was_made_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(DigestError, match="slow changed after the call"):
        changes_what_runs(tmp_path, 9)
    globals()["LEVEL"] = 0
    assert changes_what_runs(tmp_path, 0) == 1


def test_an_equal_value_in_another_object_is_no_change() -> None:
    big = 10**30

    @task(cache_policy=INPUTS)
    def adding(x: int) -> int:
        return x + big

    @flow
    def twice() -> list[int]:
        nonlocal big
        found = [adding(1)]
        big = int("1" + "0" * 30)
        return [*found, adding(2)]

    assert [int(each) for each in twice()] == [10**30 + 1, 10**30 + 2]


@task(cache_policy=INPUTS + TASK_CODE)
def counting(x: int) -> int:
    global COUNT
    COUNT += 1
    return x


def test_a_task_may_count_its_calls() -> None:
    assert [int(each) for each in flow(lambda: [counting(x) for x in range(5)])()] == [0, 1, 2, 3, 4]


def _witness(fn: Callable[..., Any], said: list[int], *, code: bool = True) -> CodeWitness:
    return CodeWitness(fn, {"task_code" if code else "task_source": "0"}, lambda: {"task_code": str(said[0])})


def test_constants_are_found_behind_partials_methods_and_decorators() -> None:
    class Held:
        def add(self, x: int) -> int:
            return x + LEVEL

    @functools.wraps(helped)
    def wrapper(x: int) -> int:
        return helped(x)

    for fn in (functools.partial(helped, 1), Held().add, wrapper, lambda: wrapper(1)):
        globals()["LEVEL"] = 0
        witness = _witness(fn, [1])
        assert not witness.changed()
        globals()["LEVEL"] = 7
        assert witness.changed(), fn


def test_global_names_do_not_count_without_task_code() -> None:
    witness = _witness(helped, [1], code=False)
    globals()["LEVEL"] = 7
    assert not witness.changed()


def test_a_closure_variable_that_gets_its_value_later_has_changed() -> None:
    def reads() -> int:
        return later

    witness = _witness(reads, [1])
    later = 1
    assert reads() == 1
    assert witness.changed()


OPTIONS: dict[str, list[int]] = {"a": []}


class Rated:
    rate = 1


@task(cache_policy=INPUTS + TASK_CODE)
def reading(x: int) -> Any:
    return helped(x), OPTIONS["a"], Rated.rate


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda patched: patched.setattr(f"{__name__}.LEVEL", 7), f"{__name__}.LEVEL"),
        (lambda patched: patched.setattr(Rated, "rate", 7), "Rated.rate"),
        (lambda patched: patched.setitem(OPTIONS, "a", [7]), f"{__name__}.OPTIONS"),
        (lambda patched: OPTIONS["a"].append(7), f"{__name__}.OPTIONS['a']"),
    ],
)
def test_the_error_names_the_constant_that_changed(
    change: Callable[[pytest.MonkeyPatch], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @flow
    def changing() -> Any:
        first = reading(1)
        change(monkeypatch)
        return first, reading(2)

    with pytest.raises(DigestError, match="reading changed after the call") as raised:
        changing()
    assert raised.value.where == name
    OPTIONS["a"].clear()


def test_the_error_names_the_closure_variables_that_changed() -> None:
    @flow
    def late() -> list[int]:
        found = []
        for number in range(2):
            for factor in range(2):

                @task(cache_policy=INPUTS + TASK_SOURCE)
                def both(x: int) -> int:
                    return x + number * factor  # noqa: B023 (this is under test)

                found.append(both(1))
        return found

    with pytest.raises(DigestError) as raised:
        late()
    assert raised.value.where == "closure variable factor, closure variable number"
