"""Telling what probably went wrong: a future that was taken for its value, or hidden where nobody resolves it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import FrameType
from typing import Any

from penstock.digests.names import is_project_module
from penstock.errors import TracingError, is_a
from penstock.graph.futures import Future
from penstock.objects.places import place_of
from penstock.objects.texts import text_of

MAX_FRAMES = 200
MAX_ITEMS = 50


def note_futures(error: BaseException) -> None:
    """Add a note to an error that has to do with a Future: which one it may be, and what to do.

    That is an error that speaks of one, or that a library raised which was given one.
    """
    with contextlib.suppress(BaseException):  # an error of the user's may refuse anything, or exit
        if is_a(error, TracingError):
            return  # it says so itself
        frames = _frames(error)
        given, by_library = _given(frames)
        # Its text is made last: that of `ValueError(future)` would wait for the value.
        speaks = any(type(each) is Future for each in error.args) or "Future" in text_of(error)
        found = _own(frames, given) if speaks or (given is not None and by_library) else None
        if found is not None:
            name, future = found
            task = future._source.describe(future._node).rsplit(", ", 2)[0]
            BaseException.add_note(
                error,
                f"{name} is a Future of {task}: its value is not here yet. "
                f"Pass it to a task, or use {name if name.isidentifier() else 'its '}.result().",
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


def _frames(error: BaseException) -> list[FrameType]:
    """Those that the error came through, innermost first."""
    frames: list[FrameType] = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    return frames[: -MAX_FRAMES - 1 : -1]


def _given(frames: list[FrameType]) -> tuple[Future[Any] | None, bool]:
    """A future that a library has which the user's code called, and whether that library itself raised the error.

    What was raised on the way to a value, as the failure of a task is, has nothing to do with who waited for it.
    """
    given, by_library = None, True
    for frame in frames:
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] == "penstock":
            by_library = False
        elif is_project_module(module):
            break
        else:
            given = next((item for _, item in _held(frame)), given)
    return given, by_library


def _own(frames: list[FrameType], given: Future[Any] | None) -> tuple[str, Future[Any]] | None:
    """The first future in the local variables of the user's functions, innermost first; the one that was given."""
    own = [frame for frame in frames if is_project_module(frame.f_globals.get("__name__", ""))]
    found = [each for frame in own for each in _held(frame) if given is None or each[1] is given]
    return found[0] if found else ("what was passed", given) if given is not None else None


def _held(frame: FrameType) -> Iterator[tuple[str, Future[Any]]]:
    for name, value in frame.f_locals.items():
        yield from ((label, item) for label, item in _items(name, value) if type(item) is Future)


def _items(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    yield name, value
    if issubclass(type(value), list | tuple):
        yield from ((f"an item of {name}", item) for item in value[:MAX_ITEMS])
    elif issubclass(type(value), dict):
        yield from ((f"{name}[{key!r}]", item) for key, item in list(value.items())[:MAX_ITEMS])
