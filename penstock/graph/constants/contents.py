"""Compares arrays and tables in constants with what they held, by content."""

from __future__ import annotations

import array
import functools
import operator
from collections.abc import Callable
from typing import Any

from penstock.imported import loaded

_MOST_BYTES = 64 * 1024
_MOST_CELLS = 1000
"""Larger arrays and tables are compared by identity."""


def equals(read: Callable[[], Any], value: Any) -> bool:
    return bool(read() == value)


def content_of(value: Any, kind: type) -> Callable[[], bool] | None:
    """Return the comparison of a small array or table with a copy; None for everything else."""
    if issubclass(kind, bytearray | array.array) and len(value) <= _MOST_BYTES:
        return functools.partial(equals, functools.partial(bytes, value), bytes(value))
    numpy, pandas, polars = loaded("numpy"), loaded("pandas"), loaded("polars")
    if numpy is not None and issubclass(kind, numpy.ndarray):
        if value.nbytes > _MOST_BYTES:
            return None
        if value.dtype.hasobject:
            return functools.partial(_same_objects, value.ravel, value.ravel().tolist())
        return functools.partial(equals, functools.partial(_content, value), _content(value))
    tables = [pandas.DataFrame, pandas.Series, pandas.Index] if pandas is not None else []
    tables += [polars.DataFrame, polars.Series] if polars is not None else []
    if issubclass(kind, tuple(tables)) and len(value) * (*value.shape, 1)[1] <= _MOST_CELLS:
        copy, labels = value.clone() if hasattr(value, "clone") else value.copy(), _labels_of(value)
        read = _signs_of(value)
        signs = read()
        return lambda: bool(value.equals(copy)) and bool(_labels_of(value) == labels) and read() == signs
    return None


def _content(array: Any) -> tuple[Any, ...]:
    return array.dtype, array.shape, array.tobytes()


def _signs_of(table: Any) -> Callable[[], list[bytes]]:
    """Return what reads the signs of the numbers in floating-point columns: for `equals`, 0.0 is -0.0."""
    dtypes = [str(each) for each in ([table.dtype] if len(table.shape) == 1 else table.dtypes)]
    floats = [place for place, dtype in enumerate(dtypes) if dtype.lower() in _FLOATS]
    if floats and (len(table.shape) == 1 or _FLOATS.issuperset(dtypes)):
        return lambda: [_signs(table)]  # much faster than one by one
    if hasattr(table, "to_series"):
        return lambda: [_signs(table.to_series(place)) for place in floats]
    return lambda: [_signs(table.iloc[:, place]) for place in floats]


def _signs(numbers: Any) -> bytes:
    numpy, found = loaded("numpy"), numbers.to_numpy()
    if found.dtype.kind != "f":  # with missing values of a nullable type
        found = numbers.to_numpy(dtype=float, na_value=numpy.nan)
    return bytes(numpy.signbit(found).tobytes())


_FLOATS = frozenset({"float16", "float32", "float64", "float[pyarrow]", "double[pyarrow]"})


def _labels_of(table: Any) -> list[Any]:
    """Return what `equals` of pandas does not compare: the names and dtypes of labels, and attributes."""
    axes: list[Any] = [getattr(table, "index", None), getattr(table, "columns", None), table]
    labels = [each for each in axes if hasattr(each, "names")]
    said = [(list(each.names), [str(level.dtype) for level in getattr(each, "levels", [each])]) for each in labels]
    return [*said, getattr(table, "name", None) if len(table.shape) == 1 else None, dict(getattr(table, "attrs", {}))]


def _same_objects(cells: Callable[[], Any], known: list[Any]) -> bool:
    now = cells().tolist()
    return len(now) == len(known) and all(map(operator.is_, now, known))
