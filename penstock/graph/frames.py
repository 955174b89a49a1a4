"""Canonical digests of pandas and polars values: labels, index, dtypes and content count."""

from __future__ import annotations

from typing import Any

from penstock.graph import arrays
from penstock.graph.arrays import object_digests
from penstock.graph.arrow import column_digest
from penstock.graph.merkle import UndigestibleError, Walk, hash_int, hash_leaf, hash_node, hash_str, hash_type


def _pandas_values(value: Any, walk: Walk) -> bytes:
    """The content of a Series, an Index or an extension array, with its dtype."""
    array = value.array if hasattr(value, "array") else value
    dtype = array.dtype
    kind = type(dtype).__name__
    if kind == "NumpyEADtype" or not hasattr(dtype, "na_value"):
        return arrays.ndarray(array.to_numpy(), walk)
    parts: tuple[bytes, ...]
    if kind == "CategoricalDtype":
        codes = array.codes.astype("<i8")
        parts = (pandas_index(dtype.categories, walk), walk.of(bool(dtype.ordered)), arrays.ndarray(codes, walk))
    elif kind == "IntervalDtype":
        parts = (pandas_index(array.left, walk), pandas_index(array.right, walk))
    elif kind in ("DatetimeTZDtype", "PeriodDtype"):
        parts = (arrays.ndarray(array.asi8, walk),)
    elif kind == "SparseDtype":
        parts = (arrays.ndarray(array.to_numpy(), walk), walk.of(dtype.fill_value))
    elif hasattr(array, "__arrow_array__"):
        parts = (_through_arrow(array, walk),)
    else:
        raise UndigestibleError(f"a pandas array of dtype {dtype} has no stable digest")
    return hash_node(b"pandas.array", (hash_str(_dtype_name(dtype)), *parts))


def _dtype_name(dtype: Any) -> str:
    # The name of a category dtype lists its values, and of an Arrow one Arrow's own types: both are digested apart.
    kind = type(dtype).__name__
    return {"CategoricalDtype": "category", "ArrowDtype": "arrow"}.get(kind) or str(dtype)


def _through_arrow(array: Any, walk: Walk) -> bytes:
    import pyarrow as pa

    text = type(array.dtype).__name__ == "StringDtype"
    try:
        # which of Arrow's string types is behind a column of text depends on what is installed
        column = pa.array(array, pa.large_string()) if text else pa.array(array)
    except pa.ArrowException as error:
        raise UndigestibleError(f"a pandas array of dtype {array.dtype} has no stable digest") from error
    return column_digest(column.type, getattr(column, "chunks", [column]), walk)


def pandas_index(value: Any, walk: Walk) -> bytes:
    kind = type(value).__name__
    if kind == "RangeIndex":
        parts = (hash_int(value.start), hash_int(value.step), hash_int(len(value)), walk.at(".name", value.name))
        return hash_node(b"pandas.rangeindex", parts)
    if kind == "MultiIndex":
        levels = [pandas_index(value.get_level_values(number), walk) for number in range(value.nlevels)]
        return hash_node(b"pandas.multiindex", levels)
    return hash_node(b"pandas.index", (walk.at(".name", value.name), _pandas_values(value, walk)))


def pandas_series(value: Any, walk: Walk) -> bytes:
    parts = (walk.at(".name", value.name), pandas_index(value.index, walk), walk.at(".attrs", value.attrs))
    return hash_node(b"pandas.series", (*parts, _pandas_values(value, walk)))


def pandas_frame(value: Any, walk: Walk) -> bytes:
    columns = []
    for number, name in enumerate(value.columns):
        try:
            columns.append(_pandas_values(value.iloc[:, number], walk))
        except UndigestibleError as problem:
            problem.steps.append(f"[{name!r}]")
            raise
    labels, index = pandas_index(value.columns, walk), pandas_index(value.index, walk)
    return hash_node(b"pandas.dataframe", (labels, index, walk.at(".attrs", value.attrs), *columns))


def pandas_time(value: Any, walk: Walk) -> bytes:
    zone = getattr(value, "tzinfo", None)
    parts = (hash_type(type(value)), arrays.scalar(value.asm8, walk), walk.at(".tzinfo", zone))
    return hash_node(b"pandas.time", (*parts, hash_int(getattr(value, "fold", 0))))


def pandas_period(value: Any, walk: Walk) -> bytes:
    return hash_node(b"pandas.period", (hash_int(value.ordinal), hash_str(value.freqstr)))


def pandas_interval(value: Any, walk: Walk) -> bytes:
    parts = (walk.at(".left", value.left), walk.at(".right", value.right), hash_str(value.closed))
    return hash_node(b"pandas.interval", parts)


def pandas_array(value: Any, walk: Walk) -> bytes:
    return hash_node(b"pandas.extensionarray", (_pandas_values(value, walk),))


def pandas_dtype(value: Any, walk: Walk) -> bytes:
    if type(value).__name__ == "CategoricalDtype":
        categories = walk.of(None) if value.categories is None else pandas_index(value.categories, walk)
        return hash_node(b"pandas.category", (categories, walk.of(value.ordered)))
    return hash_leaf(b"pandas.dtype", str(value).encode())


def polars_series(value: Any, walk: Walk) -> bytes:
    return hash_node(b"polars.series", (hash_str(value.name), _polars_values(value, walk)))


def _polars_values(value: Any, walk: Walk) -> bytes:
    import polars as pl
    import pyarrow as pa

    if value.dtype == pl.Object:
        return hash_node(b"polars.objects", object_digests(value.to_list(), walk))
    try:
        column = value.to_arrow(compat_level=pl.CompatLevel.oldest())
    except (pa.ArrowException, pl.exceptions.PolarsError) as error:
        raise UndigestibleError(f"a polars column of type {value.dtype} has no stable digest") from error
    categories = hash_node(b"polars.enum", map(hash_str, value.dtype.categories)) if value.dtype == pl.Enum else b""
    chunks = getattr(column, "chunks", [column])
    return hash_node(b"polars.values", (column_digest(column.type, chunks, walk), categories))


def polars_frame(value: Any, walk: Walk) -> bytes:
    series = [walk.at(f"[{column.name!r}]", column) for column in value.get_columns()]
    return hash_node(b"polars.dataframe", (hash_int(value.height), *series))


def polars_dtype(value: Any, walk: Walk) -> bytes:
    return hash_leaf(b"polars.dtype", str(value).encode())
