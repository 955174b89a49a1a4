"""Walking through a call's arguments: futures become Refs when a call is made, Refs become values when it runs."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from inspect import CORO_CREATED, getcoroutinestate
from types import CoroutineType
from typing import Any

from penstock.digests.large import FLAT_ITEMS, LARGE_BYTES, Large, is_flat
from penstock.digests.large import PLAIN as _PLAIN
from penstock.digests.refs import Ref
from penstock.errors import TracingError
from penstock.graph.futures import Future, FutureList, Futures

SMALL = _PLAIN - {bytes, str}
"""Types of values that are kept as they are, without a look at them."""
_TEXTS = frozenset({bytes, str})
_BUILT_IN = frozenset({list, tuple, dict, set, frozenset})
_CONTAINERS = (list, tuple, dict, set, frozenset, deque)


def walk(value: Any, leaf: Callable[[Any], Any], whole: Callable[[Any], Any] = lambda value: value) -> Any:
    """The value rebuilt, with `leaf` applied to whatever is neither a plain value nor a list, tuple, dict or set.

    Large bytes and texts, and long containers of plain values, are leaves as a whole.

    Dataclasses and containers of other types are rebuilt only if futures (or Refs) are in them. A list of futures as
    `task.map` gives it becomes a plain list.

    What leads back to itself, or is nested deeper than Python goes, is what `whole` makes of it, if no future (or Ref)
    is in it; else it is a `TracingError`.
    """
    try:
        return _walk(value, leaf)
    except RecursionError as error:
        if not stands_for_nodes(value):
            return whole(value)
        raise TracingError(
            "a future stands in a value that contains itself, or is nested too deeply",
            because="such a value cannot be made again with the future's value in its place",
            hint="pass the future by itself, or in a flatter list, tuple or dict",
        ) from error


def _walk(value: Any, leaf: Callable[[Any], Any]) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value if kind not in _TEXTS or len(value) < LARGE_BYTES else leaf(value)
    if kind in _BUILT_IN and len(value) >= FLAT_ITEMS and is_flat(value):
        return leaf(value)
    if kind is list:
        return [v if type(v) in SMALL else _walk(v, leaf) for v in value]
    if kind is tuple:
        if SMALL.issuperset(map(type, value)):
            return value
        return tuple([v if type(v) in SMALL else _walk(v, leaf) for v in value])
    if kind is dict:
        return {_walk(k, leaf): v if type(v) in SMALL else _walk(v, leaf) for k, v in value.items()}
    if kind is set or kind is frozenset:
        return kind([_walk(v, leaf) for v in value])
    # The class is asked, not the value: what that says of itself may be anything.
    if issubclass(kind, tuple) and hasattr(kind, "_make"):
        return value._make([_walk(v, leaf) for v in value])  # a named tuple
    if kind is Future or kind is Ref or kind is Large:
        return leaf(value)
    if kind is FutureList:
        return [_walk(v, leaf) for v in value]
    if kind is Futures:
        return {_walk(v, leaf) for v in value}
    if issubclass(kind, _CONTAINERS) or hasattr(kind, "__dataclass_fields__"):
        return _rebuilt(value, leaf) if stands_for_nodes(value) else leaf(value)
    return leaf(value)


def _rebuilt(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """A dataclass, or a container of a type of its own, with other contents."""
    if isinstance(value, tuple | set | frozenset):
        return type(value)(_walk(v, leaf) for v in value)
    twin = copy.copy(value)
    if isinstance(value, dict):
        twin.clear()
        twin.update({_walk(k, leaf): _walk(v, leaf) for k, v in value.items()})
    elif isinstance(value, list | deque):
        twin.clear()
        twin.extend([_walk(v, leaf) for v in value])
    else:
        for name, part in _fields(value).items():
            object.__setattr__(twin, name, _walk(part, leaf))
    return twin


def stands_for_nodes(value: Any) -> bool:
    """Whether there is a future, a Ref or a Large in it. Objects may lead back to themselves here."""
    stack, seen = [value], set()
    while stack:
        item = stack.pop()
        if type(item) in _STAND_INS:
            return True
        inside: Iterable[Any] = ()
        if issubclass(type(item), dict):
            inside = (*item.keys(), *item.values())
        elif issubclass(type(item), (*_CONTAINERS, Futures)):
            inside = item
        elif hasattr(type(item), "__dataclass_fields__"):
            inside = _fields(item).values()
        if id(item) not in seen:
            seen.add(id(item))
            stack.extend(v for v in inside if type(v) not in _PLAIN)
    return False


_STAND_INS = frozenset({Future, Ref, Large})


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__ if hasattr(value, name)}


def capture(value: Any, keep: Callable[[Any], Any]) -> Any:
    """The argument as a node keeps it: as it is now, with `keep(part)` for each future, array, data frame and other
    object in it.

    Containers are rebuilt, so that appending to one after the call changes nothing. Raises `TracingError` for
    generators and other one-way streams.
    """
    if type(value) in _TEXTS and len(value) < LARGE_BYTES:
        return value
    return walk(value, lambda leaf: keep(leaf if type(leaf) is Future else _checked(leaf)), _copied_whole)


def replace_futures(value: Any, resolve: Callable[[Future[Any]], Any]) -> Any:
    """The value with each future in it replaced; everything else is passed on uncopied."""

    def replaced(leaf: Any) -> Any:
        if type(leaf) is not Future:
            return leaf
        try:
            return resolve(leaf)
        except RecursionError as error:
            raise _OfTask(error) from None

    try:
        return walk(value, replaced)
    except _OfTask as error:
        failure = error.failure
    raise failure


class _OfTask(Exception):
    """A task's own `RecursionError`, which says nothing about the value that its future stands in."""

    def __init__(self, failure: RecursionError) -> None:
        super().__init__()
        self.failure = failure


def fill(value: Any, resolve: Callable[[Ref], Any]) -> Any:
    """The argument as the function gets it: every Ref and every Large replaced."""
    return walk(value, lambda leaf: resolve(leaf) if type(leaf) is Ref else taken(leaf))


def taken(leaf: Any) -> Any:
    """A value of one's own instead of a `Large`; everything else as it is."""
    return leaf.take() if type(leaf) is Large else leaf


def fill_all(arguments: Mapping[str, Any], resolve: Callable[[Ref], Any]) -> dict[str, Any]:
    """`fill` for each argument of a call."""
    return {name: v if type(v) in _PLAIN else fill(v, resolve) for name, v in arguments.items()}


def _copied_whole(value: Any) -> Any:
    """A copy of what leads back to itself, as it is now."""
    try:
        return copy.deepcopy(value)
    except RecursionError as error:
        raise TracingError(
            f"a {type(value).__name__} that is passed to a task is nested too deeply",
            because="Python gives up on so many levels",
            hint="pass flatter data, or text such as JSON",
        ) from error


def close_coroutines(value: Any) -> None:
    """Close those in a value that nobody has begun to await: the error says so, and no warning need say it again."""

    def closed(leaf: Any) -> Any:
        if type(leaf) is CoroutineType and getcoroutinestate(leaf) == CORO_CREATED:
            leaf.close()
        return leaf

    walk(value, closed)


def _checked(value: Any) -> Any:
    if type(value) is CoroutineType:
        raise TracingError(
            f"a coroutine of {value.__qualname__} was passed to a task",
            because="it was not awaited, so there is no value yet",
            hint=f"await it: pass `await {value.__qualname__}(...)`",
        )
    if issubclass(type(value), Iterator) and not hasattr(type(value), "__arrow_c_stream__"):
        raise TracingError(
            f"a {type(value).__name__} was passed to a task",
            because="it can be read only once, so it could be neither hashed nor retried nor sent to a worker",
            hint="pass list(...) of it, or let a task produce the items",
        )
    return value
