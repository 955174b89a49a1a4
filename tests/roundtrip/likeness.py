"""How two tables, arrays or containers of them differ, in words. Stricter than the packages' own comparisons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa


def unlike(one: Any, other: Any) -> str:
    """Return an empty text if no difference is visible."""
    if type(one) is not type(other):
        return f"a {type(one).__name__} for a {type(other).__name__}"
    if isinstance(other, dict):
        if list(one) != list(other):
            return "keys"
        return _first(f"[{key!r}]: " + why for key in other if (why := unlike(one[key], other[key])))
    if isinstance(other, (list, tuple)):
        if len(one) != len(other):
            return "length"
        return _first(f"[{n}]: " + why for n in range(len(other)) if (why := unlike(one[n], other[n])))
    for kinds, compare in _COMPARED:
        if isinstance(other, kinds):
            try:
                return compare(one, other)
            except AssertionError as error:
                return " ".join(str(error).split())[:200]
    held = getattr(other, "__dict__", None)
    if held:
        return unlike(vars(one), held)
    return "" if repr(one) == repr(other) else f"{one!r} for {other!r}"


def _first(found: Any) -> str:
    return next(iter(found), "")


def _frame(one: Any, other: Any) -> str:
    strict: dict[str, Any] = {"check_exact": True, "check_freq": True, "check_flags": True, "check_index_type": "exact"}
    pd.testing.assert_frame_equal(one, other, check_column_type="exact", **strict)
    if repr(one.attrs) != repr(other.attrs) or unlike(one.attrs, other.attrs):
        return "attrs"
    columns = (_series(one.iloc[:, n], other.iloc[:, n]) for n in range(other.shape[1]))
    return _index(one.columns, other.columns) or _index(one.index, other.index) or _first(w for w in columns if w)


def _series(one: Any, other: Any) -> str:
    pd.testing.assert_series_equal(
        one, other, check_exact=True, check_freq=True, check_index_type="exact", check_flags=True
    )
    if type(one.name) is not type(other.name) or repr(one.attrs) != repr(other.attrs):
        return "name or attrs"
    return _index(one.index, other.index) or _cells(one, other)


def _index(one: Any, other: Any) -> str:
    pd.testing.assert_index_equal(one, other, exact=True, check_exact=True)
    if type(one) is not type(other):
        return f"a {type(one).__name__} for a {type(other).__name__}"
    if isinstance(other, pd.MultiIndex):
        levels = [_index(a, b) for a, b in zip(one.levels, other.levels, strict=True)]
        codes = [list(a) != list(b) for a, b in zip(one.codes, other.codes, strict=True)]
        return "codes" if any(codes) else _first(w for w in levels if w)
    if getattr(one, "freq", None) != getattr(other, "freq", None) or type(one.name) is not type(other.name):
        return "frequency or name"
    return _cells(pd.Series(one), pd.Series(other))


def _array(one: Any, other: Any) -> str:
    pd.testing.assert_extension_array_equal(one, other)
    return _cells(pd.Series(one), pd.Series(other))


def _cells(one: Any, other: Any) -> str:
    if one.dtype != other.dtype:
        return f"{one.dtype} for {other.dtype}"
    if isinstance(other.dtype, pd.CategoricalDtype):
        return _index(one.cat.categories, other.cat.categories)
    if type(getattr(one.dtype, "tz", None)) is not type(getattr(other.dtype, "tz", None)):
        return "the package of the time zone"
    if type(getattr(one.dtype, "fill_value", None)) is not type(getattr(other.dtype, "fill_value", None)):
        return "the type of the fill value"
    if other.dtype == object:
        return _first(why for a, b in zip(one, other, strict=True) if (why := unlike(a, b)))
    if isinstance(other.dtype, np.dtype) and other.dtype.kind in "fc":
        return "" if one.to_numpy().tobytes() == other.to_numpy().tobytes() else "bits"
    return ""


def _polars(one: Any, other: Any) -> str:
    if isinstance(other, pl.Series):
        same = one.name == other.name and one.dtype == other.dtype
    else:
        same = one.schema == other.schema and one.shape == other.shape
    flags = [{n: each.flags[n] for n in ("SORTED_ASC", "SORTED_DESC")} for f in (one, other) for each in _columns(f)]
    if flags[: len(flags) // 2] != flags[len(flags) // 2 :]:
        return "sorted flags"
    return "" if same and one.equals(other) else f"{one} for {other}"


def _columns(value: Any) -> Any:
    return [value] if isinstance(value, pl.Series) else value.get_columns()


def _arrow(one: Any, other: Any) -> str:
    if not one.schema.equals(other.schema, check_metadata=True):
        return f"{one.schema} for {other.schema}"
    if one.num_rows != other.num_rows:
        return "rows"
    pairs = zip(pa.table(one).columns, pa.table(other).columns, strict=True)
    for number, (column, wanted) in enumerate(pairs):
        if column.to_pylist() != wanted.to_pylist() and repr(column.to_pylist()) != repr(wanted.to_pylist()):
            return f"column {number}"
        if pa.types.is_dictionary(wanted.type) and wanted.num_chunks and _dictionary(column) != _dictionary(wanted):
            return f"the dictionary of column {number}"
    return ""


def _dictionary(column: Any) -> Any:
    return column.chunk(0).dictionary.to_pylist()


def _numpy(one: Any, other: Any) -> str:
    if one.flags.writeable != other.flags.writeable:
        return f"writeable is {one.flags.writeable}"
    if one.dtype != other.dtype or one.shape != other.shape:
        return f"{one.dtype} {one.shape} for {other.dtype} {other.shape}"
    if other.flags.forc and one.flags.f_contiguous != other.flags.f_contiguous:
        return "order"
    if isinstance(other, np.ma.MaskedArray):
        facts = [(a.fill_value, a.hardmask, a.mask is np.ma.nomask) for a in (one, other)]
        return _first(
            [
                *(["facts"] if repr(facts[0]) != repr(facts[1]) else []),
                *([] if repr(one) == repr(other) else ["values"]),
            ]
        )
    if other.dtype.hasobject or other.dtype.kind == "T":
        return _first(
            why for a, b in zip(one.ravel().tolist(), other.ravel().tolist(), strict=True) if (why := unlike(a, b))
        )
    if other.dtype.kind in "fc" and other.dtype.alignment > 8:
        return "" if np.array_equal(one, other, equal_nan=True) else "values"  # padding bytes can have any value
    return "" if one.tobytes() == other.tobytes() else "values"


_COMPARED: list[tuple[Any, Any]] = [
    (pd.DataFrame, _frame),
    (pd.Series, _series),
    (pd.Index, _index),
    (pd.api.extensions.ExtensionArray, _array),
    ((pl.DataFrame, pl.Series), _polars),
    ((pa.Table, pa.RecordBatch), _arrow),
    (np.ndarray, _numpy),
]
