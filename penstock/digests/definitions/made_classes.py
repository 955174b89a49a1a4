"""Classes without a class statement: `namedtuple`, `NamedTuple`, `Enum`, `TypedDict`, `make_dataclass`, `type`.

There is no source to read: what they are says what was written.
"""

from __future__ import annotations

import abc
import collections
import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Iterator
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any

from penstock.digests.code.syntax import has_statement

_KINDS = (type, abc.ABCMeta, enum.EnumType, typing._TypedDictMeta)  # type: ignore[attr-defined]
"""Metaclasses whose classes hold nothing else than what is read here."""
_OF_FIELDS = ("name", "type", "default", "default_factory", "init", "repr", "hash", "compare", "kw_only", "metadata")
_OF_DATACLASSES = ("init", "repr", "eq", "order", "unsafe_hash", "frozen", "match_args", "kw_only", "slots")


def is_made(value: object) -> bool:
    """Whether it is a class that a call has made, of a kind that can be read."""
    return isinstance(value, type) and type(value) in _KINDS and not has_statement(value)


def is_placeless(value: object) -> bool:
    """Whether it is a class that does not say whose it is: `make_dataclass` puts those of Python 3.11 into `types`."""
    return isinstance(value, type) and value.__module__ == "types" and not hasattr(types, value.__name__)


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """What such a class is made of, by name: bases, fields with their defaults, members, attributes, methods."""
    for number, base in enumerate(cls.__bases__):
        yield f"<base {number}>", base
    held = vars(cls)
    if isinstance(cls, enum.EnumType):
        yield "<members>", [(name, member.value) for name, member in _enum_members(cls)]
        return
    if annotations := inspect.get_annotations(cls):
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
        if not _is_machinery(name, item, generated=named or bool(fields)):
            yield name, plain_member(item)


def _enum_members(cls: Any) -> list[tuple[str, Any]]:
    return list(cls.__members__.items())


def _plain(part: Any) -> Any:
    """A part of a field; `...` says that there is none."""
    if part is dataclasses.MISSING:
        return ...
    return dict(part) if isinstance(part, collections.abc.Mapping) else part


def plain_member(item: Any) -> Any:
    """The functions behind the descriptors that classes hold."""
    if isinstance(item, staticmethod | classmethod):
        return [type(item).__name__, item.__func__]
    if isinstance(item, property):
        return ["property", item.fget, item.fset, item.fdel]
    return item


def _is_machinery(name: str, item: Any, *, generated: bool) -> bool:
    """What Python and its class makers add by themselves, which is another in each version."""
    inner = item.__func__ if isinstance(item, staticmethod | classmethod) else item
    if isinstance(inner, FunctionType) and generated:
        by_maker = inner.__code__.co_filename.startswith("<") or inner.__module__ in ("collections", "dataclasses")
        return name.startswith("_") and by_maker
    if is_special(name):
        return not isinstance(inner, FunctionType | property)
    return is_slot(item) or name == "_abc_impl" or (generated and name in _OF_TUPLES)


def is_slot(item: object) -> bool:
    """Whether it is what a class holds in the place of its instances' field."""
    return isinstance(item, MemberDescriptorType | GetSetDescriptorType) or type(item).__name__ == "_tuplegetter"


_OF_TUPLES = ("_fields", "_field_defaults")


def is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
