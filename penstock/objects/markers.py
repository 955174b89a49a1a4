"""Objects that are compared by identity: markers without any state (`MISSING = object()`), and immutable records.

A copy of a marker is useless, since code asks `value is MISSING`. It is never needed: there is nothing to modify.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import struct
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

from penstock.objects.questions import ask, is_pending

_POINTER = struct.calcsize("P")
_HEAP_TYPE = 1 << 9
"""Set in the flags of a class that a `class` statement makes."""


def is_stateless(value: Any) -> bool:
    """Return whether an object is an `object()`, or an instance of a class of Python code with nothing in it."""
    kind = type(value)
    if kind is object:
        return True
    if is_pending(value) or not is_plain(kind) or _attributes(value):  # only plain classes are asked for anything
        return False
    return not any(True for _ in _filled(value))


def is_marker(value: Any) -> bool:
    """Return whether all users may share an object without state.

    An object that could get attributes must be one that code finds by its name: in the module of its class, or in its
    class. Any other may be there to be filled.
    """
    return is_stateless(value) and (_cannot_be_filled(type(value)) or _is_in(value, *_around(type(value))))


def is_own_marker(fn: Any, value: Any) -> bool:
    """Return whether a default of a function is a marker, or a record that equals only itself, that its code knows."""
    kind = type(value)
    if not is_stateless(value) and not (is_frozen_record(kind) and ask(kind, "__eq__") is object.__eq__):
        return False
    code = inspect.unwrap(fn)
    return _cannot_be_filled(kind) or _is_in(value, ask(code, "__globals__", {}).values(), _cells(code), *_around(kind))


def _cannot_be_filled(kind: type) -> bool:
    return kind is object or not (kind.__dictoffset__ or _slots(kind))


def _around(kind: type) -> Iterator[Iterable[Any]]:
    """Yield what is in the module of a class, in the class and in its bases."""
    if kind.__module__ in sys.modules:
        yield vars(sys.modules[kind.__module__]).values()
    yield from (vars(base).values() for base in kind.__mro__)


def _cells(fn: Any) -> Iterator[Any]:
    for cell in ask(fn, "__closure__") or ():
        with contextlib.suppress(ValueError):  # it has no value yet
            yield cell.cell_contents


def _is_in(value: Any, *spaces: Iterable[Any]) -> bool:
    return any(each is value for space in spaces for each in tuple(space))


def is_frozen_record(kind: type) -> bool:
    """Return whether a class declares its fields, and its objects have nothing else and never other values."""
    if not _answers_itself(kind):
        return False
    own = vars(kind)
    if "__dataclass_params__" in own:
        frozen = own["__dataclass_params__"].frozen and _only_fields(kind, own["__dataclass_fields__"])
    elif "__attrs_attrs__" in own:
        frozen = ask(kind.__setattr__, "__name__") == "_frozen_setattrs"
        frozen = frozen and _only_fields(kind, {each.name for each in own["__attrs_attrs__"]})
    else:
        frozen = bool(ask(ask(kind, "__struct_config__"), "frozen", False))
    return frozen and not any(
        type(each) is functools.cached_property for base in kind.__mro__ for each in vars(base).values()
    )


def fields_of(value: Any) -> list[Any]:
    """Return the values of the fields of a frozen record, and its other attributes."""
    declared = ask(type(value), "__struct_fields__", ())
    held = [getattr(value, name) for name in declared] if declared else _filled(value)
    return [*held, *_attributes(value).values()]


def _only_fields(kind: type, names: Any) -> bool:
    return is_plain(kind) and all(slot.__name__ in names for slot in _slots(kind))


def _answers_itself(kind: type) -> bool:
    """Return whether no code runs when an attribute of the class is read: that of a metaclass may do anything."""
    meta = type(kind)
    return type(meta) is type and meta.__getattribute__ is type.__getattribute__ and not hasattr(meta, "__getattr__")


def is_plain(kind: type) -> bool:
    """Return whether a class and all of its bases consist of Python code, and its objects hold attributes only."""
    read: Any = kind.__getattribute__ if _answers_itself(kind) else None
    if read is not object.__getattribute__:
        return False
    for base in kind.__mro__:
        held = vars(base).get("__dict__")
        if "__getattr__" in vars(base) or not isinstance(held, types.GetSetDescriptorType | None):
            return False  # its attributes may be those of another object
    pointers = len(_slots(kind)) + (kind.__dictoffset__ > 0) + (kind.__weakrefoffset__ > 0)
    size = object.__basicsize__ + _POINTER * pointers
    return bool(kind.__flags__ & _HEAP_TYPE) and kind.__basicsize__ == size and not kind.__itemsize__


def _slots(kind: type) -> list[Any]:
    """Return the slots of a class and its bases."""
    return [each for base in kind.__mro__ for each in vars(base).values() if type(each) is types.MemberDescriptorType]


def _attributes(value: Any) -> dict[str, Any]:
    return value.__dict__ if type(value).__dictoffset__ else {}


def _filled(value: Any) -> Iterator[Any]:
    """Yield what is in the slots of an object."""
    for slot in _slots(type(value)):
        with contextlib.suppress(AttributeError):  # an empty slot
            yield slot.__get__(value)
