"""The functions, classes and mocks inside a constant, whose code counts, too."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any

from penstock.digests.definitions.behind import is_ours
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
        elif isinstance(item, MethodType):
            inside = [item.__func__, item.__self__]
        elif isinstance(item, (FunctionType, type)) or is_ours(item) or has(item, "__wrapped__"):
            if item is not value:
                yield str(ask(item, "__qualname__", "")) if isinstance(item, FunctionType | type) else "", item
            continue
        elif type(item) is ModuleType and is_project(item.__name__):
            modules[id(item)] = item  # its digest has its source
            continue
        if is_project(module_of(type(item))):
            inside += [type(item), *attributes(item).values()]
        stack.extend(i for i in inside if seen.setdefault(id(i), i) is i and i is not item)
