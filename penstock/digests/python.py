"""`digest(value)`: stable digests of values, specified in docs/keys.md.

Rules for editors

* The algorithm never changes. Any changed digest is a bug that the golden vectors in the tests detect.
* Every hash is over `tag NUL payload`, and no two kinds of value share a tag, so they cannot collide.
* It is a Merkle digest: a leaf hashes its bytes, a container hashes the digests of its parts. So a `Ref` can replace
  a value anywhere in a structure: it contributes the digest of that value.
* A value without a stable digest raises an error, never gets a weaker digest. Nothing is consumed, mutated or imported.

The registry of user types is global, because a digest must not depend on the caller.
"""

from __future__ import annotations

import array
import collections
import datetime
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
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from blake3 import blake3

from penstock.digests import columns, functions, objects
from penstock.digests.large import Large
from penstock.digests.names import importable_name, stable_module, stable_name
from penstock.digests.refs import Made, OwnDefault, Ref
from penstock.digests.walk import (
    LEAVES,
    MAX_DEPTH,
    SIZE,
    Branch,
    Resolve,
    UndigestibleError,
    Walk,
    hash_buffers,
    hash_int,
    hash_leaf,
    hash_node,
    hash_str,
    hash_type,
    label,
)
from penstock.errors import DigestError
from penstock.objects.questions import ask, has
from penstock.objects.registrations import is_carrying, register, registered_for
from penstock.objects.texts import module_of

__all__ = ["MAX_DEPTH", "SIZE", "combine", "digest", "digest_bytes", "register_digest"]


def digest(value: object, resolve: Resolve | None = None, *, where: str = "value", name: str = "") -> str:
    """Return the digest of a value, which is the same on every Python version, system and process.

    Equal values of one type have equal digests; values of different types differ (`True`, `1` and `1.0` are three
    values). The order of dicts and sets, the layout of arrays and the chunks of tables do not matter. docs/keys.md
    specifies the algorithm.

    Args:
        value: The value. It is neither modified nor consumed.
        resolve: Returns the digest of the value that a `Ref` stands for.
        where: The name of the value in error messages.
        name: The parameter that error messages suggest to exclude from the key, if it is one.

    Returns:
        40 lower-case hexadecimal digits (160 bits of BLAKE3).

    Raises:
        DigestError: A part has no stable digest (a generator, file, lock or unknown type), is a `Ref` without
            `resolve`, or is nested deeper than `MAX_DEPTH`. The error says where it is inside the value.
    """
    return digest_bytes(value, resolve, where=where, name=name).hex()


def digest_bytes(value: object, resolve: Resolve | None = None, *, where: str = "value", name: str = "") -> bytes:
    """Return the 20 bytes of `digest(value, resolve)`."""
    leaf = LEAVES.get(type(value))
    if leaf is not None:
        return leaf(value)
    walk = Walk(resolve, find_branch)
    return walk.run(walk.visit, value, where, name)


def digest_of_default(value: object) -> bytes:
    """Return the digest of a marker that is the default of a parameter."""
    try:
        return digest_bytes(value)
    except DigestError:
        return functions.marker(value)


def combine(tag: str, parts: Iterable[str]) -> str:
    """Return one digest (40 hexadecimal digits) of several strings in order. Different tags give different digests."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    framed = b"".join(b"%d:" % len(part) + part for part in encoded)
    return blake3(b"combine\0%d:" % len(tag.encode()) + tag.encode() + framed).digest(SIZE).hex()


def register_digest(cls: type, fn: Callable[[Any], object]) -> None:
    """Define the digest of instances of a class and its subclasses.

    The digest consists of the class's importable name and the digest of `fn(instance)`. For subclasses, the most
    specific registered class applies. Workers apply it, too, unless they have another one for the class.

    Args:
        cls: The class.
        fn: Returns a value that has a digest and represents the instance in every process. It must not modify or
            consume the instance.

    Raises:
        TypeError: The class has a digest that cannot be replaced.
    """
    if cls in LEAVES or cls in _BUILT_IN or cls is object:
        raise TypeError(f"{cls.__qualname__} has a fixed digest, so none can be registered for it")
    register(cls, fn)
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
        parts = set()  # two Refs in a set may stand for the same value, which then counts once
        for item in tuple(value):  # other threads may add to it
            parts.add(walk.at(".<element>", item))
        return hash_node(tag, sorted(parts))

    return branch


def _pairs(value: Iterable[tuple[Any, Any]], walk: Walk) -> list[bytes]:
    pairs = []
    for key, item in tuple(value):  # other threads may add to it
        key_digest = label(key) if type(key) is str else walk.at(f".<key {_short(key)}>", key)
        leaf = LEAVES.get(type(item))
        pairs.append(key_digest + (leaf(item) if leaf is not None else walk.at(f"[{_short(key)}]", item)))
    return pairs


def _dict(value: Mapping[Any, Any], walk: Walk) -> bytes:
    return hash_node(b"dict", sorted(_pairs(value.items(), walk)))


def _short(value: object) -> str:
    # Shows plain values only: the repr of a user's object may be long, slow or secret.
    text = repr(value) if type(value) in LEAVES else type(value).__qualname__
    return text if len(text) <= 40 else text[:37] + "..."


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
        found = hash_leaf(b"typing", f"{stable_module(importable_name(value)[0])}:{value!r}".encode())
        says = [(name, getattr(value, name, None)) for name in _OF_TYPING]
        if "__default__" in dir(value) and value.has_default():
            says.append(("__default__", value.__default__))
        says = [(name, item) for name, item in says if item not in (None, ())]
        if (meant := _meant(value, walk)) is not None:
            return hash_node(b"meaning", (found, meant))
        return found if not says else hash_node(b"bounded", (found, objects.fields(walk, says)))
    if origin in (typing.Union, types.UnionType):  # one class from Python 3.14 on
        return hash_node(b"union", [walk.at(".__args__", item) for item in arguments])
    return hash_node(b"alias", (walk.at(".__origin__", origin), walk.at(".__args__", arguments)))


def _meant(value: Any, walk: Walk) -> bytes | None:
    """Return the digest of what `type X = …` stands for; None if it has none, or contains itself."""
    meant = ask(value, "__value__") if type(value).__name__ == "TypeAliasType" else None
    if meant is None or walk.stack.count(id(value)) > 1:
        return None
    depth, functions_around = len(walk.stack), len(walk.functions)
    try:
        return walk.at(".__value__", meant)
    except UndigestibleError:
        del walk.stack[depth:], walk.functions[functions_around:]
        return None


_OF_TYPING = ("__supertype__", "__bound__", "__constraints__")


def _slice(value: slice, walk: Walk) -> bytes:
    return hash_node(b"slice", map(walk.of, (value.start, value.stop, value.step)))


def _orderly(tag: bytes, *names: str, items: Branch) -> Branch:
    """Return the branch of a container with attributes besides its items."""

    def branch(value: Any, walk: Walk) -> bytes:
        return hash_node(tag, (*(walk.at(f".{name}", getattr(value, name)) for name in names), items(value, walk)))

    return branch


def _ordered_pairs(value: Mapping[Any, Any], walk: Walk) -> bytes:
    return hash_node(b"pairs", _pairs(value.items(), walk))


_BUILT_IN: dict[type, Branch] = {
    Ref: _ref,
    Large: lambda value, walk: value.digest(walk.of),
    Made: lambda value, _: value.digest,
    OwnDefault: lambda value, _: value.digest(),
    type: functions.class_digest,
    list: _list,
    tuple: _tuple,
    dict: _dict,
    set: _unordered(b"set"),
    frozenset: _unordered(b"frozenset"),
    collections.OrderedDict: _orderly(b"ordereddict", items=_ordered_pairs),
    collections.defaultdict: _orderly(b"defaultdict", "default_factory", items=_dict),
    collections.Counter: _orderly(b"counter", items=_dict),
    collections.deque: _orderly(b"deque", "maxlen", items=lambda value, walk: _list(tuple(value), walk)),
    collections.ChainMap: objects.record(b"chainmap", lambda value: [("maps", value.maps)]),
    types.MappingProxyType: _orderly(b"mappingproxy", items=_dict),
    types.SimpleNamespace: objects.record(b"namespace", lambda value: tuple(vars(value).items())),
    type({}.keys()): _unordered(b"dict_keys"),
    type({}.values()): _sequence(b"dict_values"),
    type({}.items()): _unordered(b"dict_items"),
    type(collections.OrderedDict().keys()): _sequence(b"odict_keys"),
    type(collections.OrderedDict().values()): _sequence(b"odict_values"),
    type(collections.OrderedDict().items()): _sequence(b"odict_items"),
    memoryview: _memoryview,
    array.array: _array,
    slice: _slice,
    datetime.datetime: _datetime,
    datetime.time: _time,
    datetime.timezone: _timezone,
    zoneinfo.ZoneInfo: _zoneinfo,
    re.Pattern: _pattern,
    types.FunctionType: functions.function,
    types.BuiltinFunctionType: functions.builtin,
    types.MethodWrapperType: functions.builtin,
    types.MethodType: functions.method,
    types.ModuleType: functions.module,
    types.MethodDescriptorType: functions.descriptor,
    types.WrapperDescriptorType: functions.descriptor,
    types.ClassMethodDescriptorType: functions.descriptor,
    functools.partial: functions.partial,
    type(functools.lru_cache(len)): lambda value, walk: walk.at(".__wrapped__", value.__wrapped__),
    operator.itemgetter: functions.operator_object,
    operator.attrgetter: functions.operator_object,
    operator.methodcaller: functions.operator_object,
    types.GenericAlias: _alias,
    types.UnionType: _alias,
    # A logger does not affect results, so its name is enough.
    logging.Logger: lambda value, _: hash_leaf(b"logger", value.name.encode()),
    logging.RootLogger: lambda value, _: hash_leaf(b"logger", value.name.encode()),
    **dict.fromkeys(
        (pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.Path), _path
    ),
}

_BRANCHES: dict[type, Branch] = dict(_BUILT_IN)
"""How to digest values by their exact type: built-in ones, and those of installed packages found so far."""


# -- everything else -------------------------------------------------------------------------------------------------


def find_branch(cls: type) -> Branch:
    """Return how values of exactly this class are digested. For unknown types the returned function raises."""
    branch = _BRANCHES.get(cls)
    if branch is not None and (cls in _BUILT_IN or not is_carrying()):
        return branch
    function = registered_for(cls)
    if function is not None:
        return _registered(function)
    if branch is not None:
        return branch
    found = columns.branch_for(cls)
    if found is not None:
        _BRANCHES[cls] = found
        return found
    return objects.branch_for(cls) or (_alias if module_of(cls) == "typing" else _refuse)


def _registered(fn: Callable[[Any], object]) -> Branch:
    def branch(value: Any, walk: Walk) -> bytes:
        return hash_node(b"registered", (hash_type(type(value)), walk.at(".<digest>", fn(value))))

    return branch


def _refuse(value: Any, walk: Walk) -> bytes:
    if (state := functions.state(value, walk)) is not None:
        return state
    kind = stable_name(type(value)).replace(":", ".").lstrip(".")
    if isinstance(value, io.IOBase):
        because = "an open file is not its content (pass its path, and use Files(parameter=...))"
    elif has(type(value), "__next__") or has(type(value), "__anext__"):
        because = "reading it would consume it"
    else:
        because = "nothing defines which parts of it are the same in another process"
    raise UndigestibleError(f"a value of type {kind} has no stable digest", because=because)
