"""The functions, classes and mocks inside a constant, whose code counts, too."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any

from penstock.digests.code.made_classes import is_placeless, is_special
from penstock.digests.definitions.aliases import aliased, is_alias
from penstock.digests.definitions.behind import home_of, is_ours
from penstock.digests.mocks import held_by_mock, uncovered
from penstock.digests.walk import attributes
from penstock.objects.questions import ask, has, is_mock
from penstock.objects.texts import module_of


def code_held_by(
    value: Any, is_project: Callable[[str], bool], modules: dict[int, ModuleType]
) -> Iterator[tuple[str, Any]]:
    """Yield the functions, classes and mocks inside a constant, a partial, a bound method or a project object.

    Of a mock, those that it may call, and those of mocks inside it.

    Args:
        value: The constant.
        is_project: Returns whether a module is the project's.
        modules: Project modules inside it are added, by id.
    """
    stack, seen = [value], {id(value): value}
    while stack:
        item = uncovered(stack.pop())
        inside: list[Any] = []
        if is_mock(type(item)):  # first, since `isinstance` says what it stands for
            if not is_mock(type(value)):
                yield "", item
                continue
            inside = held_by_mock(item)
        elif isinstance(item, dict):
            inside = [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple, set, frozenset)):
            inside = list(item)
        elif isinstance(item, functools.partial):
            inside = [item.func, *item.args, *item.keywords.values()]
            if has(item, "__wrapped__"):
                inside.append(item.__wrapped__)  # type: ignore[attr-defined]
        elif isinstance(item, MethodType):
            inside = [item.__func__, item.__self__]
        elif is_alias(item):
            inside = [part for part in aliased(item) if not _is_installed(part, is_project)]
        elif isinstance(item, (FunctionType, type)) or is_ours(item) or has(item, "__wrapped__"):
            if item is not value:
                yield str(ask(item, "__qualname__", "")) if isinstance(item, FunctionType | type) else "", item
                continue
            if isinstance(item, FunctionType | type) or is_ours(item):
                continue
        elif type(item) is ModuleType and is_project(item.__name__):
            modules[id(item)] = item  # its digest has its source
            continue
        if is_project(module_of(type(item))):
            inside += [type(item), *_state_of(item).values()]
        stack.extend(i for i in inside if seen.setdefault(id(i), i) is i and i is not item)


def _is_installed(part: Any, is_project: Callable[[str], bool]) -> bool:
    if not isinstance(part, FunctionType | type) or is_placeless(part):
        return False
    home = home_of(part)  # a task that is `list[Row]` itself would make a project of `builtins`
    return home.partition(".")[0] in sys.stdlib_module_names or not is_project(home)


def _state_of(item: Any) -> dict[str, Any]:
    """Return the attributes of an object without those that `functools.update_wrapper` copies, such as annotations."""
    held = attributes(item)
    if "__wrapped__" not in held:
        return held
    return {name: each for name, each in held.items() if name == "__wrapped__" or not is_special(name)}


def code_of_wrapper(value: Any, is_project: Callable[[str], bool]) -> Iterator[tuple[str, Any]]:
    """Yield the functions and classes of the project that wrappers of installed packages hold besides what they wrap.

    Their other attributes do not count: many of them change with use, such as caches and counters. The names are empty.
    """
    for _ in range(_MOST_WRAPPERS):
        kind = type(value)
        if kind is FunctionType or issubclass(kind, type) or not has(value, "__wrapped__"):
            return
        held = _of_proxy(value)
        if not held:
            if is_project(module_of(kind)):
                return
            held = list(attributes(value).values())
        for code in held:
            while issubclass(type(code), functools.partial | MethodType):
                code = code.func if issubclass(type(code), functools.partial) else code.__func__
            if (type(code) is FunctionType or issubclass(type(code), type)) and is_project(home_of(code)):
                yield "", code
        value = value.__wrapped__


_MOST_WRAPPERS = 200


def _of_proxy(value: Any) -> list[Any]:
    """Return what an object of wrapt holds itself. Its other attributes are those of the wrapped object."""
    names = dict.fromkeys(name for base in type(value).__mro__ for name in vars(base) if name.startswith("_self_"))
    return [ask(value, name) for name in names]
