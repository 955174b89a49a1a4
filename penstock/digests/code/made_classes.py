"""Classes created by calls: `namedtuple`, `NamedTuple`, `Enum`, `TypedDict`, `make_dataclass`, `type`.

They have no class statement, so their attributes are digested instead.
"""

from __future__ import annotations

import abc
import collections
import dataclasses
import enum
import functools
import inspect
import types
import typing
from collections.abc import Iterator
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any

from penstock.digests.code.syntax import has_statement
from penstock.objects.questions import ask

GENERATED = ("<string>", "<attrs")
"""The beginnings of the file names of functions that dataclasses and attrs make."""
_KINDS = (type, abc.ABCMeta, enum.EnumType, typing._TypedDictMeta)  # type: ignore[attr-defined]
"""Metaclasses whose classes contain nothing but what is read here."""
_OF_FIELDS = ("name", "type", "default", "default_factory", "init", "repr", "hash", "compare", "kw_only", "metadata")
_OF_DATACLASSES = ("init", "repr", "eq", "order", "unsafe_hash", "frozen", "match_args", "kw_only", "slots")


def is_made(value: object) -> bool:
    """Return whether a value is a class that was created by a call and can be digested."""
    return isinstance(value, type) and type(value) in _KINDS and not has_statement(value)


def is_placeless(value: object) -> bool:
    """Return whether a value is a class with the wrong module: `make_dataclass` of Python 3.11 sets it to `types`."""
    return isinstance(value, type) and value.__module__ == "types" and not hasattr(types, value.__name__)


def members(cls: type, *, annotated: bool = True) -> Iterator[tuple[str, Any]]:
    """Yield the parts of such a class by name: bases, fields with their defaults, members, attributes, methods.

    Annotations may refer to what does not exist yet (Python 3.14 evaluates them here); `annotated=False` omits them.
    """
    for number, base in enumerate(cls.__bases__):
        yield f"<base {number}>", base
    held = vars(cls)
    if isinstance(cls, enum.EnumType):
        yield "<members>", [(name, member.value) for name, member in _enum_members(cls)]
        return
    if annotated and (annotations := inspect.get_annotations(cls)):
        yield "<annotations>", list(annotations.items())
    for name in ("__required_keys__", "__readonly_keys__"):
        if name in held:
            yield name, held[name]
    named = issubclass(cls, tuple) and "_fields" in held
    if named:
        yield "_fields", held["_fields"]
        yield "_field_defaults", held.get("_field_defaults", {})
    fields: dict[str, Any] = held.get("__dataclass_fields__", {})
    for name, field in fields.items():
        yield f"<field {name}>", [(part, _plain(getattr(field, part))) for part in _OF_FIELDS]
    if "__dataclass_params__" in held:
        how = held["__dataclass_params__"]
        yield "<dataclass>", [(part, getattr(how, part)) for part in _OF_DATACLASSES if hasattr(how, part)]
    for name, item in held.items():
        if not is_machinery(name, item, generated=named or bool(fields)):
            yield name, plain_member(item)


def _enum_members(cls: Any) -> list[tuple[str, Any]]:
    return list(cls.__members__.items())


def _plain(part: Any) -> Any:
    """Return a part of a field; `...` if it is missing."""
    if part is dataclasses.MISSING:
        return ...
    return dict(part) if isinstance(part, collections.abc.Mapping) else part


def plain_member(item: Any) -> Any:
    """Return the functions behind a descriptor, or the item itself."""
    if isinstance(item, staticmethod | classmethod):
        return [type(item).__name__, item.__func__]
    if isinstance(item, property):
        return ["property", item.fget, item.fset, item.fdel]
    return item


def parts(item: Any) -> list[Any]:
    """Return what runs when an attribute of a class is read or called, or the attribute itself."""
    kind = type(item)
    if issubclass(kind, staticmethod | classmethod):
        return [item.__func__]
    if issubclass(kind, property):
        return [part for part in (item.fget, item.fset, item.fdel) if part is not None]
    if issubclass(kind, functools.cached_property):
        return [item.func]
    if issubclass(kind, functools.partialmethod):
        return [functools.partial(item.func, *item.args, **item.keywords)]
    if issubclass(kind, functools.singledispatchmethod):
        return [item.dispatcher, *item.dispatcher.registry.values()]
    return [item]


def fields_of_models(cls: type) -> list[tuple[str, Any]]:
    """Return the fields that pydantic and attrs keep of a class, by name. Their defaults are no attributes of it."""
    held = vars(cls)
    fields, listed = held.get("__pydantic_fields__"), held.get("__attrs_attrs__")
    named = list(fields.items()) if isinstance(fields, dict) else []
    return named + ([(str(ask(field, "name", "")), field) for field in listed] if isinstance(listed, tuple) else [])


def is_machinery(name: str, item: Any, *, generated: bool) -> bool:
    """Return whether Python or a class decorator generated the attribute; these differ between versions."""
    inner = item.__func__ if isinstance(item, staticmethod | classmethod) else item
    if isinstance(inner, FunctionType) and generated:
        home = inner.__globals__.get("__name__")
        by_maker = inner.__code__.co_filename.startswith("<") or {home, inner.__module__} & _MAKERS
        return name.startswith("_") and bool(by_maker)
    if is_special(name):
        return not isinstance(inner, FunctionType | property)
    return is_slot(item) or name == "_abc_impl" or (generated and name in _OF_TUPLES)


def is_slot(item: object) -> bool:
    """Return whether an item is the descriptor of a slot."""
    return isinstance(item, MemberDescriptorType | GetSetDescriptorType) or type(item).__name__ == "_tuplegetter"


_MAKERS = frozenset({"collections", "dataclasses", "reprlib"})
_OF_TUPLES = ("_fields", "_field_defaults")


def is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
