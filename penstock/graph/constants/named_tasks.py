"""The tasks that the code of a flow can reach by names: those that it may call."""

from __future__ import annotations

import collections
import functools
from collections.abc import Iterable, Iterator
from types import FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

from penstock.digests.definitions.behind import behind, home_of, is_ours
from penstock.digests.names import is_project_module
from penstock.digests.walk import LEAVES, attributes
from penstock.graph.constants.places import global_names_in, names_in
from penstock.graph.tasks import TaskDefinition
from penstock.objects.questions import ask

_MOST_OBJECTS = 2000
_MOST_ITEMS = 1000
"""Containers with more items are taken for data."""
_LEAVES = frozenset(LEAVES)


def tasks_named_in(fn: Any) -> Iterator[TaskDefinition]:
    """Yield the tasks that a flow's function reaches: also through helpers, subflows, classes and containers."""
    seen: dict[int, Any] = {}
    open_ = collections.deque([fn])
    is_project = functools.cache(is_project_module)
    while open_ and len(seen) < _MOST_OBJECTS:
        value = open_.popleft()
        if type(value) in _LEAVES or id(value) in seen:
            continue
        seen[id(value)] = value
        if is_ours(value) and type(task := ask(value, "definition")) is TaskDefinition:
            yield task
        else:
            open_.extend(_named_by(value, is_project))


def _named_by(value: Any, is_project: Any) -> Iterable[Any]:
    kind = type(value)
    if kind is dict or kind is MappingProxyType:
        return tuple(value.values()) if len(value) <= _MOST_ITEMS else ()
    if kind in (list, tuple, set, frozenset):
        return tuple(value) if len(value) <= _MOST_ITEMS else ()
    if kind is FunctionType:
        return _named_by_function(value, is_project)
    if kind in (MethodType, staticmethod, classmethod):
        return (value.__func__, ask(value, "__self__"))
    if kind is functools.partial:
        return (value.func, *value.args, *value.keywords.values())
    if isinstance(value, type):
        return (*vars(value).values(), *value.__bases__) if is_project(value.__module__) else ()
    if is_project(kind.__module__):
        return (*attributes(value).values(), kind)
    inner = behind(value, is_project)
    return () if inner is value else (inner,)


def _named_by_function(fn: FunctionType, is_project: Any) -> Iterator[Any]:
    inner = behind(fn, is_project)
    if inner is not fn:
        yield inner
    if not is_project(home_of(fn)):
        return
    for cell in fn.__closure__ or ():
        yield ask(cell, "cell_contents")
    attributes_read = sorted(names_in(fn.__code__))
    for name in sorted(global_names_in(fn.__code__)):
        found = fn.__globals__.get(name)
        if type(found) is not ModuleType:
            yield found
        elif is_project(found.__name__):
            yield from (vars(found).get(each) for each in attributes_read)
