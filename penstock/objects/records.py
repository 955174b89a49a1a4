"""What objects hold: declared fields, defaults of functions, and the values in views, namespaces and arrays of objects.

Fields are declared by dataclasses, attrs classes, msgspec structs and pydantic models.
"""

from __future__ import annotations

import dataclasses
import gc
import types
from collections import ChainMap, OrderedDict
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import force_setattr

from penstock.imported import loaded
from penstock.objects.package_copies import memory_order, put_object
from penstock.objects.questions import ask, has

_DECLARED: tuple[tuple[str, Callable[[Any], tuple[str, ...]]], ...] = (
    ("__dataclass_fields__", lambda kind: tuple(each.name for each in dataclasses.fields(kind))),  # without ClassVars
    ("__pydantic_private__", lambda kind: ("__pydantic_extra__", "__pydantic_private__")),  # the others are in __dict__
    ("__attrs_attrs__", lambda kind: tuple(each.name for each in kind.__attrs_attrs__)),
    ("__struct_fields__", lambda kind: kind.__struct_fields__),
)
"""How a class of each package is recognised, and the names of what its objects hold."""


def is_record(kind: type) -> bool:
    """Return whether a class declares the fields of its objects. A metaclass does not: it has them of its classes."""
    if issubclass(kind, type):
        return False
    try:
        return any(hasattr(kind, mark) for mark, _ in _DECLARED)
    except (Exception, SystemExit):  # noqa: BLE001 (a metaclass is the user's code)
        return any(has(kind, mark) for mark, _ in _DECLARED)


def fields_of(value: Any) -> dict[str, Any] | None:
    """Return the fields and the other attributes of an object by name; None if its class declares no fields."""
    kind = type(value)
    if not is_record(kind):
        return None
    names = next(names(kind) for mark, names in _DECLARED if has(kind, mark))
    held: dict[str, Any] = {name: getattr(value, name) for name in names if has(value, name)}
    held.update(ask(value, "__dict__", {}))
    return held


def set_field(value: Any, name: str, held: Any) -> None:
    """Set a field, also of an object that is frozen."""
    assign = force_setattr if isinstance(value, Struct) else object.__setattr__
    assign(value, name, held)


def defaults_of(function: types.FunctionType) -> dict[str, Any]:
    """Return the defaults of a function's parameters, by name."""
    positional = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = dict(zip(reversed(positional), reversed(function.__defaults__ or ()), strict=False))
    return defaults | (function.__kwdefaults__ or {})


# -- values that are in no fields ------------------------------------------------------------------------------------

_VIEWED: tuple[dict[Any, Any], ...] = ({}, OrderedDict())
VIEWS = {type(getattr(of, name)()): name for of in _VIEWED for name in ("keys", "values", "items")}
"""The types of views of dicts, and the methods that return them."""


def behind_view(value: Any) -> Any:
    """Return what a view of a dict, or a read-only view of a mapping, shows."""
    (behind,) = gc.get_referents(value.mapping if type(value) in VIEWS else value)
    return behind


def has_held_values(value: Any) -> bool:
    """Return whether an object is a view of a mapping, a chain of mappings, a namespace or an array of objects."""
    return type(value) in _HOLDERS or _is_array_of_objects(value)


def held_values(value: Any) -> list[Any]:
    """Return what such an object holds; nothing for other objects."""
    kind = type(value)
    if kind in _VIEWS_OF_MAPPINGS:
        return [behind_view(value)]
    if kind is ChainMap:
        return list(value.maps)
    if kind is types.SimpleNamespace:
        return list(vars(value).values())
    return list(value.ravel().tolist()) if _is_array_of_objects(value) else []


def with_held_values(value: Any, part: Callable[[Any], Any]) -> Any:
    """Return such an object with `part(each)` for each value that it holds."""
    kind = type(value)
    if kind in VIEWS:
        return getattr(part(behind_view(value)), VIEWS[kind])()
    if kind is types.MappingProxyType:
        return types.MappingProxyType(part(behind_view(value)))
    if kind is ChainMap:
        return ChainMap(*map(part, value.maps))
    if kind is types.SimpleNamespace:
        return types.SimpleNamespace(**{name: part(each) for name, each in vars(value).items()})
    new = value.copy(order=memory_order(value))
    for place, each in loaded("numpy").ndenumerate(value):
        put_object(new, place, part(each))
    return new


_VIEWS_OF_MAPPINGS = frozenset({*VIEWS, types.MappingProxyType})
_HOLDERS = _VIEWS_OF_MAPPINGS | {ChainMap, types.SimpleNamespace}


def _is_array_of_objects(value: Any) -> bool:
    numpy = loaded("numpy")
    return numpy is not None and type(value) is numpy.ndarray and value.dtype.kind == "O"
