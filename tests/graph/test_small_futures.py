"""Small promises of futures: what asks them for their value, and what they refuse."""

from __future__ import annotations

import importlib
import types
from typing import Any

import pytest

from penstock import flow, task, wait
from penstock.errors import TracingError
from penstock.objects.places import place_of


@task
def given(value: Any) -> Any:
    return value


def in_flow(use: Any, value: Any) -> Any:
    @flow
    def uses() -> Any:
        return use(given(value))

    return uses()


def test_private_names_of_a_future_can_be_neither_read_nor_set() -> None:
    def sets(future: Any) -> None:
        future._hidden = 1

    def reads(future: Any) -> Any:
        return future._hidden

    for use in (sets, reads):
        with pytest.raises(AttributeError, match="_hidden"):
            in_flow(use, [1])


def test_changing_a_future_is_refused_in_every_way() -> None:
    def sets_item(future: Any) -> None:
        future[0] = 1

    def deletes_item(future: Any) -> None:
        del future[0]

    def sets(future: Any) -> None:
        future.name = 1

    def deletes(future: Any) -> None:
        del future.name

    for use in (sets_item, deletes_item, sets, deletes):
        with pytest.raises(TracingError, match="the change would be lost"):
            in_flow(use, [1])


def test_calling_a_value_that_is_no_function_says_so() -> None:
    with pytest.raises(TypeError, match="its value is not callable"):
        in_flow(lambda future: future(1), 5)
    assert in_flow(lambda future: future([3, 1]), sorted) == [1, 3]


def test_the_sets_that_wait_returns_tell_what_they_hold() -> None:
    def waits(future: Any) -> tuple[str, str]:
        done, waiting = wait([future])
        return repr(done), repr(waiting)

    done, waiting = in_flow(waits, 1)
    assert done.startswith("Futures([")
    assert "given" in done
    assert waiting == "Futures([])"


@pytest.mark.needs("numpy")
def test_functions_of_numpy_read_futures_and_never_write_into_them() -> None:
    np = importlib.import_module("numpy")
    assert in_flow(lambda future: np.concatenate([future, [3.0]]).tolist(), np.array([1.0, 2.0])) == [1.0, 2.0, 3.0]
    for write in (
        lambda future: np.add(1, 2, out=future),
        lambda future: np.cumsum(np.arange(3), out=future),
    ):
        with pytest.raises(TracingError, match=r"of numpy's (add|cumsum) was written"):
            in_flow(write, np.zeros(3))


@pytest.mark.needs("pyarrow")
def test_table_libraries_read_the_table_behind_a_future() -> None:
    pa = importlib.import_module("pyarrow")
    table = pa.table({"a": [1, 2]})
    assert in_flow(lambda future: pa.table(future).equals(table), table) is True
    assert not in_flow(lambda future: hasattr(future, "__arrow_c_stream__"), 5)


def test_what_is_in_a_namespace_is_found_by_its_attribute_and_what_is_behind_a_view_without_one() -> None:
    wanted = object()
    assert place_of(types.SimpleNamespace(held=[wanted]), lambda part: part is wanted) == ".held[0]"
    assert place_of({"a": wanted}.values(), lambda part: part is wanted) == "{…}['a']"
