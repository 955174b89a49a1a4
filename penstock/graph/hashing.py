"""digest(value): the one algorithm that turns values into stable digests, specified in docs/keys.md.

Rules for editors

* There is one algorithm for ever. A change of any digest is a bug, and the golden vectors in the tests say so.
* Every hash is over `tag NUL payload`, and no two kinds of value share a tag, so they cannot collide.
* It is a Merkle digest: a leaf hashes its bytes, a container hashes the digests of its parts. So a `Ref` can stand
  for a value anywhere in a structure: it contributes the digest of the value it stands for.
* A value without a stable digest is an error, never a weaker digest. Nothing is consumed, mutated or imported.

The registry of user types is a module-level table by necessity: a digest must not depend on who asks for it.
"""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import enum
import functools
import io
import logging
import operator
import pathlib
import re
import struct
import types
import typing
import zoneinfo
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from blake3 import blake3

from penstock.graph import callables, columns
from penstock.graph.large import Large
from penstock.graph.merkle import (
    LEAVES,
    MAX_DEPTH,
    SIZE,
    Branch,
    Resolve,
    UndigestibleError,
    Walk,
    attributes,
    hash_buffers,
    hash_int,
    hash_leaf,
    hash_node,
    hash_str,
    hash_type,
    label,
)
from penstock.graph.names import importable_name, stable_module, stable_name
from penstock.graph.refs import Ref

__all__ = ["MAX_DEPTH", "SIZE", "combine", "digest", "digest_bytes", "register_digest"]


def digest(value: object, resolve: Resolve | None = None, *, where: str = "value", name: str = "name") -> str:
    """The digest of a value: 40 lower-case hexadecimal digits, the same on every Python, system and process.

    Equal values of one type have equal digests; values of different types differ (`True`, `1` and `1.0` are three
    values). The order of dicts and sets, the layout of arrays and the chunks of tables do not matter. `resolve` gives
    the digest of what a `Ref` stands for. `where` and `name` only serve the error message: they name the root of the
    value and the parameter to exclude.

    Raises DigestError, with the place inside the value, for what has no stable digest (generators, files, locks,
    unknown types), for a Ref without `resolve`, and for nesting deeper than `MAX_DEPTH`.
    """
    return digest_bytes(value, resolve, where=where, name=name).hex()


def digest_bytes(value: object, resolve: Resolve | None = None, *, where: str = "value", name: str = "name") -> bytes:
    """The 20 bytes of `digest(value, resolve)`."""
    leaf = LEAVES.get(type(value))
    if leaf is not None:
        return leaf(value)
    try:
        return Walk(resolve, find_branch).visit(value)
    except UndigestibleError as problem:
        raise problem.as_error(where, name) from problem.__cause__
    except RecursionError:
        raise UndigestibleError("the value is nested too deeply for the stack that is left").as_error(
            where, name
        ) from None


def combine(tag: str, parts: Iterable[str]) -> str:
    """One digest (40 hexadecimal digits) over strings in order, in the domain named by `tag`."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    framed = b"".join(b"%d:" % len(part) + part for part in encoded)
    return blake3(b"combine\0%d:" % len(tag.encode()) + tag.encode() + framed).digest(SIZE).hex()


def register_digest(cls: type, fn: Callable[[Any], object]) -> None:
    """Give the instances of `cls` and its subclasses a digest: that of `fn(instance)`, any value that has one.

    The class's importable name is part of the digest. The most specific registered class wins. `fn` must not change
    or use up the instance, and must mean the same in every process. Register in the module that defines the class or
    the task, so that drivers and workers agree. Types that already have a digest here keep it: TypeError.
    """
    if cls in LEAVES or cls in _BUILT_IN or cls is object:
        raise TypeError(f"{cls.__qualname__} has one digest for ever; it cannot be registered")
    _REGISTERED[cls] = fn
    for known in [known for known in _BRANCHES if known not in _BUILT_IN and issubclass(known, cls)]:
        del _BRANCHES[known]


# -- containers ------------------------------------------------------------------------------------------------------


def _sequence(tag: bytes) -> Branch:
    prefix = tag + b"\0"

    def branch(value: Any, walk: Walk) -> bytes:
        parts = [prefix]
        try:
            for item in value:
                leaf = LEAVES.get(type(item))
                parts.append(leaf(item) if leaf is not None else walk.visit(item))
        except UndigestibleError as problem:
            problem.steps.append(f"[{len(parts) - 1}]")
            raise
        return blake3(b"".join(parts)).digest(SIZE)

    return branch


_list = _sequence(b"list")
_tuple = _sequence(b"tuple")


def _unordered(tag: bytes) -> Branch:
    def branch(value: Any, walk: Walk) -> bytes:
        parts = set()  # two Refs in a set may stand for one value: the set holds it once
        for item in value:
            parts.add(walk.at(".<element>", item))
        return hash_node(tag, sorted(parts))

    return branch


def _pairs(value: Iterable[tuple[Any, Any]], walk: Walk) -> list[bytes]:
    pairs = []
    for key, item in value:
        key_digest = label(key) if type(key) is str else walk.at(f".<key {_short(key)}>", key)
        leaf = LEAVES.get(type(item))
        pairs.append(key_digest + (leaf(item) if leaf is not None else walk.at(f"[{_short(key)}]", item)))
    return pairs


def _dict(value: Mapping[Any, Any], walk: Walk) -> bytes:
    return hash_node(b"dict", sorted(_pairs(value.items(), walk)))


def _short(value: object) -> str:
    # Only plain values are shown: the repr of a user's object may be long, slow or secret.
    text = repr(value) if type(value) in LEAVES else type(value).__qualname__
    return text if len(text) <= 40 else text[:37] + "..."


def _fields(walk: Walk, items: Iterable[tuple[str, Any]]) -> bytes:
    parts = []
    for name, item in items:
        parts.append(label(name) + walk.at(f".{name}", item))
    return hash_node(b"fields", sorted(parts))


def _record(tag: bytes, items_of: Callable[[Any], Iterable[tuple[str, Any]]]) -> Branch:
    def branch(value: Any, walk: Walk) -> bytes:
        return hash_node(tag, (hash_type(type(value)), _fields(walk, items_of(value))))

    return branch


def _pydantic_items(value: Any) -> Iterator[tuple[str, Any]]:
    for part in ("__dict__", "__pydantic_extra__", "__pydantic_private__"):
        held = getattr(value, part, None) or {}
        yield from ((name, item) for name, item in held.items() if not _is_cached_property(value, name))


def _is_cached_property(value: Any, name: str) -> bool:
    found = getattr(type(value), name, None)
    # pydantic wraps computed fields around their property
    return isinstance(getattr(found, "wrapped_property", found), functools.cached_property)


def _enum(value: enum.Enum, walk: Walk) -> bytes:
    # A combination of flags is named differently by different Pythons: its number says it all.
    member = "" if isinstance(value, enum.Flag) else value.name
    return hash_node(b"enum", (hash_type(type(value)), label(member), walk.at(".value", value.value)))


def _namedtuple(value: Any, walk: Walk) -> bytes:
    items = [label(name) + walk.at(f".{name}", item) for name, item in zip(value._fields, value, strict=True)]
    return hash_node(b"namedtuple", (hash_type(type(value)), *items))


def _memoryview(value: memoryview, walk: Walk) -> bytes:
    flat = value if value.c_contiguous else memoryview(value.tobytes())
    data = hash_buffers(b"data", [flat.cast("B") if flat.nbytes else b""], nbytes=flat.nbytes)
    return hash_node(b"memoryview", (hash_str(value.format), walk.of(value.shape), data))


def _array(value: Any, walk: Walk) -> bytes:
    kind = (
        "u" if value.typecode in "uw" else "f" if value.typecode in "fd" else "i" if value.typecode.islower() else "n"
    )
    little = value if struct.pack("=H", 1) == b"\1\0" else array.array(value.typecode, value)
    if little is not value:
        little.byteswap()
    data = hash_buffers(b"data", [memoryview(little).cast("B")], nbytes=len(value) * value.itemsize)
    return hash_node(b"array", (hash_str(kind), hash_int(value.itemsize), data))


def _datetime(value: datetime.datetime, walk: Walk) -> bytes:
    naive = value.replace(tzinfo=None, fold=0).isoformat(timespec="microseconds")
    return hash_node(b"datetime", (hash_str(naive), hash_int(value.fold), walk.at(".tzinfo", value.tzinfo)))


def _time(value: datetime.time, walk: Walk) -> bytes:
    naive = value.replace(tzinfo=None, fold=0).isoformat(timespec="microseconds")
    return hash_node(b"time", (hash_str(naive), hash_int(value.fold), walk.at(".tzinfo", value.tzinfo)))


def _timezone(value: datetime.timezone, walk: Walk) -> bytes:
    return hash_node(b"timezone", (walk.of(value.utcoffset(None)), hash_str(value.tzname(None))))


def _zoneinfo(value: zoneinfo.ZoneInfo, _: Walk) -> bytes:
    if value.key is None:
        raise UndigestibleError("a ZoneInfo without a key has no stable digest")
    return hash_leaf(b"zoneinfo", value.key.encode())


def _path(value: pathlib.PurePath, walk: Walk) -> bytes:
    tag = b"path" if isinstance(value, pathlib.Path) else type(value).__name__.lower().encode()
    return hash_node(tag, (hash_str(value.as_posix()),))


def _ref(value: Ref, walk: Walk) -> bytes:
    if walk.resolve is None:
        raise UndigestibleError("the result of another node has no digest yet", because="no resolve function was given")
    return bytes.fromhex(walk.resolve(value))


# -- the rest ------------------------------------------------------------------------------------------------------


def _pattern(value: re.Pattern[Any], walk: Walk) -> bytes:
    return hash_node(b"pattern", (walk.of(value.pattern), hash_int(value.flags)))


def _alias(value: Any, walk: Walk) -> bytes:
    origin, arguments = typing.get_origin(value), typing.get_args(value)
    if origin is None:  # Any, a type variable
        return hash_leaf(b"typing", f"{stable_module(importable_name(value)[0])}:{value!r}".encode())
    if origin in (typing.Union, types.UnionType):  # one class from Python 3.14 on
        return hash_node(b"union", [walk.at(".__args__", item) for item in arguments])
    return hash_node(b"alias", (walk.at(".__origin__", origin), walk.at(".__args__", arguments)))


def _slice(value: slice, walk: Walk) -> bytes:
    return hash_node(b"slice", map(walk.of, (value.start, value.stop, value.step)))


def _orderly(tag: bytes, *names: str, items: Branch) -> Branch:
    """A container with attributes besides its items."""

    def branch(value: Any, walk: Walk) -> bytes:
        return hash_node(tag, (*(walk.at(f".{name}", getattr(value, name)) for name in names), items(value, walk)))

    return branch


def _ordered_pairs(value: Mapping[Any, Any], walk: Walk) -> bytes:
    return hash_node(b"pairs", _pairs(value.items(), walk))


_BUILT_IN: dict[type, Branch] = {
    Ref: _ref,
    Large: lambda value, walk: value.digest(walk.of),
    type: lambda value, _: hash_type(value),
    list: _list,
    tuple: _tuple,
    dict: _dict,
    set: _unordered(b"set"),
    frozenset: _unordered(b"frozenset"),
    collections.OrderedDict: _orderly(b"ordereddict", items=_ordered_pairs),
    collections.defaultdict: _orderly(b"defaultdict", "default_factory", items=_dict),
    collections.Counter: _orderly(b"counter", items=_dict),
    collections.deque: _orderly(b"deque", "maxlen", items=_list),
    collections.ChainMap: _record(b"chainmap", lambda value: [("maps", value.maps)]),
    types.MappingProxyType: _orderly(b"mappingproxy", items=_dict),
    types.SimpleNamespace: _record(b"namespace", lambda value: vars(value).items()),
    type({}.keys()): _unordered(b"dict_keys"),
    type({}.values()): _sequence(b"dict_values"),
    type({}.items()): _unordered(b"dict_items"),
    memoryview: _memoryview,
    array.array: _array,
    slice: _slice,
    datetime.datetime: _datetime,
    datetime.time: _time,
    datetime.timezone: _timezone,
    zoneinfo.ZoneInfo: _zoneinfo,
    re.Pattern: _pattern,
    types.FunctionType: callables.function,
    types.BuiltinFunctionType: callables.builtin,
    types.MethodWrapperType: callables.builtin,
    types.MethodType: callables.method,
    types.MethodDescriptorType: callables.descriptor,
    types.WrapperDescriptorType: callables.descriptor,
    types.ClassMethodDescriptorType: callables.descriptor,
    functools.partial: callables.partial,
    type(functools.lru_cache(len)): lambda value, walk: walk.at(".__wrapped__", value.__wrapped__),
    operator.itemgetter: callables.operator_object,
    operator.attrgetter: callables.operator_object,
    operator.methodcaller: callables.operator_object,
    types.GenericAlias: _alias,
    types.UnionType: _alias,
    # A logger says what happens and changes nothing: its name is enough.
    logging.Logger: lambda value, _: hash_leaf(b"logger", value.name.encode()),
    logging.RootLogger: lambda value, _: hash_leaf(b"logger", value.name.encode()),
    **dict.fromkeys(
        (pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.Path), _path
    ),
}

_BRANCHES: dict[type, Branch] = dict(_BUILT_IN)
"""How to digest a value by its exact type: the built-in ones, and what was learned of installed packages."""
_REGISTERED: dict[type, Callable[[Any], object]] = {}


# -- everything else -------------------------------------------------------------------------------------------------


def find_branch(cls: type) -> Branch:
    """How values of exactly this class are digested; the answer for unknown types refuses."""
    branch = _BRANCHES.get(cls)
    if branch is not None:
        return branch
    if _REGISTERED:
        for base in cls.__mro__:
            if base in _REGISTERED:
                return _registered(_REGISTERED[base])
    found = columns.branch_for(cls)
    if found is not None:
        _BRANCHES[cls] = found
        return found
    return next((branch for fits, branch in _KINDS if fits(cls)), _refuse)


def _registered(fn: Callable[[Any], object]) -> Branch:
    def branch(value: Any, walk: Walk) -> bytes:
        return hash_node(b"registered", (hash_type(type(value)), walk.at(".<digest>", fn(value))))

    return branch


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
    dict: lambda value: dict(dict.items(value)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
}


def _subclass(value: Any, walk: Walk) -> bytes:
    """A subclass of a built-in type: its class, its plain content, and what its instance holds besides."""
    plain = next(take for base, take in _PLAIN.items() if isinstance(value, base))
    content = walk.of(plain(value))
    return hash_node(b"subclass", (hash_type(type(value)), content, _fields(walk, attributes(value).items())))


def _refuse(value: Any, _: Walk) -> bytes:
    kind = stable_name(type(value)).replace(":", ".")
    if isinstance(value, io.IOBase):
        because = "an open file is not its content (pass its path, and name it with Files(parameter=...))"
    elif hasattr(value, "__next__") or hasattr(value, "__anext__"):
        because = "reading it would use it up"
    else:
        because = "nothing says what of it is the same in another process"
    raise UndigestibleError(f"a value of type {kind} has no stable digest", because=because)


def _pydantic_type(value: Any, walk: Walk) -> bytes:
    content = value.get_secret_value() if hasattr(value, "get_secret_value") else str(value)
    return hash_node(b"pydantic_type", (hash_type(type(value)), walk.of(content)))


def _own(value: Any, walk: Walk) -> bytes:
    """Penstock's objects: a task or flow counts by its function."""
    if callable(getattr(value, "fn", None)):
        return walk.at(".fn", value.fn)
    return (_data if dataclasses.is_dataclass(value) else _refuse)(value, walk)


_data = _record(b"dataclass", lambda value: attributes(value).items())


def _package(cls: type) -> str:
    return cls.__module__.partition(".")[0]


_KINDS: list[tuple[Callable[[type], bool], Branch]] = [
    (lambda cls: issubclass(cls, type), lambda value, _: hash_type(value)),
    (lambda cls: issubclass(cls, enum.Enum), _enum),
    (lambda cls: issubclass(cls, tuple) and hasattr(cls, "_fields") and cls.__dictoffset__ == 0, _namedtuple),
    (lambda cls: issubclass(cls, tuple(_PLAIN)), _subclass),
    (lambda cls: _package(cls) == "penstock", _own),
    (dataclasses.is_dataclass, _data),
    (lambda cls: hasattr(cls, "__pydantic_private__") and hasattr(cls, "__pydantic_fields__"),
     _record(b"pydantic", _pydantic_items)),
    (lambda cls: hasattr(cls, "__attrs_attrs__"), _record(b"attrs", lambda value: attributes(value).items())),
    (lambda cls: hasattr(cls, "__struct_fields__"),
     _record(b"struct", lambda value: [(name, getattr(value, name)) for name in value.__struct_fields__])),
    (lambda cls: cls.__module__ == "typing", _alias),
    (lambda cls: _package(cls) in ("pydantic", "pydantic_core")
     and (hasattr(cls, "get_secret_value") or cls.__name__.endswith("Url")), _pydantic_type),
]  # fmt: skip
