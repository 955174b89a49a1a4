"""Running the body of a user's function to its end: coroutines, async generators, the caller's context variables."""

from __future__ import annotations

import contextvars
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

from penstock.digests.large import PLAIN
from penstock.imported import loaded

R = TypeVar("R")


def returned(value: Any) -> Any:
    """What a function returned, once it is a value: a coroutine is run to its end.

    The items of an async generator are collected and come as those of a generator do, so that both are treated alike.
    """
    if type(value) in PLAIN:
        return value
    if inspect.iscoroutine(value):
        return returned(run_coroutine(value))
    if inspect.isasyncgen(value):
        return _each(run_coroutine(_collected(value)))
    return value


def run_coroutine(coroutine: Coroutine[Any, Any, R]) -> R:
    """An async function's result, from an event loop of its own.

    In a thread of its own where this one runs a loop already (a notebook, an async function): that loop stands still
    meanwhile, as it does during any function that is not async.
    """
    import asyncio  # the time it takes to import is for async functions

    if not loop_runs():
        return asyncio.run(coroutine)
    outcome: list[Callable[[], R]] = []
    context = contextvars.copy_context()

    def run() -> None:
        try:
            value = context.run(asyncio.run, coroutine)
        except BaseException as error:  # noqa: BLE001 (raised in the thread that waits)
            outcome.append(lambda error=error: _raise(error))  # type: ignore[misc]
        else:
            outcome.append(lambda: value)

    thread = threading.Thread(target=run, name="penstock-loop", daemon=True)
    thread.start()
    thread.join()
    return outcome[0]()


def loop_runs() -> bool:
    """Whether an event loop runs in this thread."""
    asyncio = loaded("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


def run_in_context(variables: Mapping[ContextVar[Any], Any] | None, body: Callable[[], R]) -> R:
    """What `body` returns, run with these values of the caller's context variables besides those that are set here."""
    if not variables:
        return body()

    def run() -> R:
        for variable, value in variables.items():
            variable.set(value)
        return body()

    return contextvars.copy_context().run(run)


def _raise(error: BaseException) -> Any:
    raise error


def _each(items: list[Any]) -> Iterator[Any]:
    yield from items


async def _collected(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]
