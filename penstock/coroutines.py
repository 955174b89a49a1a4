"""Running async functions to completion from synchronous code, in any thread."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from penstock.imported import loaded

R = TypeVar("R")


def named(coroutine: Coroutine[Any, Any, R], name: str) -> Coroutine[Any, Any, R]:
    """Return the coroutine, renamed to the function it stands for, as errors and warnings show it."""
    itself: Any = coroutine
    itself.__name__ = itself.__qualname__ = name
    return coroutine


def run_coroutine(coroutine: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine in a new event loop and return its result.

    If this thread already runs a loop (in a notebook or an async function), the new loop runs in another thread; this
    one blocks meanwhile, as with any synchronous function.
    """
    import asyncio  # slow to import, and only needed by async functions

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
    """Return whether an event loop is running in this thread."""
    asyncio = loaded("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


def _raise(error: BaseException) -> Any:
    raise error
