"""`@flow`: a function whose task calls become a graph, run on Dask, Ray or this machine."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ParamSpec, TypeVar, overload

from penstock.errors import ConfigurationError
from penstock.flows.definition import Flow
from penstock.flows.options import Choice, FlowOptions, flow_options
from penstock.graph.tasks import Delays

P = ParamSpec("P")
R = TypeVar("R")


def _made(fn: Any, options: FlowOptions) -> Any:
    if isinstance(fn, Flow):
        raise ConfigurationError(
            f"{fn.name} is a flow already", because="it would have two sets of options", hint="use with_options(...)"
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
    """Make a function a flow, with `@flow` or `@flow(option=...)`.

    The options are those of `FlowOptions`; `task_runner` is another name of `runner`. Raises `ConfigurationError` for
    unknown ones.
    """
    checked = FlowOptions().merged(flow_options(options))
    return (lambda function: _made(function, checked)) if fn is None else _made(fn, checked)
