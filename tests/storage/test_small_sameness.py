"""Sameness of values of numpy, pandas, polars and pyarrow: what a program could tell apart is never called the same."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from penstock.storage.formats.typed.sameness import difference, same

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")


def with_attrs(value: Any, **attrs: Any) -> Any:
    value.attrs.update(attrs)
    return value


DAYS = ["2024-01-01", "2024-01-02", "2024-01-03"]
SPREAD = np.dtype({"names": ["b", "a"], "formats": ["i4", "i2"], "offsets": [4, 0], "itemsize": 16})
UNLIKE: dict[str, tuple[Callable[[], Any], Callable[[], Any], str]] = {
    "sign of a zero": (lambda: np.float64(0.0), lambda: np.float64(-0.0), ""),
    "long doubles": (lambda: np.longdouble(1), lambda: np.longdouble(2), ""),
    "sign of a zero in an array": (lambda: np.array([0.0]), lambda: np.array([-0.0]), ""),
    "long doubles in an array": (lambda: np.array([1, 2], "g"), lambda: np.array([1, 3], "g"), "[1]"),
    "objects in an array": (lambda: np.array([1, 1], object), lambda: np.array([1, True], object), "[1]"),
    "names of fields": (lambda: np.zeros(1, [("a", "i4")]), lambda: np.zeros(1, [("b", "i4")]), ""),
    "order in memory": (lambda: np.zeros((2, 3)), lambda: np.zeros((2, 3), order="F"), ""),
    "alignment of fields": (
        lambda: np.zeros(1, np.dtype([("a", "i4")], align=True)),
        lambda: np.zeros(1, np.dtype([("a", "i4")], align=False)),
        "",
    ),
    "places of fields": (lambda: np.zeros(1, SPREAD), lambda: np.zeros(1, [("b", "i4"), ("a", "i2")]), ""),
    "values of fields": (lambda: np.array([(1, 2)], SPREAD), lambda: np.array([(1, 3)], SPREAD), "['a']"),
    "C type of integers": (lambda: np.zeros(1, "q"), lambda: np.zeros(1, "l"), ""),
    "NULs at the end": (lambda: np.bytes_(b"a\0"), lambda: np.bytes_(b"a"), ""),
    "unit of a timestamp": (lambda: pd.Timestamp("2024").as_unit("s"), lambda: pd.Timestamp("2024").as_unit("ms"), ""),
    "zone of a timestamp": (lambda: pd.Timestamp("2024", tz="UTC"), lambda: pd.Timestamp("2024"), ".tz"),
    "unit of a duration": (lambda: pd.Timedelta(1, "D").as_unit("s"), lambda: pd.Timedelta(1, "D").as_unit("ms"), ""),
    "closed side": (lambda: pd.Interval(0, 1), lambda: pd.Interval(0, 1, closed="left"), ""),
    "type of an end": (lambda: pd.Interval(0, 1), lambda: pd.Interval(0, 1.0), ".right"),
    "frequency of a period": (lambda: pd.Period("2024", "M"), lambda: pd.Period("2024-01-01", "D"), ""),
    "missing values": (lambda: [pd.NA, pd.NaT], lambda: [pd.NA, pd.NA], "[1]"),
    "attributes of a frame": (
        lambda: with_attrs(pd.DataFrame({"a": [1]}), unit="m"),
        lambda: with_attrs(pd.DataFrame({"a": [1]}), unit="s"),
        ".attrs['unit']",
    ),
    "column of a frame": (
        lambda: pd.DataFrame({"a": [1], "b": np.array([1], "i8")}),
        lambda: pd.DataFrame({"a": [1], "b": np.array([1], "i4")}),
        ".iloc[:, 1]",
    ),
    "name of a series": (lambda: pd.Series([1], name=1), lambda: pd.Series([1], name=True), ".name"),
    "step of a range": (lambda: pd.RangeIndex(0, 4, 2), lambda: pd.RangeIndex(0, 3, 2), ""),
    "name of a range": (lambda: pd.RangeIndex(2), lambda: pd.RangeIndex(2, name="k"), ".names[0]"),
    "frequency of an index": (lambda: pd.DatetimeIndex(DAYS), lambda: pd.DatetimeIndex(DAYS, freq="D"), ""),
    "name of a level": (
        lambda: pd.MultiIndex.from_tuples([("x", 1)], names=["p", "q"]),
        lambda: pd.MultiIndex.from_tuples([("x", 1)], names=["p", "r"]),
        ".names[1]",
    ),
    "length of levels": (
        lambda: pd.MultiIndex.from_tuples([("x", 1)]),
        lambda: pd.MultiIndex.from_tuples([("x", 1), ("y", 1)]),
        "",
    ),
    "dtype of a level with a missing label": (
        lambda: pd.MultiIndex([pd.Index([1, 2], dtype="i8")], [[-1, 0, 1]]),
        lambda: pd.MultiIndex([pd.Index([1, 2], dtype="f8")], [[-1, 0, 1]]),
        ".levels[0]",
    ),
    "large labels of a level with a missing label": (
        lambda: pd.MultiIndex([pd.Index([2**53, 2**53 + 1])], [[-1, 0, 1]]),
        lambda: pd.MultiIndex([pd.Index([2**53, 2**53 + 1])], [[-1, 0, 0]]),
        ".codes[0]",
    ),
    "unused label of a level": (
        lambda: pd.MultiIndex([["a"]], [[-1, 0]]),
        lambda: pd.MultiIndex([["a", "b"]], [[-1, 0]]),
        ".levels[0]",
    ),
    "order of categories": (
        lambda: pd.Categorical(["a"], ["a", "b"]),
        lambda: pd.Categorical(["a"], ["a", "b"], ordered=True),
        "",
    ),
    "codes of categories": (
        lambda: pd.Categorical(["a"], ["a", "b"]),
        lambda: pd.Categorical(["b"], ["a", "b"]),
        ".codes",
    ),
    "an integer and none": (lambda: pd.array([1, 0], "Int64"), lambda: pd.array([1, None], "Int64"), "[1]"),
    "closed side of intervals": (
        lambda: pd.arrays.IntervalArray.from_breaks([0, 1]),
        lambda: pd.arrays.IntervalArray.from_breaks([0, 1], closed="both"),
        "",
    ),
    "an offset": (lambda: pd.offsets.Day(1), lambda: pd.offsets.Day(2), "<part"),
    "column of a polars frame": (
        lambda: pl.DataFrame({"a": [1], "b": [0.0]}),
        lambda: pl.DataFrame({"a": [1], "b": [-0.0]}),
        "['b'][0]",
    ),
    "name of a polars series": (lambda: pl.Series("a", [1]), lambda: pl.Series("b", [1]), ""),
    "type of a polars series": (lambda: pl.Series([1], dtype=pl.Int8), lambda: pl.Series([1], dtype=pl.Int16), ""),
    "type of polars": (lambda: pl.Datetime("ms"), lambda: pl.Datetime("us"), "time_unit"),
    "metadata of a schema": (
        lambda: pa.table({"a": [1]}),
        lambda: pa.table({"a": [1]}).replace_schema_metadata({"k": "v"}),
        "",
    ),
    "column of an Arrow table": (lambda: pa.table({"a": [0.0]}), lambda: pa.table({"a": [-0.0]}), "[0][0]"),
    "record batches": (lambda: pa.record_batch({"a": [1]}), lambda: pa.record_batch({"a": [2]}), "[0][0]"),
    "null in an Arrow array": (lambda: pa.array([1, 0]), lambda: pa.array([1, None]), "[1]"),
    "type of an Arrow scalar": (lambda: pa.scalar(1, pa.int8()), lambda: pa.scalar(1, pa.int16()), ""),
    "value of an Arrow scalar": (lambda: pa.scalar(1.0), lambda: pa.scalar(2.0), ""),
    "shape of Arrow tensors": (
        lambda: pa.nulls(1, pa.fixed_shape_tensor(pa.int8(), (2, 3))),
        lambda: pa.nulls(1, pa.fixed_shape_tensor(pa.int8(), (3, 2))),
        "",
    ),
    "an Arrow field": (lambda: pa.field("a", pa.int8()), lambda: pa.field("a", pa.int16()), "<part"),
}


@pytest.mark.needs("numpy", "pandas", "polars")
@pytest.mark.parametrize("name", UNLIKE)
def test_values_of_packages_that_differ_in_one_detail_are_not_the_same(name: str) -> None:
    one, other, where = UNLIKE[name]
    found = difference(one(), other())
    assert found is not None
    assert where in found
    assert same(one(), one())
    assert same(other(), copy.deepcopy(other()))
