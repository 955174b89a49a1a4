"""Where code that counts in a key is found by name, and digests of what is there.

A place is the name of a module and a path in it, `Scale.scaled`. What is there is digested by the rules of keys: a
function with its defaults and closure, a class by its bases, methods, attributes and fields, a constant by its value.
The code of functions is taken as it was compiled, because driver and workers have one version of Python, and because a
file may say something else by now. Only where a loader has changed the code (as test runners do) counts the source.
"""

from __future__ import annotations

import enum
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.machinery import SourceFileLoader
from types import FunctionType, ModuleType
from typing import Any

from penstock.digests.code.byte_code import behaviour_digest
from penstock.digests.code.syntax import function_code_digest
from penstock.digests.definitions.made_classes import is_special, members, plain_member
from penstock.digests.functions import function_content
from penstock.digests.names import MAIN_NAMES
from penstock.digests.python import find_branch
from penstock.digests.walk import Walk
from penstock.errors import DigestError
from penstock.objects.texts import kind_name, module_of

Place = tuple[str, str]
"""A module, and the path of a name in it; an empty path is the module itself."""
Contents = dict[str, str]
"""Digests of 16 hexadecimal digits: of the object under the empty name, and of its attributes by name."""
CODE = (FunctionType, property, classmethod, staticmethod, functools.cached_property)

_Names = list[tuple[str, str, Any]]
_LEFT_OUT = frozenset({"__dict__", "__weakref__", "__doc__", "__module__", "__wrapped__"})


def places_of(reached: Iterable[tuple[Any, _Names]]) -> Iterator[tuple[Place, Any]]:
    """Yield the places where workers find these pieces of code and the names they use, and what is there here.

    Nothing that is sent to workers by value: the code of scripts, notebooks and tasks, and the constants it uses.
    """
    for value, names in reached:
        home = own_place(value)
        if home is not None:
            yield home, value
        for module, name, found in names:
            by_name = home is not None or module != _module_of(value)
            if by_name and module not in MAIN_NAMES and found_at((module, name)) is found:
                yield (module, name), found


def own_place(value: Any) -> Place | None:
    """Return where a function, class or module can be imported from."""
    if isinstance(value, ModuleType):
        place = value.__name__, ""
    elif isinstance(value, FunctionType):
        place = _module_of(value), value.__qualname__
    elif isinstance(value, type):
        place = _module_of(value), kind_name(value)
    else:
        return None
    return place if place[0] not in MAIN_NAMES and found_at(place) is value else None


def _module_of(value: Any) -> str:
    if isinstance(value, FunctionType):
        return str(value.__globals__.get("__name__"))
    return module_of(value) if isinstance(value, type) else str(getattr(value, "__name__", ""))


def found_at(place: Place) -> Any:
    """Return the object at a place in a loaded module; `MISSING` if there is none. Runs no code of users' objects."""
    value: Any = sys.modules.get(place[0], MISSING)
    for name in place[1].split(".") if place[1] else ():
        value = inspect.getattr_static(value, name, MISSING)
    return value


MISSING = object()


def is_changed_by_its_loader(module: str) -> bool:
    """Return whether a module may run other code than its source compiles to."""
    loaded = sys.modules.get(module)
    return loaded is not None and type(vars(loaded).get("__loader__")) is not SourceFileLoader


def parts_of(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield an object under the empty name, and the attributes that count with it. Of a module, what it defines."""
    if isinstance(value, ModuleType):
        for name, item in list(vars(value).items()):
            if isinstance(item, FunctionType | type) and _module_of(item) == value.__name__:
                yield from _inside(name, item)
        return
    yield "", value
    if isinstance(value, FunctionType):
        yield from ((name, item) for name, item in vars(value).items() if name not in _LEFT_OUT)
    elif isinstance(value, type):
        for name, item in members(value, annotated=False):
            if isinstance(item, type) and kind_name(item) == f"{kind_name(value)}.{name}":
                yield from _inside(name, item)
            elif name not in _LEFT_OUT and not _is_generated(name, item):
                yield name, item
        yield from _defaults_of_models(value)
        if isinstance(value, enum.EnumType):  # of these, only the members were listed
            for name, item in vars(value).items():
                if isinstance(item, CODE) and _is_written_in(item, value):
                    yield name, plain_member(item)


def _inside(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    return ((f"{name}.{inner}".rstrip("."), part) for inner, part in parts_of(value))


def _is_generated(name: str, item: Any) -> bool:
    """Return whether a package such as attrs has made a method; some hold a number of this process's own."""
    return is_special(name) and isinstance(item, FunctionType) and item.__code__.co_filename.startswith("<")


def _is_written_in(item: Any, cls: type) -> bool:
    inner = item.__func__ if isinstance(item, staticmethod | classmethod) else item
    return not isinstance(inner, FunctionType) or _module_of(inner) == cls.__module__


def _defaults_of_models(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield the defaults of fields of pydantic, attrs and msgspec, which are no attributes of the class."""
    held = vars(cls)
    fields = held.get("__pydantic_fields__")
    named = list(fields.items()) if isinstance(fields, dict) else []
    listed = held.get("__attrs_attrs__", ())
    named += [(str(getattr(field, "name", "")), field) for field in listed if isinstance(listed, tuple)]
    for name, field in named:
        for part in ("default", "default_factory"):
            yield f"<{part} of {name}>", getattr(field, part, None)
    if "__struct_defaults__" in held:
        yield "<defaults>", held["__struct_defaults__"]


def digest_of(value: Any, *, by_source: bool) -> str:
    """Return the digest (16 hexadecimal digits) of what is at a place; the name of its class if it has none."""
    code: Callable[[FunctionType], bytes] = function_code_digest if by_source else _compiled
    walk = Walk(None, find_branch, code)
    try:
        if isinstance(value, FunctionType):
            return walk.run(lambda fn: function_content(fn, walk), value, "", "").hex()[:16]
        if isinstance(value, functools.cached_property):
            value = value.func
        return walk.run(walk.of, plain_member(value), "", "").hex()[:16]
    except Exception as error:  # noqa: BLE001 (not all attributes of a class count in keys, and any may be odd)
        if by_source and isinstance(value, FunctionType) and isinstance(error, DigestError):
            return UNKNOWN
        return f"a {kind_name(type(value))}"


UNKNOWN = "?"
"""Instead of the digest of a function whose source was not found."""


def _compiled(fn: FunctionType) -> bytes:
    return behaviour_digest(fn).encode()
