"""Telling what probably went wrong: a future that was taken for its value, or hidden where nobody resolves it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import FrameType
from typing import Any

from penstock.digests.names import is_project_module
from penstock.errors import TracingError
from penstock.graph.futures import Future
from penstock.objects.places import place_of
from penstock.objects.texts import text_of

MAX_FRAMES = 200
MAX_ITEMS = 50


def note_futures(error: BaseException) -> None:
    """Add a note to an error that speaks of a Future: which one it may be, and what to do."""
    with contextlib.suppress(BaseException):  # an error of the user's may refuse anything, or exit
        if "Future" in text_of(error) and (found := _nearest(error)):
            name, future = found
            task = future._source.describe(future._node).partition(",")[0]
            BaseException.add_note(
                error,
                f"{name} is a Future of {task}: its value is not here yet. "
                f"Pass it to a task, or use {name if name.isidentifier() else 'its'}.result().",
            )


def refuse_hidden_futures(value: Any) -> None:
    """Raises `TracingError` for a future in what a flow returned, in an object where it was not seen."""
    place = place_of(value, lambda part: type(part) is Future)
    if place is not None:
        raise TracingError(
            "the flow returns a future that is hidden in an object",
            where=f"result{place}",
            because="futures are seen in lists, tuples, dicts, sets and dataclasses only",
            hint="put future.result() there",
        )


def _nearest(error: BaseException) -> tuple[str, Future[Any]] | None:
    """The first future in the local variables of the user's functions that the error came through, innermost first."""
    frames: list[FrameType] = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    for frame in frames[: -MAX_FRAMES - 1 : -1]:
        if not is_project_module(frame.f_globals.get("__name__", "")):
            continue
        for name, value in frame.f_locals.items():
            for label, item in _items(name, value):
                if type(item) is Future:
                    return label, item
    return None


def _items(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    yield name, value
    if isinstance(value, list | tuple):
        yield from ((f"an item of {name}", item) for item in value[:MAX_ITEMS])
    elif isinstance(value, dict):
        yield from ((f"{name}[{key!r}]", item) for key, item in list(value.items())[:MAX_ITEMS])
