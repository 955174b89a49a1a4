"""`@task`: functions that become nodes when called inside a flow, and run at once when called elsewhere."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import CoroutineType
from typing import Any, Generic, Literal, NamedTuple, ParamSpec, TypeVar, cast, overload

from penstock.digests.code.loaded import note_sources
from penstock.errors import ConfigurationError, ParameterError
from penstock.graph.futures import Future, FutureList, Futures, value_as_returned, wait_for_all
from penstock.graph.policies import CacheKeyFnPolicy, CachePolicy
from penstock.graph.tasks import Delays, Resources, TaskDefinition, TaskOptions, checked_tags
from penstock.graph.tracing import Trace, current_trace
from penstock.objects.questions import ask
from penstock.storage.stores.given import storage_of
from penstock.uncaught import print_users_frames

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class unmapped(Generic[R]):
    """Marks an argument of `Task.map` that every call receives as it is.

    `task.map(xs, unmapped(y))` calls the task once for each item of `xs`, each time with the same `y`.

    Args:
        value: The argument, usually a list or another iterable that must not be mapped over.
    """

    def __init__(self, value: R) -> None:
        self.value = value


class Task(Generic[P, R]):
    """A function with its task options, created by `@task`.

    A task may be a method: `object.name` is then the task with `object` as its first argument.
    """

    def __init__(
        self, definition: TaskDefinition, *, first: tuple[Any, ...] = (), binds: Literal["object", "class"] = "object"
    ) -> None:
        """Create a task; users call `@task` instead.

        Args:
            definition: The function and its options.
            first: Positional arguments that precede those of each call.
            binds: Which object precedes them when the task is an attribute of a class.
        """
        self.definition = definition
        self._first = first
        self._binds = binds
        functools.update_wrapper(self, definition.fn)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        bound = owner if self._binds == "class" else instance
        return self if bound is None else Task(self.definition, first=(*self._first, bound))

    @property
    def fn(self) -> Callable[P, R]:
        """The undecorated function."""
        return self.definition.fn

    @property
    def name(self) -> str:
        """The name shown in messages, logs and plans."""
        return self.definition.name

    @property
    def task_key(self) -> str:
        """The task's identity in cache keys: `module:qualified name`, or `key_name` if set."""
        return self.definition.identity

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    def __call__(self, *args: Any, wait_for: Iterable[Any], **kwargs: Any) -> R: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Add a node inside a flow, or run the task at once outside of one.

        Outside of a flow the task runs with the same caching, locking and retries.

        Args:
            *args: Positional arguments of the function. They may be or contain futures.
            wait_for: Futures whose calls must finish before this one starts. Ignored outside of a flow.
            **kwargs: Keyword arguments of the function.

        Returns:
            A `Future` inside a flow; type checkers see it as the value. Outside of a flow the value, or a coroutine of
            it if the function is async.

        Raises:
            ParameterError: The arguments do not match the function's parameters.
        """
        wait_for = kwargs.pop("wait_for", ()) if kwargs else ()
        trace = current_trace()
        if self._first:
            args = (*self._first, *args)
        if trace is None:
            from penstock.immediate import call_now  # loads what runs need, which modules of tasks need not

            return call_now(self.definition, args, kwargs)
        return trace.call(self.definition, args, kwargs, wait_for=wait_for)

    @overload
    def submit(self: Task[P, CoroutineType[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...

    @overload
    def submit(self: Task[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...

    @overload
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...

    @overload
    def submit(self, *args: Any, wait_for: Iterable[Any], **kwargs: Any) -> Future[R]: ...

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Add a node like a call inside a flow does, and return its future typed as a `Future`.

        Args:
            *args: Positional arguments of the function. They may be or contain futures.
            wait_for: Futures whose calls must finish before this one starts.
            **kwargs: Keyword arguments of the function.

        Returns:
            The future of the new node.

        Raises:
            ParameterError: There is no flow around the call, or the arguments do not match the function's parameters.
        """
        trace = self._trace_for("submit")
        wait_for = kwargs.pop("wait_for", ())
        return trace.call(self.definition, (*self._first, *args), kwargs, wait_for=wait_for)

    @overload
    def map(self: Task[P, CoroutineType[Any, Any, T]], *args: Any, **kwargs: Any) -> FutureList[T]: ...

    @overload
    def map(self: Task[P, Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> FutureList[T]: ...

    @overload
    def map(self, *args: Any, **kwargs: Any) -> FutureList[R]: ...

    def map(self, *args: Any, **kwargs: Any) -> Any:
        """Call the task once for each item of the given iterables, which advance together as in `zip`.

        Strings, bytes, mappings, `unmapped(x)` and values that are not iterable are passed to every call. A future is
        waited for; its value is then treated like any other argument.

        Args:
            *args: Positional arguments: iterables of equal length, or values for every call.
            wait_for: Futures whose calls must finish before any of these starts.
            **kwargs: Keyword arguments, treated like the positional ones.

        Returns:
            The futures of the calls, in the order of the items.

        Raises:
            ParameterError: The iterables differ in length, no argument is an iterable, or there is no flow around the
                call.
        """
        self._trace_for("map")
        wait_for = kwargs.pop("wait_for", ())
        positional = [_items(a) for a in args]
        named = {k: _items(v) for k, v in kwargs.items()}
        lengths = {len(i) for i in (*positional, *named.values()) if i is not None}
        if len(lengths) != 1:
            raise ParameterError(
                f"{self.name}.map() got iterables of different lengths: {', '.join(map(str, sorted(lengths)))}"
                if lengths
                else f"{self.name}.map() got no iterable",
                because="a text, bytes or a mapping is one value, which every call gets" if not lengths else "",
                hint="pass iterables of equal length, and unmapped(x) for arguments that every call shares",
            )
        calls: list[R] = []
        for n in range(lengths.pop()):
            row = [_nth(a, items, n) for a, items in zip(args, positional, strict=True)]
            rest = {k: _nth(kwargs[k], items, n) for k, items in named.items()}
            calls.append(cast(R, cast(Any, self.submit)(*row, wait_for=wait_for, **rest)))
        return FutureList(calls)

    def _trace_for(self, method: str) -> Trace:
        trace = current_trace()
        if trace is None:
            raise ParameterError(
                f"{self.name}.{method}() was called outside of a flow",
                because="a future belongs to the graph of a running flow",
                hint=f"call {self.name}(...) to run it at once, or call {method}() inside a @flow function",
            )
        return trace

    def with_options(self, **changes: Any) -> Task[P, R]:
        """Return a task of the same function with some options replaced.

        Args:
            **changes: Options of `@task`. The others keep their values.

        Raises:
            ConfigurationError: An option is unknown or has an invalid value.
        """
        return Task(self.definition.with_options(**_options(changes)), first=self._first, binds=self._binds)

    def __repr__(self) -> str:
        return f"Task({self.task_key})"


class Waited(NamedTuple):
    """The result of `wait`: the futures that have finished and those that have not."""

    done: Futures
    not_done: Futures


def wait(futures: Iterable[Future[Any]], timeout: float | None = None) -> Waited:
    """Wait until all calls have finished, successfully or not, without fetching their values.

    Args:
        futures: The futures to wait for.
        timeout: The longest time to wait, in seconds. None waits without limit.

    Returns:
        Two sets of futures, `done` and `not_done`. `not_done` is empty unless the timeout expired.
    """
    asked = list(futures)
    wait_for_all(asked, timeout)
    done = Futures(future for future in asked if future.done())
    return Waited(done, Futures(future for future in asked if future not in done))


def _items(argument: Any) -> Sequence[Any] | None:
    """Return the items that `map` iterates over, or None for an argument that every call receives."""
    if isinstance(argument, Future):
        argument = value_as_returned(argument)
    if isinstance(argument, unmapped | str | bytes | Mapping) or not hasattr(argument, "__iter__"):
        return None
    return argument if isinstance(argument, list | tuple) else list(cast(Iterator[Any], argument))


def _nth(argument: Any, items: Sequence[Any] | None, n: int) -> Any:
    if items is not None:
        return items[n]
    return argument.value if isinstance(argument, unmapped) else argument


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the options that users write to those of `TaskOptions`."""
    options = dict(given)
    key_fn = options.pop("cache_key_fn", None)
    if key_fn is not None:
        if options.get("cache_policy") is not None:
            raise ConfigurationError(
                "both cache_policy and cache_key_fn are given",
                because="each of them defines the whole cache key",
                hint="combine them: cache_policy=INPUTS + CachePolicy.from_cache_key_fn(fn)",
            )
        options["cache_policy"] = CacheKeyFnPolicy(cache_key_fn=key_fn)
    if "tags" in options:
        options["tags"] = checked_tags(options["tags"])
    if "result_storage" in options:
        options["result_storage"] = storage_of(options["result_storage"])
    return {name: value for name, value in options.items() if name not in _WITHOUT_EFFECT}


_WITHOUT_EFFECT = frozenset({"cache_result_in_memory", "description", "version"})
"""Options of Prefect that are accepted and ignored. Values never stay in memory after their last use."""


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
    """Turn a function into a task, as `@task` or `@task(option=...)`.

    Args:
        fn: The function: sync or async, a generator, a method, or any other callable. The items of a generator are
            collected in a list, record batches of a cached task in a table.
        name: The name shown in messages, logs and plans. Defaults to the function's name.
        key_name: The identity in cache keys, in place of the module and qualified name. Results then survive renaming
            and moving the function.
        description: Accepted for Prefect's sake and ignored, like `version` and `cache_result_in_memory`.
        version: Ignored.
        cache_policy: What the cache key consists of, for example `INPUTS + TASK_SOURCE`. By default results are not
            cached unless `persist_result` is set here or on the flow, or `result_storage` or `result_serializer` here.
        cache_key_fn: A function `fn(context, parameters)` that returns the key, or None not to cache the call.
            Excludes `cache_policy`.
        cache_expiration: How long a result may be reused after it was computed.
        refresh_cache: Run even if a result exists, and replace that result.
        persist_result: Store the results, under the policy `DEFAULT` if no other is given. False disables caching.
        result_storage: The store of the results, in place of the run's: an address, a path or a `Store`.
        result_serializer: The name of a serializer or a `Serializer`. By default the type of the value decides.
        cache_result_in_memory: Ignored.
        retries: How many times to retry a failed call.
        retry_delay_seconds: The wait before each retry in seconds: a number, a list with one number for each retry
            (the last one repeats), or a function of `retries` that returns such a list.
        retry_jitter_factor: Lengthens each wait by a random fraction between 0 and this factor.
        retry_condition_fn: A function `fn(task, task_run, state)`. If it returns a false value, the call is not
            retried.
        timeout_seconds: A call that runs longer than this fails with `TaskTimeout`.
        log_prints: Send what the function prints to its logger instead of standard output.
        tags: Labels. Limits apply to tags.
        resources: What a call needs, for example `{"cpu": 2, "memory": "4GiB"}`, or a function that returns this for
            the number of the attempt, starting at 1.

    Returns:
        A `Task`, or a decorator that creates one if `fn` is not given.

    Raises:
        ConfigurationError: An option is unknown, has an invalid value, or conflicts with another one.
    """
    print_users_frames()
    checked = TaskOptions().merged(_options(options))
    return (lambda function: _made(function, checked)) if fn is None else _made(fn, checked)


def _made(fn: Any, options: TaskOptions) -> Any:
    note_sources(ask(fn, "__module__"))
    if isinstance(fn, staticmethod):
        return staticmethod(Task(TaskDefinition(fn.__func__, options)))
    if isinstance(fn, classmethod):
        return Task(TaskDefinition(fn.__func__, options), binds="class")
    if isinstance(fn, Task):
        raise ConfigurationError(
            f"{fn.name} is already a task",
            because="a task of a task would have two sets of options",
            hint="use one @task, or with_options(...)",
        )
    return Task(TaskDefinition(fn, options))
