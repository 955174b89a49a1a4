"""Digests of code and of what it holds, to compare that of a worker with that of the driver.

As in keys, a function counts with its defaults and closure, a constant with its value. The code of functions is taken
as it was compiled, because driver and workers have one version of Python, and because a file may say something else by
now; only where a loader has changed the code (as test runners do) counts the source. What has no digest counts by its
class, and what functions keep in their closures for themselves (counters, caches) does not count.
"""

from __future__ import annotations

import collections
import dis
import functools
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from penstock.digests.code.byte_code import behaviour_digest
from penstock.digests.code.made_classes import plain_member
from penstock.digests.code.syntax import function_code_digest
from penstock.digests.definitions.behind import home_of
from penstock.digests.functions import closure_items, dispatched
from penstock.digests.names import is_project_module
from penstock.digests.python import combine, digest
from penstock.digests.walk import attributes
from penstock.errors import DigestError
from penstock.objects.code_pickles import CACHED, is_dispatcher
from penstock.objects.hidden import uncovered
from penstock.objects.texts import kind_name, module_of
from penstock.worker.shipping.code_places import is_plain_object

_MOST_INSIDE = 1_000
_DEEPEST = 12
_CHANGING = frozenset(
    {"add", "append", "appendleft", "clear", "discard", "extend", "extendleft", "insert", "move_to_end", "pop"}
    | {"popitem", "popleft", "put", "register", "remove", "setdefault", "update"}
)
_STORING = frozenset(dis.opmap[name] for name in ("STORE_SUBSCR", "DELETE_SUBSCR", "STORE_ATTR"))
_ASSIGNING = dis.opmap["STORE_DEREF"]
_RANDOM = ("random", "_random", "numpy.random")
_CONTAINERS = (list, tuple, dict, set, frozenset, collections.deque)


def is_changed_by_its_loader(module: str) -> bool:
    """Return whether a module may run other code than its source compiles to."""
    loaded = sys.modules.get(module)
    return loaded is not None and type(vars(loaded).get("__loader__")) is not SourceFileLoader


def content_digest(value: Any, *, by_source: bool) -> str:
    """Return 16 hexadecimal digits, with a `!` before them if a container holds code."""
    found = _Contents(by_source).of(value)
    return ("!" if code_held_by(value) else "") + combine("content", [found])[:16]


def code_held_by(value: Any) -> list[Any]:
    """Return the functions and classes in a container."""
    items = map(uncovered, _items(value)) if isinstance(value, _CONTAINERS) else ()
    return [item for item in items if isinstance(item, FunctionType | type | MethodType | functools.partial)]


def _items(value: Any) -> list[Any]:
    return [*value.keys(), *value.values()] if isinstance(value, dict) else list(value)


class _Contents:
    """The way to a value, which may contain itself."""

    def __init__(self, by_source: bool) -> None:
        self._code: Callable[[FunctionType], str] = _written if by_source else behaviour_digest
        self._above: list[int] = []

    def of(self, value: Any) -> str:
        """Return a text that is the same for the same content."""
        if id(value) in self._above or len(self._above) > _DEEPEST:
            return "again"
        self._above.append(id(value))
        try:
            return self._described(value)
        except Exception:  # noqa: BLE001 (not all attributes of a class count in keys, and any may be odd)
            return f"a {kind_name(type(value))}"
        finally:
            self._above.pop()

    def _described(self, value: Any) -> str:
        value = uncovered(value)
        if isinstance(value, ModuleType):
            return f"module {value.__name__}"
        if isinstance(value, type):
            return f"class {module_of(value)}:{kind_name(value)}"
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, property | classmethod | staticmethod):
            return self._all("member", [kind_name(type(value)), plain_member(value)])
        if module_of(type(value)).startswith(_RANDOM) or hasattr(type(value), "__next__"):
            return f"a {kind_name(type(value))}"  # it changes with each use
        inside = _within(value)
        if inside is not None:
            return self._all(kind_name(type(value)), inside)
        if isinstance(value, _CONTAINERS) and len(value) <= _MOST_INSIDE:
            return self._container(value)
        try:
            return digest(value)
        except DigestError:
            if not is_plain_object(value) and not attributes(value):
                raise
            held = [part for item in sorted(attributes(value).items()) for part in item]
            return self._all(f"a {module_of(type(value))}:{kind_name(type(value))}", held)

    def _all(self, tag: str, items: Any) -> str:
        return combine(tag, [self.of(item) for item in items])

    def _container(self, value: Any) -> str:
        tag = f"{module_of(type(value))}:{kind_name(type(value))}"
        if isinstance(value, dict):
            return combine(tag, sorted(self._all("pair", pair) for pair in value.items()))
        found = [self.of(item) for item in value]
        return combine(tag, sorted(found) if isinstance(value, set | frozenset) else found)

    def _function(self, fn: FunctionType) -> str:
        name = f"{fn.__globals__.get('__name__')}:{fn.__qualname__}"
        if is_dispatcher(fn):
            return self._dispatcher(fn)
        defaults = [(str(number), item) for number, item in enumerate(fn.__defaults__ or ())]
        held = [*defaults, *(fn.__kwdefaults__ or {}).items(), *closure_items(fn)]
        changing, rebound = _changes(fn.__code__)
        changing = changing or not is_project_module(home_of(fn))  # packages may do so elsewhere
        kept = [
            f"{variable}={'kept' if variable in rebound or (changing and _can_change(item)) else self.of(item)}"
            for variable, item in held
        ]
        return combine("function", [name, self._code(fn), *kept])

    def _dispatcher(self, fn: FunctionType) -> str:
        function = fn.__wrapped__  # type: ignore[attr-defined]
        # What packages register with an installed function depends on what else was imported, and is not in keys.
        every = is_project_module(home_of(function))
        found = [(kind, item) for kind, item in dispatched(fn) if every or is_project_module(home_of(item))]
        return combine("dispatch", [self.of(function), *sorted(f"{kind} {self.of(item)}" for kind, item in found)])


def _written(fn: FunctionType) -> str:
    return function_code_digest(fn).hex()


def _within(value: Any) -> list[Any] | None:
    """Return the functions and values in a callable that is no plain function; None for other objects."""
    if isinstance(value, functools.cached_property):
        return [value.func]
    if isinstance(value, functools.partial | functools.partialmethod):
        return [value.func, tuple(value.args), dict(value.keywords)]
    if isinstance(value, functools.singledispatchmethod):
        return [value.func, value.dispatcher]
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    return [value.__wrapped__] if isinstance(value, CACHED) else None


def _can_change(value: Any) -> bool:
    return not isinstance(value, FunctionType | type | tuple | frozenset | str | bytes | int | float | ModuleType)


def changes_objects(code: CodeType) -> bool:
    """Return whether code, or a function inside it, changes objects in place."""
    return _changes(code)[0]


@functools.lru_cache(maxsize=4096)
def _changes(code: CodeType) -> tuple[bool, frozenset[str]]:
    """Return whether code changes objects in place, and which variables of its closure it assigns."""
    used = set(code.co_code[::2])  # the operations; decoding them is slow
    changing = not _CHANGING.isdisjoint(code.co_names) or not _STORING.isdisjoint(used)
    rebound = set()
    if _ASSIGNING in used:
        rebound = {str(each.argval) for each in dis.get_instructions(code) if each.opcode == _ASSIGNING}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            also, more = _changes(inner)
            changing, rebound = changing or also, rebound | more
    return changing, frozenset(rebound)
