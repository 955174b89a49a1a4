"""Where code that counts in a key is found by name, and the parts of what is there.

A place is the name of a module and a path in it, `Scale.scaled`. A class at a place has parts: its bases, methods,
attributes and fields; an object of the project has its attributes.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterable, Iterator
from types import FunctionType, ModuleType
from typing import Any

from penstock.digests.code.made_classes import fields_of_models, is_special, members, plain_member
from penstock.digests.definitions.behind import home_of
from penstock.digests.definitions.mentioned import BUILTIN
from penstock.digests.mocks import is_double
from penstock.digests.names import MAIN_NAMES, is_project_module
from penstock.digests.walk import attributes
from penstock.objects.code_pickles import CACHED, is_dispatcher
from penstock.objects.hidden import is_imported, uncovered
from penstock.objects.named import MISSING, found_at
from penstock.objects.texts import kind_name, module_of, package_of

Place = tuple[str, str]
"""A module, and the path of a name in it; an empty path is the module itself."""
CODE = (FunctionType, property, classmethod, staticmethod, functools.cached_property)
OF_IMPORT = frozenset(
    {"__annotations__", "__builtins__", "__cached__", "__doc__", "__file__", "__loader__", "__name__", "__package__"}
    | {"__path__", "__spec__"}
)
"""Variables of modules that the import system sets for each process."""

_Names = list[tuple[str, str, Any]]
_PLAIN = frozenset({bool, int, float, str, bytes, type(None)})
_LEFT_OUT = frozenset({"__dict__", "__weakref__", "__doc__", "__module__", "__wrapped__"})


def places_of(reached: Iterable[tuple[Any, _Names]]) -> Iterator[tuple[Place, Any]]:
    """Yield the places where workers find these pieces of code and the names they use, and what is there here.

    Nothing that is sent to workers by value: the code of scripts, notebooks and tasks, and the constants it uses.
    """
    for value, names in reached:
        home = own_place(value)
        if home is not None:
            yield home, found_at(*home)
        for module, name, found in names:
            if name in OF_IMPORT or (isinstance(found, ModuleType) and found.__name__ == f"{module}.{name}"):
                continue  # a submodule is an attribute from its first import on
            by_name = module not in MAIN_NAMES and (home is not None or module != _module_of(value))
            there = found_at(module, name) if by_name else MISSING
            if by_name and found is (BUILTIN if there is MISSING else there):
                yield (module, name), there
            elif by_name and isinstance(maker := found_at(module, "__getattr__"), FunctionType):
                yield (module, "__getattr__"), maker
            elif not isinstance(found, ModuleType) and (place := own_place(found)) is not None:
                yield place, found  # it travels by its name


def own_place(value: Any) -> Place | None:
    """Return where a function, class or module, or what hides a function, can be imported from."""
    if isinstance(value, ModuleType):
        places = [(value.__name__, "")]
    elif isinstance(value, CACHED) or is_dispatcher(value):
        places = [(str(value.__module__), value.__qualname__)]
    elif isinstance(value, FunctionType):  # a decorator may have moved it to the function that it wraps
        places = [(_module_of(value), value.__qualname__), (str(value.__module__), value.__qualname__)]
    elif isinstance(value, type):
        places = [(_module_of(value), kind_name(value))]
    else:
        return None
    found = (place for place in places if place[0] not in MAIN_NAMES and found_at(*place) is value)
    named = places[-1] if isinstance(value, FunctionType | CACHED) and is_imported(value) else None
    return next(found, named)


def _module_of(value: Any) -> str:
    if isinstance(value, FunctionType):
        return str(value.__globals__.get("__name__"))
    return module_of(value) if isinstance(value, type) else str(getattr(value, "__name__", ""))


def parts_at(place: Place, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield an object at a place under the empty name, and the parts that count with it.

    Of a module by itself, all that it defines.
    """
    value = uncovered(value)
    if isinstance(value, ModuleType) and not place[1]:
        for name, item in list(vars(value).items()):
            if isinstance(item, FunctionType | type) and _module_of(item) == value.__name__:
                yield from _inside(name, item)
            elif not (is_special(name) or isinstance(item, ModuleType | FunctionType | type)):
                yield name, item
    elif value is not MISSING:
        yield from _parts_of(value)


def _parts_of(value: Any) -> Iterator[tuple[str, Any]]:
    yield "", type(value) if is_plain_object(value) else value
    if isinstance(value, FunctionType) and is_project_module(_module_of(value)):
        yield from ((name, item) for name, item in vars(value).items() if name not in _LEFT_OUT)
    elif isinstance(value, type):
        of_project = is_project_module(module_of(value))
        yield from ((name, item) for name, item in _parts_of_class(value) if of_project or _counts_in(item, value))
    elif is_plain_object(value):
        yield from attributes(value).items()


def _counts_in(item: Any, installed: type) -> bool:
    """Return whether an attribute of an installed class counts: methods of its package or the project, and plain data.

    Packages add methods to classes of others, and change objects that their own classes hold.
    """
    if _is_plain(item):
        return True
    inner = item.func if isinstance(item, functools.cached_property) else plain_member(item)
    parts = inner if isinstance(inner, list) else [inner]
    homes = [home_of(part) for part in parts if isinstance(part, FunctionType)]
    own = package_of(installed)
    return any(map(is_double, parts)) or any(is_project_module(h) or h.partition(".")[0] == own for h in homes)


def _is_plain(item: Any) -> bool:
    if type(item) in (tuple, list, set, frozenset):
        return all(type(each) in _PLAIN for each in item)
    if type(item) is dict:
        return all(type(each) in _PLAIN for pair in item.items() for each in pair)
    return type(item) in _PLAIN


def is_plain_object(value: Any) -> bool:
    """Return whether a value is an object of the project that holds nothing but attributes."""
    kind = type(value)
    return kind.__base__ is object and is_project_module(module_of(kind)) and not isinstance(kind, enum.EnumType)


def _parts_of_class(cls: type) -> Iterator[tuple[str, Any]]:
    held = vars(cls)
    yield "<metaclass>", type(cls)
    yield "<bases>", held.get("__orig_bases__")
    for name, item in members(cls, annotated=False):
        is_own = isinstance(item, type) and kind_name(item) == f"{kind_name(cls)}.{name}"
        if is_own or is_plain_object(item):
            yield from _inside(name, item)
        elif name not in _LEFT_OUT and not _is_generated(name, item):
            yield name, item
    for name, item in held.items():
        of_enum = isinstance(cls, enum.EnumType) and not (is_special(name) or isinstance(item, cls))
        if of_enum and not name.startswith("_") and name not in vars(cls)["_member_map_"]:
            if not isinstance(item, CODE) or _is_written_in(item, cls):  # of these, only the members were listed
                yield name, item
        elif is_special(name) and name not in _OF_PYTHON and _is_behaviour(item):
            yield name, item
    yield from _fields_of_models(cls)


def _is_behaviour(item: Any) -> bool:
    """Return whether a special attribute says how objects behave, and is no plain function, which is listed anyway."""
    if isinstance(item, FunctionType | property):
        return False
    return callable(item) or isinstance(item, int | float | str | staticmethod | classmethod)


def _inside(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    return ((f"{name}.{inner}".rstrip("."), part) for inner, part in _parts_of(value))


def _is_generated(name: str, item: Any) -> bool:
    """Return whether a package such as attrs has made a method; some hold a number of this process's own."""
    return is_special(name) and isinstance(item, FunctionType) and item.__code__.co_filename.startswith("<")


def _is_written_in(item: Any, cls: type) -> bool:
    inner = item.__func__ if isinstance(item, staticmethod | classmethod) else item
    return not isinstance(inner, FunctionType) or _module_of(inner) == cls.__module__


def _fields_of_models(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield what pydantic, attrs and msgspec keep of fields, which are no attributes of the class."""
    held, named = vars(cls), fields_of_models(cls)
    for name, field in named:
        for part in _OF_FIELDS:
            yield f"<{part} of {name}>", getattr(field, part, None)
    of_msgspec = hasattr(cls, "__struct_fields__")
    if of_msgspec:
        yield "<defaults>", getattr(cls, "__struct_defaults__", ())
    if named or of_msgspec:
        yield "<annotations>", held.get("__annotations__")


_OF_FIELDS = ("default", "default_factory", "converter", "validator", "annotation", "metadata", "alias")
_OF_PYTHON = frozenset(
    {"__annotate__", "__annotate_func__", "__class__", "__class_getitem__", "__doc__", "__firstlineno__", "__hash__"}
    | {"__init_subclass__", "__module__", "__new__", "__qualname__", "__signature__", "__slots__"}
    | {"__subclasshook__", "__dict__", "__weakref__", "__wrapped__", "__pydantic_root_model__"}
)
"""Special attributes that Python or a package makes, or that change nothing."""
