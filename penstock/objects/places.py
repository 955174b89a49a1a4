"""Paths of parts inside values, such as `["model"].ref`, found without running code of the values' classes."""

from __future__ import annotations

import sys
import types
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from penstock.objects.records import held_values
from penstock.objects.texts import package_of, repr_of

MOST = 20_000
"""The most parts that are searched."""
_SHORT = 60


def place_of(value: object, is_it: Callable[[Any], bool], *, most: int = MOST) -> str | None:
    """Return the path of the nearest part for which `is_it` is true; empty for the value itself, None if none is."""
    waiting: deque[tuple[str, Any]] = deque([("", value)])
    met = {id(value)}
    while waiting:
        path, part = waiting.popleft()
        if is_it(part):
            return path
        for step, inside in parts(part):
            if id(inside) not in met and len(met) < most:
                met.add(id(inside))
                waiting.append((path + step, inside))
    return None


def parts(value: Any) -> Iterable[tuple[str, Any]]:
    """Yield the parts of a value with their paths: items, attributes, and what a function is bound to."""
    kind = type(value)
    if kind in _NO_PARTS or value is sys.stdout or value is sys.stderr:
        return
    if package_of(kind) in _DATA:
        yield from (("{…}", item) for item in held_values(value))
        return
    if issubclass(kind, dict):
        for key, item in list(dict.items(value)):
            yield f"[{_shown(key)}]", item
            yield f".keys()[{_shown(key)}]", key
    elif issubclass(kind, list | tuple | deque):
        if kind is not deque and _NO_PARTS.issuperset(map(type, _of_sequence(kind, value))):
            return
        for place, item in enumerate(list(_of_sequence(kind, value))):
            yield f"[{place}]", item
    elif issubclass(kind, set | frozenset):
        for item in list(set.__iter__(value) if issubclass(kind, set) else frozenset.__iter__(value)):
            yield "{…}", item
    elif kind is types.FunctionType:
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=False):
            try:
                yield f".<closure {name}>", cell.cell_contents
            except ValueError:
                continue  # an empty cell
        return
    elif kind is types.MethodType:
        yield ".__self__", value.__self__
        return
    elif issubclass(kind, BaseException):
        for place, item in enumerate(_ARGS(value)):
            yield f".args[{place}]", item
    for name, item in _attributes(kind, value).items():
        yield f".{name}", item
    yield from (("{…}", item) for item in held_values(value))  # last: what is also an attribute has a better path


_NO_PARTS = frozenset({int, str, float, bool, type(None), bytes, complex, bytearray, type, types.ModuleType})


_ARGS: Callable[[BaseException], tuple[Any, ...]] = BaseException.__dict__["args"].__get__
_DATA = frozenset({"numpy", "pandas", "polars", "pyarrow"})
"""Packages whose objects contain only data and are not searched, except arrays of objects."""


def _shown(key: object) -> str:
    text = repr_of(key)
    return text if len(text) <= _SHORT else text[: _SHORT - 1] + "…"


def _of_sequence(kind: type, value: Any) -> Iterable[Any]:
    base: Any = next(each for each in (list, tuple, deque) if issubclass(kind, each))
    found: Iterable[Any] = base.__iter__(value)
    return found


def _attributes(kind: type, value: Any) -> dict[str, Any]:
    """Return the attributes of an object from its `__dict__` and its slots."""
    found: dict[str, Any] = {}
    for base in kind.__mro__:
        for name, member in list(vars(base).items()):
            try:
                if name == "__dict__" and type(member) in _OF_CLASSES:
                    found.update({n: v for n, v in dict.items(member.__get__(value)) if type(n) is str})
                elif type(member) is types.MemberDescriptorType and name not in found:
                    found[name] = member.__get__(value)
            except (AttributeError, TypeError):
                continue  # an empty slot, or not a real slot
    return found


_OF_CLASSES = (types.GetSetDescriptorType, types.MemberDescriptorType)
