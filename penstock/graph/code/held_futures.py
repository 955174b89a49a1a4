"""Finds the future that a task's own function holds, to say why the code of the task has no digest."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType
from typing import Any

from penstock.digests.definitions.behind import behind
from penstock.digests.functions import closure_items
from penstock.digests.names import is_project_module
from penstock.errors import DigestError
from penstock.objects.places import place_of
from penstock.objects.questions import is_pending
from penstock.objects.records import defaults_of
from penstock.objects.texts import repr_of


def refusal(fn: Callable[..., Any], task: str) -> DigestError | None:
    """Return the error that names a future in a closure variable, default or bound value of a task's function.

    None if there is no such future.
    """
    met: list[Any] = []

    def is_future(part: Any) -> bool:
        met[:] = [part]
        return is_pending(part)

    for holder, value in _held_by(behind(fn, is_project_module)):
        place = place_of(value, is_future)
        if place is not None:
            return DigestError(
                f"{task} holds {repr_of(met[0])} in {holder}",
                where=place,
                because="what a task's code holds is part of its key, and a future has no value yet when the key is "
                "computed",
                hint="pass the future to the task as an argument",
            )
    return None


def _held_by(fn: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(fn, functools.partial):
        yield from ((f"argument {number} of its partial", value) for number, value in enumerate(fn.args))
        yield from ((f"the argument {name!r} of its partial", value) for name, value in fn.keywords.items())
        yield from _held_by(fn.func)
    elif isinstance(fn, MethodType):
        yield "the object to which it is bound", fn.__self__
        yield from _held_by(fn.__func__)
    elif isinstance(fn, FunctionType):
        yield from ((f"its closure variable {name!r}", value) for name, value in closure_items(fn))
        yield from ((f"the default of its parameter {name!r}", value) for name, value in defaults_of(fn).items())
    else:
        yield "the object that is called", fn
