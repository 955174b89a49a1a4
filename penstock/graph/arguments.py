"""Walking through a call's arguments: futures become Refs when the call is made, and Refs values when it runs."""

from __future__ import annotations

import copy
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from inspect import CORO_CREATED, getcoroutinestate
from types import CoroutineType
from typing import Any

from penstock.digests.large import FLAT_ITEMS, LARGE_BYTES, Large, is_flat
from penstock.digests.large import PLAIN as _PLAIN
from penstock.digests.refs import OwnDefault, Ref
from penstock.errors import TracingError
from penstock.graph.futures import Future, FutureList, Futures
from penstock.objects.questions import ask, has, is_mock
from penstock.objects.records import fields_of, has_held_values, held_values, is_record, set_field, with_held_values
from penstock.objects.texts import kind_of

SMALL = (_PLAIN - {bytes, str}) | {OwnDefault}
"""Types of values that are kept unchanged without further checks."""
_TEXTS = frozenset({bytes, str})
_BUILT_IN = frozenset({list, tuple, dict, set, frozenset})
_CONTAINERS = (list, tuple, dict, set, frozenset, deque)


def walk(value: Any, leaf: Callable[[Any], Any], whole: Callable[[Any], Any] = lambda value: value) -> Any:
    """Rebuild a value, applying `leaf` to everything that is neither a plain value nor a list, tuple, dict or set.

    Large bytes and strings, and long containers of plain values, are single leaves. Containers of other types, views of
    dicts, namespaces, arrays of objects, and objects with fields (dataclasses, attrs classes, msgspec structs, pydantic
    models) are rebuilt only if they contain futures (or Refs), and each only once. The list that `task.map` returns
    becomes a plain list.

    Args:
        value: The value.
        leaf: Returns the replacement of a leaf.
        whole: Returns the replacement of a value that contains itself or exceeds Python's recursion limit.

    Raises:
        TracingError: Such a value contains a future (or Ref).
    """
    try:
        return _walk(value, leaf, {})
    except RecursionError as error:
        if not stands_for_nodes(value):
            return whole(value)
        raise TracingError(
            "a future is inside a value that contains itself or is nested too deeply",
            because="such a value cannot be rebuilt with the future's value in its place",
            hint="pass the future by itself, or in a flatter list, tuple or dict",
        ) from error


def _walk(value: Any, leaf: Callable[[Any], Any], done: dict[int, Any]) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value if kind not in _TEXTS or len(value) < LARGE_BYTES else leaf(value)
    if kind in _STAND_INS:
        return leaf(value)
    if kind in _BUILT_IN and len(value) >= FLAT_ITEMS and is_flat(value):
        return leaf(value)
    if kind is list:
        return [v if type(v) in SMALL else _walk(v, leaf, done) for v in value]
    if kind is tuple:
        if SMALL.issuperset(map(type, value)):
            return value
        return tuple([v if type(v) in SMALL else _walk(v, leaf, done) for v in value])
    if kind is dict:
        return {_walk(k, leaf, done): v if type(v) in SMALL else _walk(v, leaf, done) for k, v in value.items()}
    if kind is set or kind is frozenset:
        return kind([_walk(v, leaf, done) for v in value])
    # By the class, since the value's own attributes may be anything.
    if issubclass(kind, tuple) and has(kind, "_make"):
        return value._make([_walk(v, leaf, done) for v in value])  # a named tuple
    if kind is FutureList:
        return [_walk(v, leaf, done) for v in value]
    if kind is Futures:
        return {_walk(v, leaf, done) for v in value}
    if issubclass(kind, _CONTAINERS) or is_record(kind) or has_held_values(value):
        if id(value) not in done:
            if not stands_for_nodes(value):
                return leaf(value)
            done.setdefault(id(done), []).append(value)  # no other object may get its id
            done[id(value)] = _rebuilt(value, leaf, done)
        return done[id(value)]
    return leaf(value)


def _rebuilt(value: Any, leaf: Callable[[Any], Any], done: dict[int, Any]) -> Any:
    """Rebuild an object with fields, or a container of another type, with other contents."""
    if has_held_values(value):
        return with_held_values(value, lambda part: _walk(part, leaf, done))
    if isinstance(value, tuple | set | frozenset):
        return type(value)(_walk(v, leaf, done) for v in value)
    twin = copy.copy(value)
    if isinstance(value, dict):
        twin.clear()
        twin.update({_walk(k, leaf, done): _walk(v, leaf, done) for k, v in value.items()})
    elif isinstance(value, list | deque):
        twin.clear()
        twin.extend([_walk(v, leaf, done) for v in value])
    for name, part in _fields(value).items():
        own = _walk(part, leaf, done)
        if own is not part:
            set_field(twin, name, own)
    return twin


def stands_for_nodes(value: Any) -> bool:
    """Return whether a value, which may contain itself, contains a future, a Ref or a Large."""
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
        if type(item) not in _WITHOUT_FIELDS:
            inside = (*inside, *_fields(item).values(), *held_values(item))
        if id(item) not in seen:
            seen.add(id(item))
            stack.extend(v for v in inside if type(v) not in _PLAIN)
    return False


_STAND_INS = frozenset({Future, Ref, Large})


_WITHOUT_FIELDS = _BUILT_IN | {FutureList, Futures}


def _fields(value: Any) -> dict[str, Any]:
    """Return the fields of an object, or the attributes of a container of a user's type, by name."""
    held = fields_of(value)
    if held is None and issubclass(type(value), _CONTAINERS):
        held = ask(value, "__dict__", {})
    return held or {}


def capture(value: Any, keep: Callable[[Any], Any]) -> Any:
    """Return a snapshot of an argument, with `keep(part)` for each future, array, data frame and other object in it.

    Containers are rebuilt, so that later changes to them have no effect. `keep` should refuse what cannot be kept, as
    `checked` does.
    """
    if type(value) in _TEXTS and len(value) < LARGE_BYTES:
        return value
    return walk(value, keep, _copied_whole)


def futures_to_wait_for(wait_for: Any, name: str) -> list[Any]:
    """Return what a call waits for: futures, or containers of them. Raises `TracingError` for anything else."""
    given = listed(wait_for, name)
    for place, each in enumerate(given):
        empty = each is None or (isinstance(each, _CONTAINERS) and not each)
        if not empty and not stands_for_nodes(each):
            raise TracingError(
                f"{name} cannot wait for a {kind_of(each)}",
                where=f"wait_for[{place}]",
                because="only calls can be waited for, and this is not the future of one",
                hint="pass the future that a task returns when it is called in the flow",
            )
    return given


def listed(wait_for: Any, name: str) -> list[Any]:
    """Return the items of `wait_for=`, which may be a single future. Raises `TracingError` if it is not a list."""
    if wait_for is None:
        return []
    if isinstance(wait_for, Future):
        return [wait_for]  # it is iterable as its value is
    if isinstance(wait_for, str | bytes) or not isinstance(wait_for, Iterable):
        raise TracingError(
            f"wait_for of {name} cannot be a {kind_of(wait_for)}", hint="pass a list of futures: wait_for=[future]"
        )
    return list(wait_for)


def replace_futures(value: Any, resolve: Callable[[Future[Any]], Any]) -> Any:
    """Return the value with its futures replaced. Everything else is not copied."""

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
    """A task's own `RecursionError`, which is not caused by the value around its future."""

    def __init__(self, failure: RecursionError) -> None:
        super().__init__()
        self.failure = failure


def fill(value: Any, resolve: Callable[[Ref], Any]) -> Any:
    """Return the argument that the function receives: with every Ref and Large replaced."""
    known: dict[int, Any] = {}

    def filled(leaf: Any) -> Any:
        if type(leaf) is Ref:
            return resolve(leaf)
        if type(leaf) is not Large:
            return leaf
        if leaf.name not in known:
            known[leaf.name] = leaf.take()
        return known[leaf.name]

    return walk(value, filled)


def taken(leaf: Any) -> Any:
    """Return a private copy of the value of a `Large`; anything else unchanged."""
    return leaf.take() if type(leaf) is Large else leaf


def fill_all(arguments: Mapping[str, Any], resolve: Callable[[str, Ref], Any]) -> dict[str, Any]:
    """Apply `fill` to each argument of a call, whose name `resolve` receives."""
    return {name: v if type(v) in _PLAIN else fill(v, partial(resolve, name)) for name, v in arguments.items()}


def _copied_whole(value: Any) -> Any:
    """Return a snapshot of a value that contains itself."""
    try:
        return copy.deepcopy(value)
    except RecursionError as error:
        raise TracingError(
            f"a {type(value).__name__} that is passed to a task is nested too deeply",
            because="it exceeds Python's recursion limit",
            hint="pass flatter data, or a text format such as JSON",
        ) from error


def close_coroutines(value: Any) -> None:
    """Close the unawaited coroutines in a value, since an error is about to report them and no warning is needed."""

    def closed(leaf: Any) -> Any:
        if type(leaf) is CoroutineType and getcoroutinestate(leaf) == CORO_CREATED:
            leaf.close()
        return leaf

    walk(value, closed)


def checked(value: Any) -> Any:
    """Return a value. Raises `TracingError` for coroutines, generators and others that can be read only once."""
    if type(value) is CoroutineType:
        raise TracingError(
            f"a coroutine of {value.__qualname__} was passed to a task",
            because="it was not awaited, so it has no value yet",
            hint=f"await it: pass `await {value.__qualname__}(...)`",
        )
    if issubclass(type(value), Iterator) and not (has(type(value), "__arrow_c_stream__") or is_mock(type(value))):
        raise TracingError(
            f"a {type(value).__name__} was passed to a task",
            because="it can be read only once, so it cannot be hashed, retried or sent to a worker",
            hint="pass its path, and open it in the task"
            if issubclass(type(value), io.IOBase)
            else "pass list(...) of it, or produce the items in a task",
        )
    return value
