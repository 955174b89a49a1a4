"""Compares two values more strictly than `==`: they are the same if no program can tell them apart.

This includes types, order, signs of zero, NaNs, shared objects, attributes, the set fields of models, dtypes and time
zones. A value is split into a *face*, which is compared by `==` of plain values, and its parts with their paths.
"""

from __future__ import annotations

import array
import collections
import datetime as dt
import decimal
import enum
import fractions
import ipaddress
import pathlib
import re
import struct
import types
import uuid
import zoneinfo
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from penstock.storage.formats.typed.objects import state_of
from penstock.storage.formats.typed.sameness_packages import apart_of_package

Apart = tuple[Any, list[tuple[str, Any]]]
"""The face of a value, and its parts."""


def same(one: Any, other: Any) -> bool:
    """Return whether two values are the same."""
    return difference(one, other) is None


def difference(one: Any, other: Any) -> str | None:
    """Return the path of the first difference, such as `["model"].name`; empty for the value itself, None if none."""
    return _Comparison().of(one, other)


class _Comparison:
    def __init__(self) -> None:
        self._twins: dict[int, tuple[Any, Any]] = {}
        """Pairs of corresponding objects by the id of each, kept alive so that ids stay unique."""

    def of(self, one: Any, other: Any) -> str | None:
        kind = type(one)
        if type(other) is not kind:
            return ""
        if kind in _ATOMS:
            return None if one == other else ""
        if isinstance(one, enum.Flag):  # before 3.11.4, Python creates values with unknown bits anew each time
            return None if one._value_ == other._value_ else ""
        if isinstance(one, _SINGLE):
            return None if one is other else ""
        if not isinstance(one, _IMMUTABLE):
            met = self._twins.get(id(one)) or self._twins.get(id(other))
            if met is not None:
                return None if (met[0] is one or met[0] is other) and (met[1] is other or met[1] is one) else ""
            self._twins[id(one)] = self._twins[id(other)] = (one, other)
            if one is other:
                return None  # already compared; containers may be large
        if isinstance(one, set | frozenset):
            return self._of_sets(one, other)
        face, inside = _apart(one)
        other_face, other_inside = _apart(other)
        if face != other_face or len(inside) != len(other_inside):
            return ""
        for (step, item), (other_step, other_item) in zip(inside, other_inside, strict=True):
            found = "" if step != other_step else self.of(item, other_item)
            if found is not None:
                return step + found
        return None

    def _of_sets(self, one: Any, other: Any) -> str | None:
        partners = {item: item for item in other}
        left = list(other)
        for item in one:
            partner = partners.get(item, item)
            candidates = [partner] if item in partners else left
            twin = next((each for each in candidates if self.of(item, each) is None), None)
            if twin is None and not any(each is None for each in candidates):
                return ".<element>"
        return None if len(one) == len(other) else ""


_ATOMS = frozenset({int, bool, str, bytes, type(None), type(...), type(NotImplemented)})
_SINGLE = (enum.Enum, msgspec.UnsetType, type, types.BuiltinFunctionType, types.ModuleType, zoneinfo.ZoneInfo)
"""Kinds of singletons, compared by identity."""


def _apart(value: Any) -> Apart:
    kind = type(value)
    known = _KNOWN.get(kind)
    if known is not None:
        return known(value)
    found = apart_of_package(value)
    if found is not None:
        return found
    for base in kind.__mro__[1:]:
        if base in _KNOWN:
            face, inside = _KNOWN[base](value)
            return face, [*inside, *_state(value)]
    if state_of(value):
        return None, _state(value)
    return _reduced(value)


def _state(value: Any) -> list[tuple[str, Any]]:
    return [(f".{name}", item) for name, item in sorted(state_of(value).items())]


def _reduced(value: Any) -> Apart:
    """Split an object of an ordinary class into what pickle would write."""
    try:
        found = value.__reduce_ex__(4)
    except Exception:  # noqa: BLE001 (it may raise anything; then only the object's `==` is left)
        return value, []
    if isinstance(found, str):
        return found, []
    return None, [(f".<part {i}>", list(part) if hasattr(part, "__next__") else part) for i, part in enumerate(found)]


def _face(face: Callable[[Any], Any]) -> Callable[[Any], Apart]:
    return lambda value: (face(value), [])


def _items(value: Iterable[Any]) -> list[tuple[str, Any]]:
    return [(f"[{i}]", item) for i, item in enumerate(value)]


def _pairs(value: Any) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, item in value.items():
        found += ((".<key>", key), (f"[{key!r}]" if type(key) in (str, int) else "[…]", item))
    return found


def _bits(value: float) -> bytes:
    return struct.pack(">d", value)


def _moment(value: Any) -> Apart:
    return (value.replace(tzinfo=None).isoformat(), value.fold), [(".tzinfo", value.tzinfo)]


def _function(value: Any) -> Apart:
    held = [(".__defaults__", value.__defaults__), (".__kwdefaults__", value.__kwdefaults__)]
    return (value.__module__, value.__qualname__, value.__code__.co_code), held


_KNOWN: dict[type, Callable[[Any], Apart]] = {
    int: _face(lambda value: int.__index__(value)),
    str: _face(lambda value: str.__str__(value)),
    bytes: _face(lambda value: bytes.__getitem__(value, slice(None))),
    bytearray: _face(bytes),
    float: _face(_bits),
    complex: _face(lambda value: (_bits(value.real), _bits(value.imag))),
    dt.datetime: _moment,
    dt.time: _moment,
    dt.date: _face(lambda value: value.isoformat()),
    dt.timedelta: _face(lambda value: (value.days, value.seconds, value.microseconds)),
    dt.timezone: _face(lambda value: value.__getinitargs__()),
    decimal.Decimal: _face(str),
    fractions.Fraction: _face(lambda value: (value.numerator, value.denominator)),
    uuid.UUID: _face(lambda value: (value.int, value.is_safe.name)),
    pathlib.PurePath: _face(str),
    re.Pattern: _face(lambda value: (type(value.pattern), value.pattern, value.flags)),
    range: _face(lambda value: (value.start, value.stop, value.step)),
    slice: lambda value: (None, [(".start", value.start), (".stop", value.stop), (".step", value.step)]),
    array.array: _face(lambda value: (value.typecode, value.tobytes())),
    memoryview: _face(lambda value: (value.format, value.shape, value.tobytes())),
    **dict.fromkeys(
        (ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network,
         ipaddress.IPv4Interface, ipaddress.IPv6Interface),
        _face(str),
    ),
    list: lambda value: (None, _items(list.__iter__(value))),
    tuple: lambda value: (None, _items(tuple.__iter__(value))),
    collections.deque: lambda value: (value.maxlen, _items(value)),
    dict: lambda value: (None, _pairs(value)),
    collections.OrderedDict: lambda value: (None, _pairs(value)),
    collections.defaultdict: lambda value: (None, [(".default_factory", value.default_factory), *_pairs(value)]),
    collections.Counter: lambda value: (None, _pairs(value)),
    types.MappingProxyType: lambda value: (None, _pairs(value)),
    types.SimpleNamespace: lambda value: (None, [(f".{name}", item) for name, item in vars(value).items()]),
    types.FunctionType: _function,
    msgspec.Struct: lambda value: (
        None, [(f".{name}", getattr(value, name)) for name in value.__struct_fields__]
    ),
    BaseException: lambda value: (str(value.args), [(".args", value.args)]),
}  # fmt: skip
_LEAF_MODULES = ("datetime", "decimal", "fractions", "uuid", "pathlib", "ipaddress", "re")
_IMMUTABLE = (
    tuple, frozenset, float, complex, int, str, bytes, range, slice, types.FunctionType, *(
        kind for kind in _KNOWN if kind.__module__.partition(".")[0] in _LEAF_MODULES
    ),
)  # fmt: skip
"""Immutable kinds, for which sharing does not matter."""
