"""Each consumer gets a value of its own, as on a cluster: what one task does to it never reaches another or the
cache.

Copies are made where values stay objects of one process: between threads, and inside of a bundle. What nobody can
change is not copied, nor is a value that nobody else will see.
"""

from __future__ import annotations

import array
import copy
import datetime
import decimal
import enum
import fractions
import ipaddress
import operator
import pathlib
import re
import types
import uuid
import zoneinfo
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Any

from penstock.digests.large import frozen
from penstock.errors import SerializationError
from penstock.imported import loaded
from penstock.objects.texts import module_of, package_of

IMMUTABLE: frozenset[type] = frozenset({
    *(int, str, float, bool, type(None), bytes, complex, range, slice, type(...), type(NotImplemented)),
    *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone, zoneinfo.ZoneInfo),
    *(decimal.Decimal, fractions.Fraction, uuid.UUID, re.Pattern),
    *(ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network),
    *(type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType),
})  # fmt: skip
"""Types whose values nobody can change."""
_IMMUTABLE_BASES = (enum.Enum, pathlib.PurePath, type)


class CannotCopy(Exception):
    """How to copy the `value` is not known, or it cannot be done."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return CannotCopy, (None,)  # also where it travels as the cause of another error


def own_copy(value: Any) -> Any:
    """The value itself if nobody can change it, else a copy; raises `CannotCopy` for types whose copying is not
    known.
    """
    if type(value) in IMMUTABLE:
        return value
    try:
        return _copy(value, {})
    except RecursionError:
        raise _too_deep(value) from None


def copied(value: Any) -> Any:
    """As `own_copy`, and other objects as they copy themselves; raises `CannotCopy` for those that do not: locks,
    connections and the like.
    """
    try:
        return own_copy(value)
    except CannotCopy:
        pass
    try:
        return copy.deepcopy(value)
    except RecursionError:
        raise _too_deep(value) from None
    except BaseException as error:
        raise CannotCopy(value) from error


def _too_deep(value: Any) -> SerializationError:
    return SerializationError(
        f"a {type(value).__name__} is nested too deeply",
        because="each of its consumers needs a copy of its own, and Python gives up on so many levels",
        hint="pass flatter data, or text such as JSON",
    )


def _copy(value: Any, done: dict[int, Any]) -> Any:
    """`done` has the copies of what was met already, by identity: what was one object stays one."""
    kind = type(value)
    if kind in IMMUTABLE or issubclass(kind, _IMMUTABLE_BASES):
        return value
    if id(value) in done:
        return done[id(value)]
    of_kind = _CONTAINERS.get(kind)
    if of_kind is not None:
        return of_kind(value, done)
    if issubclass(kind, tuple) and hasattr(kind, "_make") and not kind.__dictoffset__:
        return tuple.__new__(kind, _copy_tuple(tuple(value), done))
    return _copy_known(value, done)


def _parts(values: Iterable[Any], done: dict[int, Any]) -> Iterable[Any]:
    return [v if type(v) in IMMUTABLE else _copy(v, done) for v in values]


def _copy_list(value: Any, done: dict[int, Any]) -> Any:
    new = done[id(value)] = copy.copy(value)
    if not IMMUTABLE.issuperset(map(type, value)):
        new.clear()
        new.extend(_parts(value, done))
    return new


def _copy_dict(value: Any, done: dict[int, Any]) -> Any:
    new = done[id(value)] = copy.copy(value)
    if not IMMUTABLE.issuperset(map(type, value)) or not IMMUTABLE.issuperset(map(type, value.values())):
        new.clear()
        new.update(zip(_parts(value, done), _parts(value.values(), done), strict=True))
    return new


def _copy_set(value: Any, done: dict[int, Any]) -> Any:
    new = set(value) if IMMUTABLE.issuperset(map(type, value)) else set(_parts(value, done))
    done[id(value)] = new
    return new


def _copy_tuple(value: Any, done: dict[int, Any]) -> Any:
    if IMMUTABLE.issuperset(map(type, value)):
        return value
    parts = _parts(value, done)
    if all(map(operator.is_, parts, value)):
        return value
    return done.setdefault(id(value), type(value)(parts))  # a part may have led back to it


_CONTAINERS: dict[type, Callable[[Any, dict[int, Any]], Any]] = {
    list: _copy_list, deque: _copy_list, dict: _copy_dict, OrderedDict: _copy_dict, set: _copy_set,
    tuple: _copy_tuple, frozenset: _copy_tuple, bytearray: lambda value, done: done.setdefault(id(value), value[:]),
    array.array: lambda value, done: done.setdefault(id(value), value[:]),
}  # fmt: skip


def _copy_known(value: Any, done: dict[int, Any]) -> Any:
    package = package_of(type(value))
    of_package = _PACKAGES.get(package)
    module = loaded(package) if of_package is not None else None
    if of_package is None or module is None:
        raise CannotCopy(value)
    new = done[id(value)] = of_package(module, value, done)
    return new


def _copy_numpy(numpy: Any, value: Any, done: dict[int, Any]) -> Any:
    if not issubclass(type(value), numpy.ndarray):
        if issubclass(type(value), numpy.generic) and type(value) is not numpy.void:
            return value
        raise CannotCopy(value)
    if value.dtype.hasobject and value.dtype.kind != "T":  # text of any length is no object: it copies as numbers do
        if type(value) is not numpy.ndarray or value.dtype.kind != "O":
            raise CannotCopy(value)
        new = value.copy(order=_order(value))
        if not IMMUTABLE.issuperset(map(type, value.flat)):
            done[id(value)] = new
            for place, cell in numpy.ndenumerate(value):
                new[place] = _copy(cell, done)
        return new
    return value if frozen(numpy, value) else value.copy(order=_order(value))


def _order(value: Any) -> Any:
    """The order in memory that a stored array has when it is read: a consumer sees the same cold and warm."""
    return "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"


def _copy_pandas(pandas: Any, value: Any, done: dict[int, Any]) -> Any:
    kind = type(value)
    if kind is pandas.DataFrame or kind is pandas.Series or issubclass(kind, pandas.Index):
        # From pandas 3 on a shallow copy is a snapshot (copy on write); the objects in cells are shared even so.
        new = value.copy(deep=int(pandas.__version__.split(".")[0]) < 3)
        if kind is pandas.DataFrame:
            for place in range(value.shape[1]):
                if (cells := _changed_cells(value.iloc[:, place], done)) is not None:
                    new.isetitem(place, cells)
        elif kind is pandas.Series and (cells := _changed_cells(value, done)) is not None:
            new = pandas.Series(cells, new.index, name=value.name, copy=False).__finalize__(value)
        return new
    if issubclass(kind, pandas.api.extensions.ExtensionArray):
        return value.copy()
    if kind in (pandas.Timestamp, pandas.Timedelta, pandas.Period, pandas.Interval, type(pandas.NaT), type(pandas.NA)):
        return value
    raise CannotCopy(value)


def _changed_cells(column: Any, done: dict[int, Any]) -> Any:
    """Copies of a column's objects; None if there are none, or nobody can change them."""
    if not getattr(column.dtype, "hasobject", False):
        return None
    cells = column.to_numpy()
    return None if IMMUTABLE.issuperset(map(type, cells)) else _copy(cells, done)


def _copy_polars(polars: Any, value: Any, done: dict[int, Any]) -> Any:
    if issubclass(type(value), polars.LazyFrame | polars.Expr | polars.DataType):
        return value
    dtypes = value.dtypes if type(value) is polars.DataFrame else [value.dtype] if type(value) is polars.Series else []
    if (not dtypes and type(value) is not polars.DataFrame) or polars.Object in dtypes:
        raise CannotCopy(value)
    return value.clone()  # shares what is never written in place


def _copy_arrow(pyarrow: Any, value: Any, done: dict[int, Any]) -> Any:
    kinds = ("Table", "RecordBatch", "Array", "ChunkedArray", "Scalar", "Schema", "Field", "DataType")
    if module_of(type(value)) == "pyarrow._dataset":
        return value
    if issubclass(type(value), tuple(getattr(pyarrow, kind) for kind in kinds)):
        return value
    raise CannotCopy(value)


_PACKAGES: dict[str, Callable[[Any, Any, dict[int, Any]], Any]] = {
    "numpy": _copy_numpy, "pandas": _copy_pandas, "polars": _copy_polars, "pyarrow": _copy_arrow,
    "ray": lambda module, value, done: value,  # Datasets and references: what they stand for never changes
    "dask": lambda module, value, done: copy.copy(value),  # a collection's graph is never changed, only replaced
}  # fmt: skip
