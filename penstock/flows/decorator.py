"""`@flow`: functions whose task calls become a graph that runs on Dask, Ray or this machine."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ParamSpec, TypeVar, overload

from penstock.digests.code.loaded import note_sources
from penstock.errors import ConfigurationError
from penstock.flows.definition import Flow
from penstock.flows.options import Choice, FlowOptions, flow_options
from penstock.graph.tasks import Delays
from penstock.objects.questions import ask
from penstock.uncaught import print_users_frames

P = ParamSpec("P")
R = TypeVar("R")


def _made(fn: Any, options: FlowOptions) -> Any:
    note_sources(ask(fn, "__module__"))
    if isinstance(fn, Flow):
        raise ConfigurationError(
            f"{fn.name} is already a flow",
            because="a flow of a flow would have two sets of options",
            hint="use one @flow, or with_options(...)",
        )
    if isinstance(fn, staticmethod):
        return staticmethod(Flow(fn.__func__, options))
    if isinstance(fn, classmethod):
        return Flow(fn.__func__, options, binds="class")
    return Flow(fn, options)


@overload
def flow(fn: Callable[P, Coroutine[Any, Any, R]], /) -> Flow[P, Coroutine[Any, Any, R]]: ...


@overload
def flow(fn: Callable[P, R], /) -> Flow[P, R]: ...


@overload
def flow(
    *,
    name: str | None = None,
    description: str | None = None,
    version: str | None = None,
    cache_result_in_memory: bool = True,
    runner: Choice = None,
    task_runner: Choice = None,
    persist_result: bool | None = None,
    refresh_cache: bool = False,
    result_storage: Any = None,
    retries: int = 0,
    retry_delay_seconds: Delays = 0.0,
    log_prints: bool | None = None,
    tags: Iterable[str] = (),
) -> Callable[[Callable[P, R]], Flow[P, R]]: ...


def flow(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Turn a function into a flow, as `@flow` or `@flow(option=...)`.

    Options that are not given are decided by the settings.

    Args:
        fn: The function, sync or async, or a method.
        name: The name shown in messages, logs and run records. Defaults to the function's name.
        description: Accepted for Prefect's sake and ignored, like `version` and `cache_result_in_memory`.
        version: Ignored.
        cache_result_in_memory: Ignored.
        runner: Where the tasks run: a runner, an address such as `threads?workers=8`, or a function that returns
            either for the number of the attempt, starting at 1.
        task_runner: Another name for `runner`.
        persist_result: Store the results of all tasks, so that a failed or killed run can be resumed.
        refresh_cache: Run every task even if a result exists.
        result_storage: The store of the flow's results: an address, a path or a `Store`.
        retries: How many times to retry the whole flow if it fails. Published results are reused.
        retry_delay_seconds: The wait before each retry in seconds: a number, a list with one number for each retry
            (the last one repeats), or a function of `retries` that returns such a list.
        log_prints: Send what the flow and its tasks print to their loggers instead of standard output.
        tags: Labels of the run.

    Returns:
        A `Flow`, or a decorator that creates one if `fn` is not given.

    Raises:
        ConfigurationError: An option is unknown or has an invalid value, or `fn` cannot be a flow.
    """
    print_users_frames()
    checked = FlowOptions().merged(flow_options(options))
    return (lambda function: _made(function, checked)) if fn is None else _made(fn, checked)
