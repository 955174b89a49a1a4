"""Small promises of copies: what is shared because nothing can change it, and what is refused rather than shared."""

from __future__ import annotations

import dataclasses
import importlib
import pickle
from typing import Any

import pytest

from penstock.objects.copies import copy_as_far, immutable, own_copy
from penstock.objects.package_copies import CannotCopy


def _plain(x: int, step: int = 1) -> int:
    return x + step


def test_functions_without_state_are_shared_and_others_are_not_immutable() -> None:
    held = [1]

    def closes() -> list[int]:
        return held

    def defaults(into: list[int] = []) -> list[int]:  # noqa: B006 (that is the point)
        return into

    nested = (lambda x: x + 1, _plain, len)
    assert own_copy(nested) is nested
    assert immutable(nested)
    for fn in (closes, defaults, held.append):
        assert not immutable((fn,))
    copied = own_copy(closes)
    copied().append(2)
    assert (copied(), closes()) == ([1, 2], [1])


def test_the_parts_of_a_function_that_cannot_be_copied_are_told() -> None:
    held = [1]

    def closes() -> list[int]:
        return held

    shared: list[Any] = []
    assert copy_as_far(_plain, shared) is _plain
    assert shared == []
    assert copy_as_far(closes, shared) is closes
    assert shared == [closes]


def test_a_view_of_bytes_that_nobody_can_write_is_shared_and_others_are_copied() -> None:
    constant = memoryview(b"abc")
    assert own_copy(constant) is constant
    data = bytearray(b"abcd" * 4)
    for view in (memoryview(data), memoryview(data).toreadonly(), memoryview(data).cast("I").toreadonly()):
        copied = own_copy(view)
        assert (copied.format, copied.readonly, copied.tolist()) == (view.format, view.readonly, view.tolist())
        data[0] ^= 1
        assert copied.tolist() != view.tolist()


def test_a_released_view_is_refused() -> None:
    view = memoryview(bytearray(b"abc"))
    view.release()
    with pytest.raises(CannotCopy):
        own_copy([view])


@dataclasses.dataclass
class _Raises:
    items: list[int]

    def __copy__(self) -> Any:
        raise RuntimeError("not today")


@dataclasses.dataclass
class _Itself:
    items: list[int]

    def __copy__(self) -> Any:
        return self


@dataclasses.dataclass
class _Plain:
    items: list[int]


def test_a_dataclass_that_does_not_copy_itself_is_told_and_never_half_copied() -> None:
    values = [_Raises([1]), _Itself([2]), _Plain([3])]
    shared: list[Any] = []
    copied = copy_as_far(values, shared)
    assert shared == values[:2]
    assert copied[:2] == values[:2]
    assert copied[0].items is values[0].items
    assert copied[2] is not values[2]
    copied[2].items.append(4)
    assert values[2].items == [3]


def test_the_refusal_travels_between_processes_without_the_value() -> None:
    refused = pickle.loads(pickle.dumps(CannotCopy(lambda: 1)))
    assert type(refused) is CannotCopy
    assert refused.value is None


@pytest.mark.needs("numpy")
def test_objects_of_numpy_whose_parts_are_unknown_are_refused() -> None:
    np = importlib.import_module("numpy")

    class Sub(np.ndarray):  # type: ignore[misc, name-defined, unused-ignore]
        pass

    fields = np.array([(1, [2])], dtype=[("a", int), ("b", object)])
    for value in (np.random.default_rng(1), fields, np.array([[1]], dtype=object).view(Sub), fields[0]):
        with pytest.raises(CannotCopy):
            own_copy(value)
    number = np.float64(1.5)
    assert own_copy(number) is number


@pytest.mark.needs("pandas")
def test_columns_of_pandas_are_copied_scalars_shared_and_groups_refused() -> None:
    pd = importlib.import_module("pandas")
    column = pd.array([1, 2, None], dtype="Int64")
    copied = own_copy(column)
    copied[0] = 9
    assert column[0] == 1
    moment = pd.Timestamp("2024-01-01")
    assert own_copy(moment) is moment
    with pytest.raises(CannotCopy):
        own_copy(pd.DataFrame({"a": [1]}).groupby("a"))


@pytest.mark.needs("polars")
def test_plans_of_polars_are_shared_and_columns_of_objects_refused() -> None:
    pl = importlib.import_module("polars")
    for value in (pl.LazyFrame({"a": [1]}), pl.col("a")):
        assert own_copy(value) is value
    for refused in (pl.Series("a", [object()], dtype=pl.Object), pl.DataFrame({"a": [1]}).group_by("a")):
        with pytest.raises(CannotCopy):
            own_copy(refused)


@pytest.mark.needs("pyarrow")
def test_tables_of_arrow_are_shared_and_its_writers_refused() -> None:
    pa = importlib.import_module("pyarrow")
    table = pa.table({"a": [1]})
    assert own_copy(table) is table
    with pytest.raises(CannotCopy):
        own_copy(pa.BufferOutputStream())
