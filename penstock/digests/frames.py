"""Canonical digests of pandas values, based on labels, index, dtypes and content."""

from __future__ import annotations

from typing import Any

from penstock.digests import numpy as arrays
from penstock.digests.arrow import column_digest, text_digest
from penstock.digests.arrow_types.types import is_named_completely, type_digest
from penstock.digests.walk import UndigestibleError, Walk, hash_int, hash_leaf, hash_node, hash_str, hash_type
from penstock.digests.zones import zone_name


def _values(value: Any, walk: Walk) -> bytes:
    """Return the digest of the content and dtype of a Series, an Index or an extension array."""
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
        parts = (_values(array.left, walk), _values(array.right, walk))
    elif kind in ("DatetimeTZDtype", "PeriodDtype"):
        parts = (arrays.ndarray(array.asi8, walk),)
    elif kind == "SparseDtype":
        parts = (arrays.ndarray(array.to_numpy(), walk), _fill_value(dtype, walk))
    elif kind == "StringDtype":
        parts = (text_digest(array),)  # however pandas stores it; the name distinguishes dtypes
    elif hasattr(array, "__arrow_array__"):
        parts = (_through_arrow(array, walk),)
    else:
        raise UndigestibleError(f"a pandas array of dtype {dtype} has no stable digest")
    return hash_node(b"pandas.array", (hash_str(_dtype_name(dtype)), *parts))


def _dtype_name(dtype: Any) -> str:
    # The names of category dtypes list values, and those of Arrow dtypes Arrow types: both are digested separately.
    kind = type(dtype).__name__
    if kind == "DatetimeTZDtype":  # pandas 2 and 3 use zone objects of different packages
        return f"datetime64[{dtype.unit}, {zone_name(dtype.tz)}]"
    if kind == "SparseDtype":  # its own name contains the notation of the fill value
        return f"Sparse[{dtype.subtype}]"
    return {"CategoricalDtype": "category", "ArrowDtype": "arrow"}.get(kind) or str(dtype)


def _fill_value(dtype: Any, walk: Walk) -> bytes:
    """Return the digest of a fill value, converted to the dtype: pandas returns either `0` or `numpy.int64(0)`."""
    import numpy as np

    try:
        return arrays.scalar(np.asarray(dtype.fill_value, dtype.subtype), walk)
    except (TypeError, ValueError):
        return walk.of(dtype.fill_value)


def _through_arrow(array: Any, walk: Walk) -> bytes:
    import pyarrow as pa

    try:
        column = pa.array(array)
    except pa.ArrowException as error:
        raise UndigestibleError(f"a pandas array of dtype {array.dtype} has no stable digest") from error
    return column_digest(column.type, getattr(column, "chunks", [column]), walk)


def pandas_index(value: Any, walk: Walk) -> bytes:
    """Return the digest of an index of any kind, of rows or columns."""
    return _labels(value, walk, True)


def _labels(value: Any, walk: Walk, frequency: bool) -> bytes:
    # The frequency of a level does not count: pandas sometimes keeps that of the original values.
    kind = type(value).__name__
    if kind == "RangeIndex":
        parts = (hash_int(value.start), hash_int(value.step), hash_int(len(value)), walk.at(".name", value.name))
        return hash_node(b"pandas.rangeindex", parts)
    if kind == "MultiIndex":
        return hash_node(b"pandas.multiindex", [_level(value, number, walk) for number in range(value.nlevels)])
    name = walk.at(".name", value.name)
    if _are_texts(value):
        return hash_node(b"pandas.labels", (name, text_digest(value.array)))
    if kind in ("DatetimeIndex", "TimedeltaIndex"):
        return hash_node(
            b"pandas.timeindex", (name, _values(value, walk), walk.of(value.freqstr if frequency else None))
        )
    return hash_node(b"pandas.index", (name, _values(value, walk)))


def _level(index: Any, number: int, walk: Walk) -> bytes:
    """Return the digest of one level of a MultiIndex."""
    values, level = index.get_level_values(number), index.levels[number]
    if values.dtype == level.dtype:
        return _labels(values, walk, False)
    # The dtype cannot hold missing labels. pandas has converted them all, integers to floats, which merges large ones.
    import numpy as np
    import pandas as pd

    codes = np.asarray(index.codes[number])
    present = level.take(codes[codes >= 0])
    if type(present) is pd.RangeIndex:  # whether pandas creates ranges depends on its version
        present = pd.Index(list(present), dtype="int64", name=present.name)
    return hash_node(b"pandas.gaps", (arrays.ndarray(codes < 0, walk), _labels(present, walk, False)))


def _are_texts(index: Any) -> bool:
    """Return whether all labels are text, whose dtype (`object`, `str`, `string`) depends on the version of pandas."""
    import pandas as pd

    if index.dtype != object and type(index.dtype).__name__ != "StringDtype":
        return False
    return len(index) == 0 or pd.api.types.infer_dtype(index, skipna=False) == "string"


def pandas_series(value: Any, walk: Walk) -> bytes:
    parts = (walk.at(".name", value.name), pandas_index(value.index, walk), walk.at(".attrs", value.attrs))
    return _flagged(value, hash_node(b"pandas.series", (*parts, _values(value, walk))))


def pandas_frame(value: Any, walk: Walk) -> bytes:
    columns = []
    for number, name in enumerate(value.columns):
        try:
            columns.append(_values(value.iloc[:, number], walk))
        except UndigestibleError as problem:
            problem.steps.append(f"[{name!r}]")
            raise
    labels, index = _column_labels(value.columns, walk), pandas_index(value.index, walk)
    found = hash_node(b"pandas.dataframe", (labels, index, walk.at(".attrs", value.attrs), *columns))
    return _flagged(value, found)


def _flagged(value: Any, found: bytes) -> bytes:
    """Return another digest for objects that refuse duplicate labels: their methods raise where others do not."""
    return found if value.flags.allows_duplicate_labels else hash_node(b"pandas.uniquelabels", (found,))


def _column_labels(value: Any, walk: Walk) -> bytes:
    """Return the digest of an index, with ranges as numbers: whether pandas creates ranges depends on its version."""
    import pandas as pd

    if type(value) is pd.RangeIndex:
        value = pd.Index(list(value), dtype="int64", name=value.name)
    return pandas_index(value, walk)


def pandas_time(value: Any, walk: Walk) -> bytes:
    zone = getattr(value, "tzinfo", None)
    # With a zone, the instant determines which of two equal wall-clock times is meant; without one, `fold` does.
    which = hash_int(getattr(value, "fold", 0)) if zone is None else hash_str(zone_name(zone))
    return hash_node(b"pandas.time", (hash_type(type(value)), arrays.scalar(value.asm8, walk), which))


def pandas_period(value: Any, walk: Walk) -> bytes:
    return hash_node(b"pandas.period", (hash_int(value.ordinal), hash_str(value.freqstr)))


def pandas_interval(value: Any, walk: Walk) -> bytes:
    parts = (walk.at(".left", value.left), walk.at(".right", value.right), hash_str(value.closed))
    return hash_node(b"pandas.interval", parts)


def pandas_array(value: Any, walk: Walk) -> bytes:
    return hash_node(b"pandas.extensionarray", (_values(value, walk),))


def pandas_dtype(value: Any, walk: Walk) -> bytes:
    if type(value).__name__ == "CategoricalDtype":
        categories = walk.of(None) if value.categories is None else pandas_index(value.categories, walk)
        return hash_node(b"pandas.category", (categories, walk.of(value.ordered)))
    found = hash_leaf(b"pandas.dtype", _dtype_name(value).encode() if hasattr(value, "tz") else str(value).encode())
    if type(value).__name__ == "ArrowDtype" and not is_named_completely(value.pyarrow_dtype):
        return hash_node(b"pandas.arrow", (found, type_digest(value.pyarrow_dtype, walk)))
    return found
