"""Values of pandas, polars, pyarrow and numpy, and containers of them, each with a name and a function that makes it.

Two calls make equal values, in any process. `likeness` describes how two of them differ.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import zoneinfo
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from tests.roundtrip import classes as c

D = decimal.Decimal


def with_attrs(value: Any, **attrs: Any) -> Any:
    value.attrs.update(attrs)
    return value


def objects(*cells: Any) -> Any:
    made = np.empty(len(cells), dtype=object)
    for number, cell in enumerate(cells):
        made[number] = cell
    return pd.Series(made)


def read_only(array: Any) -> Any:
    array.flags.writeable = False
    return array


def with_gaps(level: Any) -> Any:
    """Return an index with missing labels in a level, where a third label of the level is unused."""
    return pd.MultiIndex([["a", "b"], level], [[0, 1, 1, 0], [-1, 0, 1, -1]], names=["p", "q"])


LEVELS_WITH_GAPS: dict[str, Callable[[], Any]] = {
    "small integers": lambda: pd.Index([1, 2], dtype="int8"),
    "large integers": lambda: pd.Index([2**53, 2**53 + 1]),
    "unsorted integers": lambda: pd.Index([2**53 + 1, 2**53]),
    "unused integers": lambda: pd.Index([2**53 + 1, 2**53, 7]),
    "unsigned integers": lambda: pd.Index([2**63, 2**63 + 1], dtype="uint64"),
    "a range": lambda: pd.RangeIndex(3),
    "booleans": lambda: pd.Index([False, True]),
    "unsorted booleans": lambda: pd.Index([True, False]),
    "small floats": lambda: pd.Index([1.5, 2.5], dtype="float32"),
    "seconds": lambda: pd.DatetimeIndex(["2024", "2025", "2026"]).as_unit("s"),
    "days with a frequency": lambda: pd.date_range("2024", periods=3),
    "times with a zone": lambda: pd.DatetimeIndex(["2025", "2024"], tz="Europe/Berlin").as_unit("ms"),
    "durations": lambda: pd.to_timedelta([1, 2, 3], unit="s").as_unit("ms"),
    "periods": lambda: pd.period_range("2024", periods=2, freq="M"),
    "intervals of integers": lambda: pd.IntervalIndex.from_arrays([2**53, 2**53 + 1], [2**53 + 2, 2**53 + 3]),
    "categories": lambda: pd.CategoricalIndex(["x", "y"], categories=["z", "y", "x"], ordered=True),
    "categories of integers": lambda: pd.CategoricalIndex([2**53, 2**53 + 1]),
    "nullable integers": lambda: pd.Index(pd.array([2**53 + 1, 2**53], dtype="Int64")),
    "sparse integers": lambda: pd.Index(pd.arrays.SparseArray([2**53, 2**53 + 1])),
    "text": lambda: pd.Index(["b", "a", "c"]),
    "integers as objects": lambda: pd.Index([1, 2], dtype=object),
}
# Text in which NaN means missing is a type of its own since pandas 2.3.
NAN: dict[str, Any] = {"na_value": np.nan} if pd.__version__ >= "2.3" else {}
PANDAS: dict[str, Callable[[], Any]] = {
    "plain": lambda: pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [1.5, np.nan], "d": [True, False]}),
    "empty": lambda: pd.DataFrame(),
    "no rows": lambda: pd.DataFrame(
        {"a": pd.Series([], dtype="int8"), "b": pd.Series([], dtype=object), "c": pd.Categorical([], categories=["x"])}
    ),
    "no columns": lambda: pd.DataFrame(index=[1, 2]),
    "no columns range": lambda: pd.DataFrame(index=range(3)),
    "period index": lambda: pd.DataFrame({"a": [1, 2]}, index=pd.period_range("2024", periods=2, freq="M")),
    "period index w": lambda: pd.DataFrame(
        {"a": [1, 2]}, index=pd.period_range("2024", periods=2, freq="W-SUN", name="w")
    ),
    "interval index": lambda: pd.DataFrame({"a": [1, 2]}, index=pd.interval_range(0, 2)),
    "interval col": lambda: pd.DataFrame({"a": pd.arrays.IntervalArray.from_breaks([0.0, 1.0, 2.0], closed="left")}),
    "interval nan": lambda: pd.DataFrame(
        {"a": pd.array([pd.Interval(0.0, 1.0), None], dtype="interval[float64, right]")}
    ),
    "interval tz": lambda: pd.DataFrame(
        {"a": pd.interval_range(pd.Timestamp("2024", tz="Europe/Berlin"), periods=2).array}
    ),
    "interval dates": lambda: pd.DataFrame(
        {"a": pd.interval_range(pd.Timestamp("2024"), periods=2, closed="both").array}
    ),
    "multi with period": lambda: pd.DataFrame(
        {"a": [1, 2]},
        index=pd.MultiIndex.from_arrays([pd.period_range("2024", periods=2, freq="M"), ["x", "y"]], names=["p", None]),
    ),
    "multi with interval": lambda: pd.DataFrame(
        {"a": [1, 2]}, index=pd.MultiIndex.from_arrays([pd.interval_range(0, 2), [1, 2]])
    ),
    "multi unused": lambda: pd.DataFrame({"a": range(4)}, index=pd.MultiIndex.from_product([["b", "a"], [1, 2]])).iloc[
        :2
    ],
    "multi unsorted levels": lambda: pd.concat([pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]})], keys=["b", "a"]),
    "multi dates freq": lambda: pd.DataFrame(
        {"a": range(4)},
        index=pd.MultiIndex.from_product([pd.date_range("2024", periods=2), ["x", "y"]], names=["d", "k"]),
    ),
    "multi cat": lambda: pd.DataFrame(
        {"a": [1, 2]},
        index=pd.MultiIndex.from_arrays([pd.Categorical(["u", "v"], categories=["v", "u", "w"], ordered=True), [1, 2]]),
    ),
    "multi nan": lambda: pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_arrays([[np.nan, 1.0], ["x", None]])),
    **{
        f"multi {place} with gaps in {name}": lambda level=level, put=put: put(with_gaps(level()))
        for name, level in LEVELS_WITH_GAPS.items()
        for place, put in {
            "rows": lambda index: pd.DataFrame({"a": range(len(index))}, index=index),
            "columns": lambda index: pd.DataFrame([range(len(index))], columns=index),
            "series": lambda index: pd.Series(range(len(index)), index=index),
            "index": lambda index: index,
        }.items()
    },
    "multi only gaps": lambda: pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex([pd.Index([5, 7])], [[-1, -1]])),
    "multi gaps from tuples": lambda: pd.Series(
        range(3), index=pd.MultiIndex.from_tuples([("a", None), ("b", 2**53), ("b", 2**53 + 1)])
    ),
    "multi code of nan": lambda: (
        pd.DataFrame({"a": [1.5, None], "b": [1, 2], "c": [1, 1]}).groupby(["a", "b"], dropna=False).sum()
    ),
    "multi repeated labels": lambda: pd.DataFrame(
        {"a": [1, 2]}, index=pd.MultiIndex([["u", "u"], [1, 2]], [[0, 1], [-1, 0]], verify_integrity=False)
    ),
    "multi overlapping intervals": lambda: pd.DataFrame(
        {"a": [1, 2]}, index=pd.MultiIndex([pd.IntervalIndex.from_tuples([(1, 3), (0, 2)])], [[1, 0]])
    ),
    "multi tz": lambda: pd.DataFrame(
        {"a": [1, 2]}, index=pd.MultiIndex.from_arrays([pd.date_range("2024", periods=2, tz="Europe/Berlin"), [1, 2]])
    ),
    "series period index": lambda: pd.Series([1, 2], index=pd.period_range("2024", periods=2, freq="D"), name="q"),
    "freq": lambda: pd.DataFrame({"a": [1, 2, 3]}, index=pd.date_range("2024", periods=3, freq="B")),
    "freq columns": lambda: pd.DataFrame([[1, 2, 3]], columns=pd.date_range("2024", periods=3, freq="MS")),
    "td freq": lambda: pd.DataFrame({"a": [1, 2]}, index=pd.timedelta_range("1h", periods=2, freq="h")),
    "period columns": lambda: pd.DataFrame([[1, 2]], columns=pd.period_range("2024", periods=2, freq="Q")),
    "interval columns": lambda: pd.DataFrame([[1, 2]], columns=pd.interval_range(0, 2)),
    "category columns": lambda: pd.DataFrame(
        [[1, 2]], columns=pd.CategoricalIndex(["a", "b"], categories=["b", "a", "c"], ordered=True, name="n")
    ),
    "multi columns": lambda: pd.DataFrame(
        [[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")], names=["x", None])
    ),
    "multi columns dates": lambda: pd.DataFrame(
        [[1, 2]], columns=pd.MultiIndex.from_product([pd.date_range("2024", periods=1), ["b", "c"]])
    ),
    "dup columns": lambda: pd.DataFrame([[1, "x"]], columns=["a", "a"]),
    "mixed names": lambda: pd.DataFrame({"a": [1], 2: [1], (1, 2): [3], None: [4], dt.date(2024, 1, 1): [5]}),
    "int names": lambda: pd.DataFrame({3: [1], 1: [2]}),
    "float names": lambda: pd.DataFrame({3.5: [1], np.nan: [2]}),
    "bool names": lambda: pd.DataFrame({True: [1], False: [2]}),
    "range names": lambda: pd.DataFrame(np.arange(6.0).reshape(2, 3)),
    "named columns": lambda: pd.DataFrame({"a": [1]}).rename_axis(columns="what"),
    "tuple name of columns": lambda: pd.DataFrame({"a": [1]}).set_axis(pd.Index(["a"], name=("a", 1)), axis=1),
    "index name twice": lambda: pd.DataFrame({"a": [1]}, index=pd.Index([5], name="a")),
    "object column labels": lambda: pd.DataFrame({"a": [1]}).set_axis(pd.Index(["a"], dtype=object), axis=1),
    "attrs": lambda: with_attrs(pd.DataFrame({"a": [1]}), unit="m", t=(1, 2), d=D("1.50")),
    "decimals": lambda: pd.DataFrame({"a": [D("1.10"), D("2.20")]}),
    "decimals mixed": lambda: pd.DataFrame({"a": [D("1.5"), D("1.50"), D("1E+3"), D("-0.0"), D("NaN"), None]}),
    "decimal index": lambda: pd.DataFrame({"a": [1, 2]}, index=pd.Index([D("1.5"), D("1.50")])),
    "decimal neg zero": lambda: pd.DataFrame({"a": [D("-0.0"), D("1.0")]}),
    "pd.cut": lambda: pd.DataFrame({"a": pd.cut([1, 2, 3, np.nan], 2)}),
    "pd.qcut": lambda: pd.DataFrame({"a": pd.qcut(range(10), 4)}),
    "pd.cut labels": lambda: pd.DataFrame({"a": pd.cut([1, 2, 3], 2, labels=["lo", "hi"])}),
    "cut series": lambda: pd.cut(pd.Series([1, 2, 3]), [0, 2, 4]),
    "cut value counts": lambda: pd.cut(pd.Series([1, 2, 3]), [0, 2, 4]).value_counts(),
    "cut dates": lambda: pd.DataFrame({"a": pd.cut(pd.date_range("2024", periods=4), 2)}),
    "category": lambda: pd.DataFrame({"day": pd.Categorical(["mo", "tu"])}),
    "category unused ordered": lambda: pd.DataFrame(
        {"a": pd.Categorical(["x", None, "y"], categories=["z", "y", "x"], ordered=True)}
    ),
    "category ints": lambda: pd.DataFrame({"a": pd.Categorical([3, 1, 1, None])}),
    "category floats": lambda: pd.DataFrame({"a": pd.Categorical([3.5, 1.0])}),
    "category dates": lambda: pd.DataFrame({"a": pd.Categorical(pd.date_range("2024", periods=2, tz="UTC"))}),
    "category bools": lambda: pd.DataFrame({"a": pd.Categorical([True, False])}),
    "category mixed": lambda: pd.DataFrame({"a": pd.Categorical([1, "x"], categories=["x", 1, D("1.50")])}),
    "category 1 and '1'": lambda: pd.DataFrame({"a": pd.Categorical([1, "1"], categories=["1", 1])}),
    "category all null": lambda: pd.DataFrame({"a": pd.Categorical([None, None])}),
    "category all null cats": lambda: pd.DataFrame({"a": pd.Categorical([None, None], categories=["x"])}),
    "category tuples": lambda: pd.DataFrame(
        {"a": pd.Categorical.from_codes([0, 1], pd.Index([(1, 2), (3, 4)], tupleize_cols=False))}
    ),
    "category string dtype": lambda: pd.DataFrame({"a": pd.Series(["x", "y"], dtype="string").astype("category")}),
    "category index": lambda: pd.DataFrame(
        {"a": [1, 2]}, index=pd.CategoricalIndex(["x", "y"], categories=["y", "x"], name="c")
    ),
    "category many": lambda: pd.DataFrame({"a": pd.Categorical([f"c{i % 50000}" for i in range(60000)])}),
    "category object": lambda: pd.DataFrame({"a": pd.Categorical(pd.Series(["x", "y"], dtype=object))}),
    "mixed": lambda: pd.DataFrame({"a": [1, "x", None, np.nan, 2.5, pd.NA, pd.NaT]}),
    "numbers as objects": lambda: pd.DataFrame({"a": pd.Series([1, 2], dtype=object)}),
    "big ints": lambda: pd.DataFrame({"a": pd.Series([2**70, 1], dtype=object)}),
    "floats as objects": lambda: pd.DataFrame({"a": pd.Series([1.5, float("nan"), -0.0], dtype=object)}),
    "floats and none": lambda: pd.DataFrame({"a": pd.Series([1.5, None], dtype=object)}),
    "bools as objects": lambda: pd.DataFrame({"a": pd.Series([True, None, False], dtype=object)}),
    "all none": lambda: pd.DataFrame({"a": pd.Series([None, None], dtype=object)}),
    "all nan object": lambda: pd.DataFrame({"a": pd.Series([np.nan, np.nan], dtype=object)}),
    "all NA object": lambda: pd.DataFrame({"a": pd.Series([pd.NA], dtype=object)}),
    "text objects none": lambda: pd.DataFrame({"a": pd.Series(["x", None], dtype=object)}),
    "text objects nan": lambda: pd.DataFrame({"a": pd.Series(["x", np.nan], dtype=object)}),
    "text objects NA": lambda: pd.DataFrame({"a": pd.Series(["x", pd.NA], dtype=object)}),
    "text objects none nan": lambda: pd.DataFrame({"a": pd.Series(["x", None, np.nan], dtype=object)}),
    "surrogates": lambda: pd.DataFrame({"a": pd.Series(["\ud800x"], dtype=object)}),
    "surrogate label": lambda: pd.DataFrame([[1]], columns=pd.Index(["\ud800"], dtype=object)),
    "bytes": lambda: pd.DataFrame({"a": [b"x", None]}),
    "sets": lambda: pd.DataFrame({"a": [{1}, {2, 3}]}),
    "lists": lambda: pd.DataFrame({"a": [[1], [2, 3], None]}),
    "tuples": lambda: pd.DataFrame({"a": [(1,), (2, "x")]}),
    "dicts": lambda: pd.DataFrame({"a": [{"x": 1}, {"y": [2]}]}),
    "arrays": lambda: pd.DataFrame({"a": objects(np.arange(3.0), np.arange(2.0))}),
    "arrays none": lambda: pd.DataFrame({"a": objects(np.arange(3, dtype="i1"), None, np.empty(0, "i1"))}),
    "dates": lambda: pd.DataFrame({"a": [dt.date(2024, 1, 1), dt.date(2024, 1, 2)]}),
    "datetimes objects": lambda: pd.DataFrame(
        {"a": pd.Series([dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=dt.UTC)], dtype=object)}
    ),
    "times": lambda: pd.DataFrame({"a": [dt.time(1, 2), None]}),
    "complex": lambda: pd.DataFrame({"a": [1j, complex(1, -0.0)]}),
    "complex64": lambda: pd.DataFrame({"a": np.array([1j], "c8")}),
    "sparse": lambda: pd.DataFrame({"a": pd.arrays.SparseArray([0, 0, 1])}),
    "sparse int": lambda: pd.DataFrame({"a": pd.array([0, 1], dtype=pd.SparseDtype("int8", 0))}),
    "sparse numpy int": lambda: pd.DataFrame({"a": pd.array([0, 1], dtype=pd.SparseDtype("int8", np.int8(0)))}),
    "sparse float32": lambda: pd.Series(pd.arrays.SparseArray(np.array([0, 1.5], "f4"), fill_value=np.float32(0))),
    "sparse float64 of nan": lambda: pd.Series(pd.arrays.SparseArray([np.nan, 1.5], fill_value=np.float64("nan"))),
    "sparse nan": lambda: pd.DataFrame({"a": pd.arrays.SparseArray([np.nan, 1.5])}),
    "sparse bool": lambda: pd.DataFrame({"a": pd.arrays.SparseArray([True, False], fill_value=False)}),
    "nullable": lambda: pd.DataFrame(
        {
            "i": pd.array([1, None], dtype="Int64"),
            "b": pd.array([True, None], dtype="boolean"),
            "f": pd.array([1.5, None], dtype="Float32"),
            "u": pd.array([1, None], dtype="UInt8"),
        }
    ),
    "nullable nan": lambda: pd.DataFrame(
        {"f": pd.arrays.FloatingArray(np.array([1.0, np.nan, 3]), np.array([False, False, True]))}
    ),
    "string python": lambda: pd.DataFrame({"a": pd.array(["x", None], dtype=pd.StringDtype("python"))}),
    "string pyarrow": lambda: pd.DataFrame({"a": pd.array(["x", None], dtype=pd.StringDtype("pyarrow"))}),
    "string python nan": lambda: pd.DataFrame({"a": pd.array(["x", None], dtype=pd.StringDtype("python", **NAN))}),
    "string python surrogate": lambda: pd.DataFrame({"a": pd.array(["\ud800", None], dtype=pd.StringDtype("python"))}),
    "arrow ints": lambda: pd.DataFrame({"a": pd.array([1, None], dtype=pd.ArrowDtype(pa.int8()))}),
    "arrow list": lambda: pd.DataFrame({"a": pd.Series([[1], None], dtype=pd.ArrowDtype(pa.list_(pa.int8())))}),
    "arrow string": lambda: pd.DataFrame({"a": pd.array(["x", None], dtype=pd.ArrowDtype(pa.string()))}),
    "arrow dict": lambda: pd.DataFrame(
        {"a": pd.array(["x", None], dtype=pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string())))}
    ),
    "arrow ts": lambda: pd.DataFrame(
        {"a": pd.array([dt.datetime(2024, 1, 1)], dtype=pd.ArrowDtype(pa.timestamp("ms", "UTC")))}
    ),
    "arrow decimal index": lambda: pd.DataFrame(
        {"a": [1]}, index=pd.Index(pd.array([D("1.50")], dtype=pd.ArrowDtype(pa.decimal128(5, 2))))
    ),
    "arrow level": lambda: pd.DataFrame(
        {"a": [1, 2]}, index=pd.MultiIndex.from_arrays([pd.array(["b", "a"], dtype=pd.ArrowDtype(pa.string())), [1, 2]])
    ),
    "time zone": lambda: pd.DataFrame({"t": pd.date_range("2024", periods=2, tz="Europe/Berlin")}),
    "time zone utc": lambda: pd.DataFrame({"t": pd.date_range("2024", periods=2, tz="UTC")}),
    "time zone zoneinfo": lambda: pd.DataFrame(
        {"t": pd.date_range("2024", periods=2, tz=zoneinfo.ZoneInfo("Europe/Berlin"))}
    ),
    "time zone fixed": lambda: pd.DataFrame(
        {"t": pd.date_range("2024", periods=2, tz=dt.timezone(dt.timedelta(hours=2)))}
    ),
    "time zone index": lambda: pd.DataFrame(
        {"t": [1, 2]}, index=pd.date_range("2024", periods=2, tz="America/New_York", freq="D")
    ),
    "units": lambda: pd.DataFrame({u: np.array(["2024", "NaT"], f"M8[{u}]") for u in ("s", "ms", "us", "ns")}),
    "durations": lambda: pd.DataFrame({u: np.array([1, 2], f"m8[{u}]") for u in ("s", "ms", "us", "ns")}),
    "far dates": lambda: pd.DataFrame({"a": np.array(["9999-12-31", "0001-01-01"], "M8[s]")}),
    "small types": lambda: pd.DataFrame(
        {
            "a": np.array([1], "int8"),
            "b": np.array([1], "float32"),
            "c": np.array([1], "f2"),
            "d": np.array([2**64 - 1], "u8"),
        }
    ),
    "periods nat": lambda: pd.DataFrame({"a": pd.PeriodIndex(["2024-01", None], freq="M")}),
    "negative zero": lambda: pd.DataFrame({"a": [-0.0, 0.0, float("inf")]}),
    "objects index": lambda: pd.DataFrame({"a": [1, 2]}, index=pd.Index([1, "x"], dtype=object)),
    "dates index": lambda: pd.DataFrame(
        {"a": [1, 2]}, index=pd.Index([dt.date(2024, 1, 1), dt.date(2024, 1, 2)], dtype=object)
    ),
    "tuples index": lambda: pd.DataFrame({"a": [1, 2]}, index=pd.Index([(1, 2), (3,)], tupleize_cols=False)),
    "range index": lambda: pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(2, 6, 2, name="k")),
    "empty dates index": lambda: pd.DataFrame({"a": []}, index=pd.DatetimeIndex([])),
    "no duplicate labels": lambda: pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False),
    "series": lambda: pd.Series([1, 2], name="q"),
    "series tuple name": lambda: pd.Series([1, 2], name=("a", 1)),
    "series int name": lambda: pd.Series([1, 2], name=7),
    "series date name": lambda: pd.Series([1, 2], name=pd.Timestamp("2024")),
    "series no name": lambda: pd.Series([1, 2]),
    "series attrs": lambda: with_attrs(pd.Series([1]), x=1),
    "series of dtypes": lambda: pd.Series([1, "x"], index=["a", "b"]),
    "row of a frame": lambda: pd.DataFrame({"a": [1], "b": ["x"]}).iloc[0],
    "index": lambda: pd.Index([3, 1], name="x"),
    "index dates": lambda: pd.date_range("2024", periods=3, freq="D", name="d"),
    "index multi": lambda: pd.MultiIndex.from_product([["b", "a"], [1, 2]]),
    "index range": lambda: pd.RangeIndex(5),
    "index category": lambda: pd.CategoricalIndex(["a"]),
    "categorical": lambda: pd.Categorical(["a", "b"], ordered=True),
    "array nullable": lambda: pd.array([1, None]),
    "array of periods": lambda: pd.period_range("2024", periods=2, freq="D").array,
    "attrs of exact types": lambda: with_attrs(
        pd.DataFrame({"a": [1]}), level=c.Level.LOW, number=np.float64(1.5), many={"x": (1, 2)}
    ),
    "nested in cells": lambda: pd.DataFrame({"a": objects([{"x": (1, c.Color.RED)}], {"y": {1, 2}})}),
}
POLARS: dict[str, Callable[[], Any]] = {
    "numbers": lambda: pl.DataFrame({"a": [1, None], "b": [1.5, float("nan")], "c": [True, None], "s": ["x", None]}),
    "small types": lambda: pl.DataFrame({"a": pl.Series([1], dtype=pl.UInt8), "b": pl.Series([1], dtype=pl.Float32)}),
    "empty": lambda: pl.DataFrame(),
    "no rows": lambda: pl.DataFrame({"a": pl.Series([], dtype=pl.UInt8)}),
    "Categorical": lambda: pl.DataFrame({"a": pl.Series(["u", None, "v"], dtype=pl.Categorical)}),
    "Enum": lambda: pl.DataFrame({"a": pl.Series(["a", None], dtype=pl.Enum(["b", "a"]))}),
    "Enum with unused": lambda: pl.DataFrame({"a": pl.Series(["a"], dtype=pl.Enum(["c", "b", "a"]))}),
    "List of Enum": lambda: pl.DataFrame({"a": pl.Series([["a"]], dtype=pl.List(pl.Enum(["b", "a"])))}),
    "Struct of Enum": lambda: pl.DataFrame({"a": pl.Series([{"x": "a"}], dtype=pl.Struct({"x": pl.Enum(["b", "a"])}))}),
    "nested": lambda: pl.DataFrame({"a": [[[1], []], None], "b": [{"x": {"y": [1]}}, None]}),
    "Array": lambda: pl.DataFrame({"a": pl.Series([[[1, 2]], [[3, 4]]], dtype=pl.Array(pl.Int8, (1, 2)))}),
    "Int128": lambda: pl.DataFrame({"a": pl.Series([2**100, None], dtype=pl.Int128)}),
    "Decimal": lambda: pl.DataFrame({"a": pl.Series([D("1.10"), None], dtype=pl.Decimal(38, 2))}),
    "times": lambda: pl.DataFrame(
        {"a": [dt.datetime(2026, 1, 1)], "b": [dt.date(2026, 1, 1)], "c": [dt.time(1, 2, 3, 4)]}
    ),
    "time zone": lambda: pl.DataFrame(
        {"a": pl.Series([dt.datetime(2026, 1, 1)], dtype=pl.Datetime("ms", "Europe/Berlin"))}
    ),
    "Duration": lambda: pl.DataFrame(
        {u: pl.Series([dt.timedelta(1)], dtype=pl.Duration(u)) for u in ("ms", "us", "ns")}
    ),
    "Null": lambda: pl.DataFrame({"a": [None, None]}),
    "Binary": lambda: pl.DataFrame({"a": [b"x", None]}),
    "Struct without fields": lambda: pl.DataFrame({"a": pl.Series([{}], dtype=pl.Struct([]))}),
    "name like none": lambda: pl.DataFrame({"": [1]}),
    "many columns": lambda: pl.DataFrame({f"column {n}": [n] for n in range(500)}),
    "Enum of many": lambda: pl.DataFrame({"a": pl.Series(["c7"], dtype=pl.Enum([f"c{n}" for n in range(5000)]))}),
    "sorted": lambda: (
        pl.DataFrame({"a": [2, None, 1], "b": [1, 2, 3], "c": [3, 2, 1]})
        .sort("a", descending=True)
        .with_columns(pl.col("b").set_sorted())
    ),
    "one row": lambda: pl.DataFrame({"a": [1], "s": ["x"]}),
    "Series sorted": lambda: pl.Series("s", ["b", "a"]).sort(),
    "Series": lambda: pl.Series("name", [1, 2]),
    "Series without a name": lambda: pl.Series([None]),
    "Series of Enum": lambda: pl.Series("e", ["a"], dtype=pl.Enum(["b", "a"])),
    "Series of lists": lambda: pl.Series("e", [[1], None]),
}


def _dictionary(indices: list[Any], values: list[Any], *, index: Any = None, ordered: bool = False) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(indices, index or pa.int32()), pa.array(values), ordered=ordered)


ARROW: dict[str, Callable[[], Any]] = {
    "numbers": lambda: pa.table({"a": [1, None], "b": [1.5, float("nan")], "c": [True, None], "s": ["x", None]}),
    "metadata": lambda: pa.table({"a": [1]}).replace_schema_metadata({"k": "v"}),
    "metadata of fields": lambda: pa.table({"a": [1]}, schema=pa.schema([pa.field("a", pa.int8(), False, {"k": "v"})])),
    "columns of one name": lambda: pa.Table.from_arrays([pa.array([1]), pa.array(["x"])], ["a", "a"]),
    "rows without columns": lambda: pa.table({"a": [1, 2, 3]}).select([]),
    "empty": lambda: pa.table({}),
    "no rows": lambda: pa.schema([("a", pa.string())]).empty_table(),
    "chunks": lambda: (
        pa.chunked_array([[1], [2, 3]]).cast(pa.int8()).combine_chunks()
        and pa.table({"a": pa.chunked_array([[1], [2]])})
    ),
    "seconds": lambda: pa.table(
        {"a": pa.array([1, None], pa.timestamp("s")), "b": pa.array([1], pa.time32("s")).take([0, 0])}
    ),
    "date64": lambda: pa.table({"a": pa.array([86_400_000], pa.date64())}),
    "durations": lambda: pa.table({"a": pa.array([1], pa.duration("ns"))}),
    "month intervals": lambda: pa.table({"a": pa.array([(1, 2, 3)], pa.month_day_nano_interval())}),
    "float16": lambda: pa.table({"a": pa.array([np.float16(1.5)], pa.float16())}),
    "large": lambda: pa.table(
        {"a": pa.array(["x"], pa.large_string()), "b": pa.array([[1]], pa.large_list(pa.int8()))}
    ),
    "views": lambda: pa.table(
        {"a": pa.array(["x", None], pa.string_view()), "b": pa.array([b"x", None], pa.binary_view())}
    ),
    "list views": lambda: pa.table({"a": pa.array([[1], None], pa.list_view(pa.int8()))}),
    "fixed sizes": lambda: pa.table(
        {"a": pa.array([b"xyz"], pa.binary(3)), "b": pa.array([[1, 2]], pa.list_(pa.int8(), 2))}
    ),
    "decimals": lambda: pa.table(
        {"a": pa.array([D("1.10")], pa.decimal128(5, 2)), "b": pa.array([D("1.1")], pa.decimal256(50, 1))}
    ),
    "dictionary": lambda: pa.table({"a": _dictionary([1, 0, None, 1], ["z", "y", "x"])}),
    "dictionary with null": lambda: pa.table({"a": _dictionary([1, 0, None, 2], ["z", "y", None])}),
    "ordered dictionary": lambda: pa.table({"a": _dictionary([1, 0], ["z", "y", "x"], index=pa.int8(), ordered=True)}),
    "dictionary of numbers": lambda: pa.table({"a": _dictionary([1, 0], [7, 3])}),
    "dictionary of nulls": lambda: pa.table({"a": pa.nulls(3, pa.dictionary(pa.int32(), pa.string()))}),
    "dictionary of no rows": lambda: pa.table({"a": _dictionary([1], ["z", "y"])}).slice(0, 0),
    "dictionary in a list": lambda: pa.table(
        {"a": pa.ListArray.from_arrays([0, 2], _dictionary([1, 0], ["z", "y", "x"]))}
    ),
    "dictionary of null type": lambda: pa.table(
        {"a": pa.DictionaryArray.from_arrays(pa.array([None], pa.int8()), pa.nulls(0))}
    ),
    "nulls": lambda: pa.table({"a": pa.nulls(2)}),
    "sparse union": lambda: pa.table(
        {"a": pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["x", "y"])])}
    ),
    "dense union": lambda: pa.table(
        {
            "a": pa.UnionArray.from_dense(
                pa.array([0, 1], pa.int8()), pa.array([0, 0], pa.int32()), [pa.array([1]), pa.array(["y"])]
            )
        }
    ),
    "run ends": lambda: pa.table(
        {"a": pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["x", None]))}
    ),
    "struct without fields": lambda: pa.table({"a": pa.array([{}, None], pa.struct([]))}),
    "map": lambda: pa.table({"a": pa.array([[("x", 1)]], pa.map_(pa.string(), pa.int8()))}),
    "names of list items": lambda: pa.table({"a": pa.array([[1]], pa.list_(pa.field("things", pa.int8(), False)))}),
    "periods of pandas": lambda: pa.Table.from_pandas(
        pd.DataFrame({"a": pd.period_range("2026", periods=2, freq="M")})
    ),
    "intervals of pandas": lambda: pa.Table.from_pandas(pd.DataFrame({"a": pd.interval_range(0, 2).array})),
    "uuid": lambda: pa.table({"a": pa.array([b"0" * 16], pa.uuid())}),
    "tensors": lambda: pa.table(
        {"a": pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(4, dtype="i4").reshape(2, 2))}
    ),
    "RecordBatch": lambda: pa.record_batch({"a": [1, 2]}),
    "RecordBatch of no rows": lambda: pa.record_batch({"a": pa.array([], pa.int8())}),
    "RecordBatch of a dictionary with null": lambda: pa.record_batch({"a": _dictionary([0, 1], ["x", None])}),
}
NUMPY: dict[str, Callable[[], Any]] = {
    "matrix": lambda: np.arange(6.0).reshape(2, 3),
    "columns first": lambda: np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "three dimensions": lambda: np.arange(24).reshape(2, 3, 4),
    "no dimensions": lambda: np.array(3.5),
    "no elements": lambda: np.empty((0, 3)),
    "steps": lambda: np.arange(10)[::2],
    "dates": lambda: np.array(["2026-01-01", "NaT"], "M8[D]"),
    "nanoseconds": lambda: np.array([1, 2], "m8[ns]"),
    "text": lambda: np.array(["ä", "b"]),
    "bytes": lambda: np.array([b"x", b"yz"]),
    "other byte order": lambda: np.array([1, 2], ">i4"),
    "records": lambda: np.zeros(3, [("a", "i4"), ("b", "f8", (2,))]),
    "records of many fields": lambda: np.zeros(2, [(f"a field with a name {n}", "f8") for n in range(1000)]),
    "names of other planes": lambda: np.zeros(2, [("ä", "f8"), ("\u4e2d", "i1")]),
    "long doubles": lambda: np.array([np.longdouble(1) / 3]),
    "void": lambda: np.zeros(2, "V3"),
    "flags": lambda: np.array([True, False]),
    "complex": lambda: np.array([1j, complex(1, -0.0)]),
    "float16": lambda: np.array([1.5, np.nan], "f2"),
    "recarray": lambda: np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    "objects": lambda: np.array([1, "x", None, D("1.50"), (1, 2)], dtype=object),
    "objects in two dimensions": lambda: np.array([[1, "x"], [None, 2.5]], dtype=object),
    "objects, columns first": lambda: np.asfortranarray(np.array([[1, "x"], [None, 2.5]], dtype=object)),
    "lists as objects": lambda: objects([1], [2, 3]).to_numpy().copy(),
    "object of no dimensions": lambda: np.array({"a": 1}, dtype=object),
    "text of any length": lambda: np.array(["ä", "a longer one"], dtype=np.dtypes.StringDType()),
    "text of any length with gaps": lambda: np.array(["ä", np.nan], dtype=np.dtypes.StringDType(na_object=np.nan)),
    "read-only": lambda: read_only(np.arange(5000.0)),
    "read-only view": lambda: np.broadcast_to(np.arange(3), (2, 3)),
    "read-only recarray": lambda: read_only(np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])),
    "read-only objects": lambda: read_only(np.array([1, "x", None], dtype=object)),
    "read-only text": lambda: read_only(np.array(["ä"], dtype=np.dtypes.StringDType())),
    "read-only masked": lambda: read_only(np.ma.MaskedArray([1.5, 2.5], mask=[True, False])),
    "masked": lambda: np.ma.MaskedArray([1.5, 2.5], mask=[True, False], fill_value=7),
    "masked by nothing": lambda: np.ma.MaskedArray([1, 2]),
    "masked matrix": lambda: np.ma.MaskedArray(
        np.arange(4).reshape(2, 2), mask=[[True, False], [False, False]], hard_mask=True
    ),
}
CONTAINERS: dict[str, Callable[[], Any]] = {
    "two frames": lambda: (PANDAS["category"](), PANDAS["category"]()),
    "one frame twice": lambda: (lambda frame: [frame, frame])(PANDAS["category"]()),
    "frames by name": lambda: {"train": PANDAS["pd.cut"](), "test": POLARS["Enum"](), "n": 3},
    "list of arrays": lambda: [np.arange(3), np.arange(5000.0), np.asfortranarray(np.ones((60, 70)))],
    "read-only arrays": lambda: [read_only(np.arange(3)), read_only(np.arange(5000.0)), np.arange(3)],
    "many small arrays": lambda: [np.arange(n) for n in range(300)],
    "metrics and frame": lambda: {"auc": np.float64(0.7), "frame": PANDAS["multi with period"](), "nan": float("nan")},
    "dataclass": lambda: c.Point(PANDAS["period index"](), {"b": (np.arange(3),)}),
    "named tuple": lambda: c.Pair(ARROW["dictionary with null"](), POLARS["Int128"]()),
    "deep": lambda: {"a": [{"b": ({"c": [PANDAS["cut series"]()]},)}]},
    "by number": lambda: {1: np.arange(3), (1, 2): PANDAS["index multi"]()},
    "defaultdict": lambda: collections.defaultdict(list, {"a": [np.ones(3)]}),
    "arrays of objects": lambda: {"a": NUMPY["objects"](), "b": NUMPY["masked"]()},
    "batches": lambda: [ARROW["RecordBatch"](), ARROW["RecordBatch"]()],
    "array beside everyday values": lambda: (np.arange(3), {1, 2}, dt.date(2026, 1, 1), c.Color.RED, b"raw", D("1.50")),
}
GROUPS = {"pandas": PANDAS, "polars": POLARS, "arrow": ARROW, "numpy": NUMPY, "containers": CONTAINERS}
VALUES = {f"{group}: {name}": make for group, values in GROUPS.items() for name, make in values.items()}
