"""Private copies of values that pass from one call to the next, and snapshots of arguments.

Immutable values are not copied. The type decides whether and how a value is copied. Objects of unknown types, which
could only be copied by their own code, are refused or left to the caller.
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
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any

from penstock.errors import SerializationError
from penstock.objects.markers import fields_of, is_frozen_record, is_marker
from penstock.objects.named import found_at
from penstock.objects.package_copies import CannotCopy, is_frozen, package_copy
from penstock.objects.questions import has
from penstock.objects.record_copies import record_copy
from penstock.objects.records import VIEWS, behind_view

IMMUTABLE: frozenset[type] = frozenset({
    *(int, str, float, bool, type(None), bytes, complex, range, slice, type(...), type(NotImplemented)),
    *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone, zoneinfo.ZoneInfo),
    *(decimal.Decimal, fractions.Fraction, uuid.UUID, re.Pattern),
    *(ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network),
    *(type, types.ModuleType),
})  # fmt: skip
"""Types of immutable values."""
_IMMUTABLE_BASES = (enum.Enum, pathlib.PurePath, type)


class Done(dict[int, Any]):
    """The copies made so far, by the identity of the originals, so that shared objects stay shared.

    A memo of `copy.deepcopy`, too.
    """

    by_fields: type | tuple[type, ...] = ()
    """The classes whose objects are copied field by field if they declare these, before they count as unknown."""

    def unknown(self, value: Any) -> Any:
        """Return what replaces a part of an unknown type. Raises `CannotCopy` if there is nothing."""
        raise CannotCopy(value)


class AsFar(Done):
    """The copies of the parts of one value, of which those of unknown types are kept, and added to `shared`."""

    by_fields = object

    def __init__(self, shared: list[Any]) -> None:
        super().__init__()
        self.shared = shared

    def of(self, value: Any) -> Any:
        """Return a copy like `copy_as_far`. Raises `RecursionError`."""
        return copy_as_far(value, self.shared, self)

    def unknown(self, value: Any) -> Any:
        self.shared.append(value)
        return value


def own_copy(value: Any) -> Any:
    """Return the value itself if it is immutable, else a copy. Raises `CannotCopy` for unknown types."""
    if type(value) in IMMUTABLE:
        return value
    try:
        return _copy(value, Done())
    except RecursionError:
        raise too_deep(value) from None


def copy_into(value: Any, done: Done) -> Any:
    """Return a copy like `own_copy`, with what `done` contains in place of parts that were copied before."""
    return value if type(value) in IMMUTABLE else _copy(value, done)


def immutable(value: Any) -> bool:
    """Return whether all users may share the value: nothing that it consists of can be modified."""
    stack, seen = [value], set()
    while stack:
        part = stack.pop()
        kind = type(part)
        if kind in IMMUTABLE or issubclass(kind, _IMMUTABLE_BASES) or id(part) in seen:
            continue
        if kind is tuple or kind is frozenset or _is_named_tuple(kind):
            seen.add(id(part))
            if not IMMUTABLE.issuperset(map(type, part)):
                stack.extend(part)
        elif kind is types.BuiltinFunctionType:
            stack.append(part.__self__)
        elif kind is types.FunctionType:
            if not _holds_nothing(part):
                return False
        elif is_frozen_record(kind):
            seen.add(id(part))
            stack.extend(fields_of(part))
        elif not is_frozen(part) and not is_marker(part):
            return False
    return True


def copy_as_far(value: Any, shared: list[Any], done: Done | None = None) -> Any:
    """Return a copy like `own_copy`, also of objects whose class declares their fields.

    Parts of unknown types are kept and added to `shared`. `done` contains what was copied before.
    """
    if type(value) is types.FunctionType:
        if not _holds_nothing(value):
            shared.append(value)  # its parts may be mutable
        return value
    return copy_into(value, AsFar(shared) if done is None else done)


def too_deep(value: Any) -> SerializationError:
    """Return the error for a value that exceeds Python's recursion limit."""
    return SerializationError(
        f"a {type(value).__name__} is nested too deeply",
        because="every consumer needs its own copy, and copying it exceeds Python's recursion limit",
        hint="pass flatter data, or a text format such as JSON",
    )


def _copy(value: Any, done: Done) -> Any:
    kind = type(value)
    if kind in IMMUTABLE or issubclass(kind, _IMMUTABLE_BASES):
        return value
    if id(value) in done:
        return done[id(value)]
    if _is_named_tuple(kind):
        return tuple.__new__(kind, _copy_tuple(tuple(value), done))
    of_kind = _CONTAINERS.get(kind)
    try:
        if of_kind is not None:
            return of_kind(value, done)
        new = package_copy(value, lambda part: copy_into(part, done))
    except CannotCopy as error:
        if error.value is not value:
            raise  # a part of it cannot be copied
        if is_marker(value):
            return value
        if issubclass(kind, done.by_fields):
            new = _copy_object(value, done)
        elif is_frozen_record(kind) and immutable(value):
            return value
        else:
            new = done.unknown(value)
    return done.setdefault(id(value), new)


def _copy_object(value: Any, done: Done) -> Any:
    def begin(new: Any) -> None:
        done[id(value)] = new  # a part may refer back to it

    def part(held: Any) -> Any:
        if type(held) in IMMUTABLE:
            return held
        done.setdefault(id(done), []).append(held)  # if a property has made it, no other object may get its id
        return _copy(held, done)

    try:
        return record_copy(value, begin, part)
    except CannotCopy:
        return done.unknown(value)


def _is_named_tuple(kind: type) -> bool:
    return issubclass(kind, tuple) and has(kind, "_make") and not kind.__dictoffset__


def _parts(values: Iterable[Any], done: Done) -> list[Any]:
    return [v if type(v) in IMMUTABLE else _copy(v, done) for v in values]


def _copy_list(value: Any, done: Done) -> Any:
    new = done[id(value)] = copy.copy(value)
    if not IMMUTABLE.issuperset(map(type, value)):
        new.clear()
        new.extend(_parts(value, done))
    return new


def _copy_dict(value: Any, done: Done) -> Any:
    new = done[id(value)] = copy.copy(value)
    if not IMMUTABLE.issuperset(map(type, value)) or not IMMUTABLE.issuperset(map(type, value.values())):
        new.clear()
        for key, part in zip(_parts(value, done), _parts(value.values(), done), strict=True):
            new[key] = part  # a Counter's update would add
    return new


def _copy_set(value: Any, done: Done) -> Any:
    new = set(value) if IMMUTABLE.issuperset(map(type, value)) else set(_parts(value, done))
    done[id(value)] = new
    return new


def _copy_tuple(value: Any, done: Done) -> Any:
    if IMMUTABLE.issuperset(map(type, value)):
        return value
    parts = _parts(value, done)
    if all(map(operator.is_, parts, value)):
        return value
    return done.setdefault(id(value), type(value)(parts))  # a part may refer back to it


def _copy_proxy(value: Any, done: Done) -> Any:
    """Return a read-only view of a copy: the underlying mapping can be modified."""
    return done.setdefault(id(value), types.MappingProxyType(_copy(behind_view(value), done)))


def _copy_view(value: Any, done: Done) -> Any:
    """Return the same kind of view of a copy of the dict."""
    return done.setdefault(id(value), getattr(_copy(behind_view(value), done), VIEWS[type(value)])())


def _copy_memory(value: Any, done: Done) -> Any:
    """Return a view of a copy of the bytes, with the same format and shape."""
    try:
        if value.readonly and type(value.obj) is bytes:
            return value
        new = memoryview(bytearray(value.tobytes()))
        if (value.format, value.ndim) != ("B", 1):
            new = new.cast(value.format, value.shape)
    except (ValueError, TypeError):  # released, or of a format that does not support casting
        raise CannotCopy(value) from None
    return done.setdefault(id(value), new.toreadonly() if value.readonly else new)


def _holds_nothing(fn: types.FunctionType) -> bool:
    """Return whether a function has no state of its own, or is one of a module, whose state belongs to the process."""
    if not (fn.__closure__ or vars(fn)) and immutable((fn.__defaults__, *(fn.__kwdefaults__ or {}).values())):
        return True
    found = found_at(fn.__module__ or "", fn.__qualname__)
    return (found.__func__ if isinstance(found, staticmethod) else found) is fn


def _copy_function(value: Any, done: Done) -> Any:
    """Return a function of the same code with copies of what it holds. Variables that functions share stay shared."""
    if _holds_nothing(value):
        return value
    cells = tuple(done.setdefault(id(cell), types.CellType()) for cell in value.__closure__ or ())
    new = types.FunctionType(value.__code__, value.__globals__, value.__name__, None, cells or None)
    done[id(value)] = new
    for own, cell in zip(cells, value.__closure__ or (), strict=True):
        if not _is_set(own) and _is_set(cell):
            own.cell_contents = cell.cell_contents  # whoever refers back to it finds it
            own.cell_contents = _copy(cell.cell_contents, done)
    new.__defaults__ = _copy(value.__defaults__, done)
    new.__kwdefaults__ = _copy(value.__kwdefaults__, done)
    vars(new).update(_copy(vars(value), done))
    new.__qualname__, new.__module__, new.__doc__ = value.__qualname__, value.__module__, value.__doc__
    annotate = getattr(value, "__annotate__", None)
    if annotate is None:
        new.__annotations__ = dict(value.__annotations__)
    else:  # Python 3.14 evaluates annotations when they are read
        setattr(new, "__annotate__", annotate)  # noqa: B010 (there is none before)
    return new


def _is_set(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 (it raises if there is nothing)
    except ValueError:
        return False
    return True


def _copy_builtin(value: Any, done: Done) -> Any:
    """Return a method of a copy of the object that it belongs to; a function of a module itself."""
    owner = value.__self__
    return value if owner is None or immutable(owner) else getattr(_copy(owner, done), value.__name__)


def _copy_method(value: Any, done: Done) -> Any:
    owner = value.__self__
    return value if immutable(owner) else types.MethodType(value.__func__, _copy(owner, done))


def _copy_namespace(value: Any, done: Done) -> Any:
    new = done[id(value)] = types.SimpleNamespace()
    vars(new).update(zip(vars(value), _parts(vars(value).values(), done), strict=True))
    return new


_CONTAINERS: dict[type, Callable[[Any, Done], Any]] = {
    list: _copy_list, deque: _copy_list, dict: _copy_dict, OrderedDict: _copy_dict, defaultdict: _copy_dict,
    Counter: _copy_dict, set: _copy_set, tuple: _copy_tuple, frozenset: _copy_tuple,
    bytearray: lambda value, done: done.setdefault(id(value), value[:]),
    array.array: lambda value, done: done.setdefault(id(value), value[:]),
    types.FunctionType: _copy_function, types.BuiltinFunctionType: _copy_builtin, types.MethodType: _copy_method,
    types.MappingProxyType: _copy_proxy, types.SimpleNamespace: _copy_namespace, memoryview: _copy_memory,
    **dict.fromkeys(VIEWS, _copy_view),
}  # fmt: skip
