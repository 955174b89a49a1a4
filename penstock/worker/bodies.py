"""Running the body of a user's function to completion: coroutines, async generators, context variables."""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from types import GeneratorType
from typing import Any, TypeVar

from penstock.coroutines import run_coroutine
from penstock.digests.large import PLAIN
from penstock.worker.streams import collected_async

R = TypeVar("R")
Gather = Callable[[Iterator[Any]], Any]
"""What a generator becomes as the value of its call."""


def returned(value: Any, gather: Gather) -> Any:
    """Return the value of a function, running a coroutine to completion and gathering the items of a generator.

    The items of an async generator are collected first, so that both kinds are treated alike.
    """
    if type(value) in PLAIN:
        return value
    if inspect.iscoroutine(value):
        return returned(run_coroutine(value), gather)
    if inspect.isasyncgen(value):
        return gather(_each(run_coroutine(collected_async(value))))
    return gather(value) if issubclass(type(value), GeneratorType) else value


def run_in_context(variables: Mapping[ContextVar[Any], Any] | None, body: Callable[[], R]) -> R:
    """Run `body` with the caller's context variables, in addition to those that are set here, and return its result."""
    if not variables:
        return body()

    def run() -> R:
        for variable, value in variables.items():
            variable.set(value)
        return body()

    return contextvars.copy_context().run(run)


def _each(items: list[Any]) -> Iterator[Any]:
    yield from items
