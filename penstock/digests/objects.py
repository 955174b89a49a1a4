"""Digests of objects with fields: enums, named tuples, dataclasses, models, estimators, subclasses of built-in types.

Each is digested by its class and everything it holds, even if its `==` ignores it: fields that are not compared,
attributes besides the fields, which fields of a model were set. Classes are recognised by their attributes, so that
nothing is imported.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from penstock.digests.functions import builtin, class_digest, class_of
from penstock.digests.mocks import kept
from penstock.digests.names import stable_name
from penstock.digests.walk import (
    Branch,
    UndigestibleError,
    Walk,
    attributes,
    hash_leaf,
    hash_node,
    hash_str,
    hash_type,
    label,
)
from penstock.objects.questions import WHERE_PENDING_BELONGS, ask, has, is_mock, is_pending
from penstock.objects.texts import package_of, repr_of


def branch_for(cls: type) -> Branch | None:
    """Return how objects of exactly this class are digested, or None if its kind is unknown."""
    return next((branch for fits, branch in _KINDS if fits(cls)), None)


def fields(walk: Walk, items: Iterable[tuple[str, Any]]) -> bytes:
    """Return the node of named parts, independent of their order."""
    parts = []
    for name, item in items:
        parts.append(label(name) + walk.at(f".{name}", item))
    return hash_node(b"fields", sorted(parts))


def record(tag: bytes, items_of: Callable[[Any], Iterable[tuple[str, Any]]]) -> Branch:
    """Return the branch of a class with named parts."""

    def branch(value: Any, walk: Walk) -> bytes:
        return hash_node(tag, (class_of(value, walk), fields(walk, items_of(value))))

    return branch


def _held(value: Any) -> Iterable[tuple[str, Any]]:
    return attributes(value).items()


# -- models ----------------------------------------------------------------------------------------------------------


def _pydantic(value: Any, walk: Walk) -> bytes:
    # `Patch(id=7)` and `Patch(id=7, name=None)` are equal, but `exclude_unset` distinguishes them.
    was_set = sorted(hash_str(name) for name in ask(value, "__pydantic_fields_set__", ()))
    parts = (class_of(value, walk), fields(walk, _pydantic_items(value)), hash_node(b"set", was_set))
    return hash_node(b"pydantic", parts)


def _pydantic_items(value: Any) -> Iterator[tuple[str, Any]]:
    for part in ("__dict__", "__pydantic_extra__", "__pydantic_private__"):
        held = ask(value, part)
        if isinstance(held, Mapping):
            yield from ((name, item) for name, item in held.items() if not _is_cached_property(value, name))


def _is_cached_property(value: Any, name: str) -> bool:
    found = ask(type(value), name)
    # pydantic wraps computed fields around their property
    return isinstance(ask(found, "wrapped_property", found), functools.cached_property)


def _pydantic_type(value: Any, walk: Walk) -> bytes:
    content = value.get_secret_value() if has(value, "get_secret_value") else str(value)
    return hash_node(b"pydantic_type", (hash_type(type(value)), walk.of(content)))


def _struct_items(value: Any) -> Iterator[tuple[str, Any]]:
    yield from ((name, getattr(value, name)) for name in value.__struct_fields__)
    yield from ask(value, "__dict__", {}).items()


def _estimator_items(value: Any) -> Iterator[tuple[str, Any]]:
    # The number of threads of the machine is not part of the fitted model.
    yield from ((name, item) for name, item in attributes(value).items() if name != "_n_threads")


def _library_object(value: Any, walk: Walk) -> bytes:
    """Return the digest of a scikit-learn object inside an estimator: of its attributes, or else its pickled state."""
    if has(value, "__dict__"):
        return hash_node(b"object", (hash_type(type(value)), fields(walk, _held(value))))
    try:
        make, arguments, *state = value.__reduce__()
    except TypeError as error:
        kind = stable_name(type(value)).replace(":", ".")
        raise UndigestibleError(f"a value of type {kind} has no stable digest", because=str(error)) from error
    plain = [type(item) if isinstance(item, type) else item for item in arguments]
    content = walk.at(".<state>", [plain, *state])
    return hash_node(b"reduced", (hash_type(type(value)), hash_str(stable_name(make)), content))


# -- Python's own ----------------------------------------------------------------------------------------------------


def _enum(value: enum.Enum, walk: Walk) -> bytes:
    # Versions of Python name combinations of flags differently, so only the number counts.
    member = "" if isinstance(value, enum.Flag) else value.name
    return hash_node(b"enum", (class_of(value, walk), label(member), walk.at(".value", value.value)))


def _namedtuple(value: Any, walk: Walk) -> bytes:
    items = [label(name) + walk.at(f".{name}", item) for name, item in zip(value._fields, value, strict=True)]
    return hash_node(b"namedtuple", (class_of(value, walk), *items))


_PLAIN: dict[type, Callable[[Any], Any]] = {
    str: str.__str__,
    int: int.__pos__,
    float: float.__pos__,
    complex: complex.__pos__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    bytearray: lambda value: bytearray.__getitem__(value, slice(None)),
    list: lambda value: list.__getitem__(value, slice(None)),
    tuple: lambda value: tuple.__getitem__(value, slice(None)),
    collections.OrderedDict: lambda value: collections.OrderedDict(collections.OrderedDict.items(value)),
    collections.defaultdict: lambda value: collections.defaultdict(value.default_factory, dict.items(value)),
    dict: lambda value: dict(dict.items(value)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
}


def _subclass(value: Any, walk: Walk) -> bytes:
    """Return the digest of an instance of a subclass of a built-in type: its class, content and attributes."""
    plain = next(take for base, take in _PLAIN.items() if isinstance(value, base))
    content = walk.of(plain(value))
    return hash_node(b"subclass", (class_of(value, walk), content, fields(walk, _held(value))))


def _penstock(value: Any, walk: Walk) -> bytes:
    """Return the digest of an object of Penstock. A task or flow is digested by its function."""
    if is_pending(value):
        because = "it is hidden in an object, and a future has no value yet when the key is computed"
        raise UndigestibleError(f"{repr_of(value)} has no digest", because=because, hint=WHERE_PENDING_BELONGS)
    if callable(ask(value, "fn")):
        return walk.at(".fn", value.fn)
    if dataclasses.is_dataclass(value):
        return _DATACLASS(value, walk)
    kind = stable_name(type(value)).replace(":", ".")
    raise UndigestibleError(f"a value of type {kind} has no stable digest", because="it belongs to this process")


_DATACLASS = record(b"dataclass", _held)


def _is_pydantic(cls: type) -> bool:
    return has(cls, "__pydantic_private__") and has(cls, "__pydantic_fields__")


def _is_estimator(cls: type) -> bool:
    return any(base.__name__ == "BaseEstimator" and package_of(base) == "sklearn" for base in cls.__mro__)


_KINDS: list[tuple[Callable[[type], bool], Branch]] = [
    (lambda cls: issubclass(cls, type), class_digest),
    (lambda cls: issubclass(cls, enum.Enum), _enum),
    (is_mock, kept),
    (lambda cls: issubclass(cls, tuple) and has(cls, "_fields") and cls.__dictoffset__ == 0, _namedtuple),
    (lambda cls: issubclass(cls, tuple(_PLAIN)), _subclass),
    (lambda cls: package_of(cls) == "penstock", _penstock),
    (lambda cls: has(cls, "__dataclass_fields__"), _DATACLASS),
    (_is_pydantic, _pydantic),
    (lambda cls: has(cls, "__attrs_attrs__"), record(b"attrs", _held)),
    (lambda cls: has(cls, "__struct_fields__"), record(b"struct", _struct_items)),
    (lambda cls: cls.__name__ == "PydanticUndefinedType" and package_of(cls) == "pydantic_core",
     lambda _, __: hash_leaf(b"pydantic_undefined", b"")),
    (lambda cls: package_of(cls) in ("pydantic", "pydantic_core")
     and (has(cls, "get_secret_value") or cls.__name__.endswith("Url")), _pydantic_type),
    (_is_estimator, record(b"estimator", _estimator_items)),
    (lambda cls: package_of(cls) == "sklearn", _library_object),
    (lambda cls: package_of(cls).startswith("_cython_"), builtin),
]  # fmt: skip
