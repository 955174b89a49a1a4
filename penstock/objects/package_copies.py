"""Copies of objects of data packages: arrays, data frames, tables, collections."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any

from penstock.imported import loaded
from penstock.objects.texts import module_of, package_of

Part = Callable[[Any], Any]
"""Copies an object inside another one; returns it unchanged if it is immutable."""


class CannotCopy(Exception):
    """There is no known way to copy the `value`."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return CannotCopy, (None,)  # it may be pickled as the cause of another error


def package_copy(value: Any, part: Part) -> Any:
    """Return the value itself if it is immutable, else a copy whose inner objects are copied by `part`.

    Raises `CannotCopy` for unknown types.
    """
    package = package_of(type(value))
    of_package = _PACKAGES.get(package)
    module = loaded(package) if of_package is not None else None
    if of_package is None or module is None:
        raise CannotCopy(value)
    return of_package(module, value, part)


def frozen(numpy: Any, array: Any) -> bool:
    """Return whether the memory of an array is read-only, also for the arrays it is a view of."""
    while not array.flags.writeable:
        if not isinstance(array.base, numpy.ndarray):
            return not isinstance(array.base, memoryview) or array.base.readonly
        array = array.base
    return False


def _copy_numpy(numpy: Any, value: Any, part: Part) -> Any:
    if not issubclass(type(value), numpy.ndarray):
        if issubclass(type(value), numpy.generic) and type(value) is not numpy.void:
            return value
        raise CannotCopy(value)
    if value.dtype.hasobject and value.dtype.kind != "T":  # variable-length strings copy like numbers
        if type(value) is not numpy.ndarray or value.dtype.kind != "O":
            raise CannotCopy(value)
        new = value.copy(order=memory_order(value))
        for place, cell in numpy.ndenumerate(value):
            own = part(cell)
            if own is not cell:
                put_object(new, place, own)
    elif frozen(numpy, value):
        return value
    else:
        new = value.copy(order=memory_order(value))
    new.flags.writeable = value.flags.writeable
    return new


def put_object(cells: Any, place: tuple[int, ...], cell: Any) -> None:
    """Assign an object to a cell. Plain assignment would unpack sequences in arrays without dimensions."""
    holder = loaded("numpy").empty((), object)
    holder.fill(cell)
    cells[(*place, ...)] = holder


def memory_order(value: Any) -> Any:
    """Return the memory order that the array would have after storing, so that consumers always see the same one."""
    return "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"


def _copy_pandas(pandas: Any, value: Any, part: Part) -> Any:
    kind = type(value)
    if kind is pandas.DataFrame or kind is pandas.Series or issubclass(kind, pandas.Index):
        # Since pandas 3 a shallow copy is a snapshot (copy on write), but objects in cells are still shared.
        new = value.copy(deep=int(pandas.__version__.split(".")[0]) < 3)
        if kind is pandas.DataFrame:
            for place in range(value.shape[1]):
                if (cells := _changed_cells(value.iloc[:, place], part)) is not None:
                    new.isetitem(place, _column(pandas, cells, new.index))
        elif kind is pandas.Series and (cells := _changed_cells(value, part)) is not None:
            new = _column(pandas, cells, new.index, name=value.name).__finalize__(value)
        return new
    if issubclass(kind, pandas.api.extensions.ExtensionArray):
        return value.copy()
    if kind in (pandas.Timestamp, pandas.Timedelta, pandas.Period, pandas.Interval, type(pandas.NaT), type(pandas.NA)):
        return value
    raise CannotCopy(value)


def _column(pandas: Any, cells: Any, index: Any, **options: Any) -> Any:
    """Return cells as a Series of dtype object, so that pandas infers no other type."""
    return pandas.Series(cells, index, dtype=object, copy=False, **options)


def _changed_cells(column: Any, part: Part) -> Any:
    """Return copies of a column's objects, or None if there are none or all are immutable."""
    if not getattr(column.dtype, "hasobject", False):
        return None
    cells = column.to_numpy()
    own = list(map(part, cells))
    if all(map(operator.is_, own, cells)):
        return None
    new = cells.copy()
    for place, cell in enumerate(own):
        if cell is not cells[place]:
            put_object(new, (place,), cell)
    return new


def _copy_polars(polars: Any, value: Any, part: Part) -> Any:
    if issubclass(type(value), polars.LazyFrame | polars.Expr | polars.DataType):
        return value
    dtypes = value.dtypes if type(value) is polars.DataFrame else [value.dtype] if type(value) is polars.Series else []
    if (not dtypes and type(value) is not polars.DataFrame) or polars.Object in dtypes:
        raise CannotCopy(value)
    return value.clone()  # shares the buffers, which are never written in place


def _copy_arrow(pyarrow: Any, value: Any, part: Part) -> Any:
    if _is_frozen_arrow(pyarrow, value):
        return value
    raise CannotCopy(value)


def _is_frozen_arrow(pyarrow: Any, value: Any) -> bool:
    kinds = ("Table", "RecordBatch", "Array", "ChunkedArray", "Scalar", "Schema", "Field", "DataType")
    kind = type(value)
    return module_of(kind) == "pyarrow._dataset" or issubclass(kind, tuple(getattr(pyarrow, each) for each in kinds))


def is_frozen(value: Any) -> bool:
    """Return whether the value is a table of Arrow or a Dataset, which have no way to be modified."""
    package = package_of(type(value))
    module = loaded(package) if package in ("pyarrow", "ray") else None
    return module is not None and (package == "ray" or _is_frozen_arrow(module, value))


_PACKAGES: dict[str, Callable[[Any, Any, Part], Any]] = {
    "numpy": _copy_numpy, "pandas": _copy_pandas, "polars": _copy_polars, "pyarrow": _copy_arrow,
    "ray": lambda module, value, part: value,  # Datasets and references are immutable
    "dask": lambda module, value, part: copy.copy(value),  # a collection's graph is replaced, never modified
}  # fmt: skip
