"""Async functions run to their end, in whatever thread one is."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from penstock.imported import loaded

R = TypeVar("R")


def named(coroutine: Coroutine[Any, Any, R], name: str) -> Coroutine[Any, Any, R]:
    """The coroutine under the name of the function it stands for: errors and warnings show it."""
    itself: Any = coroutine
    itself.__name__ = itself.__qualname__ = name
    return coroutine


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


def _raise(error: BaseException) -> Any:
    raise error
