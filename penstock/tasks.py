"""`@task`: what a user's function becomes. Called in a flow it adds a node; called elsewhere it runs at once."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import CoroutineType
from typing import Any, Generic, Literal, NamedTuple, ParamSpec, TypeVar, cast, overload

from penstock.environments import storage_of
from penstock.errors import ConfigurationError, ParameterError
from penstock.graph.futures import Future, FutureList, Futures
from penstock.graph.policies import CacheKeyFnPolicy, CachePolicy
from penstock.graph.tasks import Delays, Resources, TaskDefinition, TaskOptions
from penstock.graph.tracing import current_trace
from penstock.immediate import call_now

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class unmapped(Generic[R]):
    """In `task.map(xs, unmapped(y))`: the same `y` for every call."""

    def __init__(self, value: R) -> None:
        self.value = value


class Task(Generic[P, R]):
    """A function with options. Made by `@task`.

    Of a method, `object.name` is the task with that object as the first argument.
    """

    def __init__(
        self, definition: TaskDefinition, *, first: tuple[Any, ...] = (), binds: Literal["object", "class"] = "object"
    ) -> None:
        """`first` are arguments that each call begins with; as an attribute of a class it `binds` one more."""
        self.definition = definition
        self._first = first
        self._binds = binds
        functools.update_wrapper(self, definition.fn)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        bound = owner if self._binds == "class" else instance
        return self if bound is None else Task(self.definition, first=(*self._first, bound))

    @property
    def fn(self) -> Callable[P, R]:
        """The function as it was written."""
        return self.definition.fn

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def task_key(self) -> str:
        """The identity in cache keys."""
        return self.definition.identity

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    def __call__(self, *args: Any, wait_for: Iterable[Any], **kwargs: Any) -> R: ...

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        """In a flow: a node, and its future (which type checkers take for the value it stands for).

        Elsewhere the task runs at once, with the same caching, locking and retries, and the value is returned; of an
        async function that is a coroutine, as of any.
        """
        wait_for = kwargs.pop("wait_for", ())
        trace = current_trace()
        if self._first:
            args = (*self._first, *args)
        if trace is None:
            return cast(R, call_now(self.definition, args, kwargs))
        return cast(R, trace.call(self.definition, args, kwargs, wait_for=wait_for))

    @overload
    def submit(self: Task[P, CoroutineType[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...

    @overload
    def submit(self: Task[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...

    @overload
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...

    @overload
    def submit(self, *args: Any, wait_for: Iterable[Any], **kwargs: Any) -> Future[R]: ...

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """The node of this call, typed as the future it is. `wait_for=[...]` names calls that must have finished first.

        Only inside a flow: outside of one there is no graph to add to (`ParameterError`).
        """
        trace = current_trace()
        if trace is None:
            raise ParameterError(
                f"{self.name}.submit() was called outside of a flow",
                because="a future belongs to the graph of a running flow",
                hint=f"call {self.name}(...) to run it at once, or submit it inside a @flow function",
            )
        wait_for = kwargs.pop("wait_for", ())
        return trace.call(self.definition, (*self._first, *args), kwargs, wait_for=wait_for)

    @overload
    def map(self: Task[P, CoroutineType[Any, Any, T]], *args: Any, **kwargs: Any) -> FutureList[T]: ...

    @overload
    def map(self: Task[P, Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> FutureList[T]: ...

    @overload
    def map(self, *args: Any, **kwargs: Any) -> FutureList[R]: ...

    def map(self, *args: Any, **kwargs: Any) -> Any:
        """One call for each item: iterables are walked together, `unmapped(x)` and plain scalars go to every call.

        Lists, tuples and other sequences and iterables are mapped over; strings, bytes, mappings and futures of unknown
        length are not (a future is waited for and then mapped over). Raises `ParameterError` if lengths differ.
        """
        wait_for = kwargs.pop("wait_for", ())
        positional = [_items(a) for a in args]
        named = {k: _items(v) for k, v in kwargs.items()}
        lengths = {len(i) for i in (*positional, *named.values()) if i is not None}
        if len(lengths) != 1:
            raise ParameterError(
                f"{self.name}.map() got iterables of {sorted(lengths) or 'no'} lengths",
                hint="give iterables of one length, and unmapped(x) for what stays the same",
            )
        calls: list[R] = []
        for n in range(lengths.pop()):
            row = [_nth(a, items, n) for a, items in zip(args, positional, strict=True)]
            rest = {k: _nth(kwargs[k], items, n) for k, items in named.items()}
            calls.append(cast(R, cast(Any, self.submit)(*row, wait_for=wait_for, **rest)))
        return FutureList(calls)

    def with_options(self, **changes: Any) -> Task[P, R]:
        """The same function with some options replaced; takes what `@task` takes."""
        return Task(self.definition.with_options(**_options(changes)), first=self._first, binds=self._binds)

    def __repr__(self) -> str:
        return f"Task({self.task_key})"


class Waited(NamedTuple):
    """What `wait` found."""

    done: Futures
    not_done: Futures


def wait(futures: Iterable[Future[Any]], timeout: float | None = None) -> Waited:
    """Wait until all of these calls have finished, however they ended, or `timeout` seconds have passed."""
    asked = list(futures)
    deadline = None if timeout is None else time.monotonic() + timeout
    for future in asked:
        future.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
    done = Futures(future for future in asked if future.done())
    return Waited(done, Futures(future for future in asked if future not in done))


def _items(argument: Any) -> Sequence[Any] | None:
    """What `map` walks through, or None for an argument that goes to every call."""
    if isinstance(argument, Future):
        argument = argument.result()
    if isinstance(argument, unmapped | str | bytes | Mapping) or not hasattr(argument, "__iter__"):
        return None
    return argument if isinstance(argument, list | tuple) else list(cast(Iterator[Any], argument))


def _nth(argument: Any, items: Sequence[Any] | None, n: int) -> Any:
    if items is not None:
        return items[n]
    return argument.value if isinstance(argument, unmapped) else argument


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options as `TaskOptions` keeps them, from what users write."""
    options = dict(given)
    key_fn = options.pop("cache_key_fn", None)
    if key_fn is not None:
        if options.get("cache_policy") is not None:
            raise ConfigurationError(
                "both cache_policy and cache_key_fn are given",
                because="each says what the key is made of",
                hint="add them up: cache_policy=INPUTS + CachePolicy.from_cache_key_fn(fn)",
            )
        options["cache_policy"] = CacheKeyFnPolicy(cache_key_fn=key_fn)
    if "tags" in options:
        options["tags"] = frozenset(options["tags"] or ())
    if "result_storage" in options:
        options["result_storage"] = storage_of(options["result_storage"])
    return {name: value for name, value in options.items() if name not in _WITHOUT_EFFECT}


_WITHOUT_EFFECT = frozenset({"cache_result_in_memory", "description", "version"})
"""Options of Prefect that need nothing done here: values are never kept in memory longer than somebody may ask."""


@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...


@overload
def task(
    *,
    name: str | None = None,
    key_name: str | None = None,
    description: str | None = None,
    version: str | None = None,
    cache_policy: CachePolicy | None = None,
    cache_key_fn: Callable[..., str | None] | None = None,
    cache_expiration: timedelta | None = None,
    refresh_cache: bool = False,
    persist_result: bool | None = None,
    result_storage: Any = None,
    result_serializer: Any = None,
    cache_result_in_memory: bool = True,
    retries: int = 0,
    retry_delay_seconds: Delays = 0.0,
    retry_jitter_factor: float = 0.0,
    retry_condition_fn: Callable[..., bool] | None = None,
    timeout_seconds: float | None = None,
    log_prints: bool | None = None,
    tags: Iterable[str] = (),
    resources: Resources | None = None,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def task(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a task, with `@task` or `@task(option=...)`.

    The options are those of `penstock.graph.tasks.TaskOptions`, with two short forms: `cache_key_fn(ctx, params)` for
    a key function, and any iterable of `tags`. Raises `ConfigurationError` for options that make no sense together.
    """
    checked = TaskOptions().merged(_options(options))
    return (lambda function: _made(function, checked)) if fn is None else _made(fn, checked)


def _made(fn: Any, options: TaskOptions) -> Any:
    if isinstance(fn, staticmethod):
        return staticmethod(Task(TaskDefinition(fn.__func__, options)))
    if isinstance(fn, classmethod):
        return Task(TaskDefinition(fn.__func__, options), binds="class")
    if isinstance(fn, Task):
        raise ConfigurationError(
            f"{fn.name} is a task already",
            because="a task of a task would have two sets of options",
            hint="use one @task, or with_options(...)",
        )
    return Task(TaskDefinition(fn, options))
