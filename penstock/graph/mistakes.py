"""Hints about likely mistakes: a future used as if it were its value, or hidden where it is not resolved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import FrameType
from typing import Any

from penstock.digests.names import is_project_module
from penstock.errors import CycleError, TracingError, is_a
from penstock.graph.futures import Future
from penstock.objects.places import place_of
from penstock.objects.texts import text_of

MAX_FRAMES = 200
MAX_ITEMS = 50


def note_futures(error: BaseException) -> None:
    """Add a note to an error that a Future probably caused: which future, and what to do.

    Applies to errors that mention a Future, or that were raised by a library that received one.
    """
    with contextlib.suppress(BaseException):  # a user's error may raise anything, or exit
        if is_a(error, TracingError):
            return  # its message is already clear
        frames = _frames(error)
        given, by_library = _given(frames)
        # Checks the text last: that of `ValueError(future)` would wait for the value.
        speaks = any(type(each) is Future for each in error.args) or "Future" in text_of(error)
        found = _own(frames, given) if speaks or (given is not None and by_library) else None
        if found is not None:
            name, future = found
            task = future._source.describe(future._node).rsplit(", ", 2)[0]
            BaseException.add_note(
                error,
                f"{name} is a Future of {task}, not its value. "
                f"Pass it to a task, or use {name if name.isidentifier() else 'its '}.result().",
            )


def refuse_hidden_futures(value: Any) -> None:
    """Raise `TracingError` if a flow returned an object that hides a future."""
    place = place_of(value, lambda part: type(part) is Future)
    if place is not None:
        raise TracingError(
            "the flow returns a future that is hidden in an object",
            where=f"result{place}",
            because="futures are only resolved in lists, tuples, dicts and their views, sets, arrays of objects, "
            "and objects whose class declares its fields, such as dataclasses",
            hint="store future.result() there instead",
        )


def _frames(error: BaseException) -> list[FrameType]:
    """Return the frames that the error passed, innermost first."""
    frames: list[FrameType] = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    return frames[: -MAX_FRAMES - 1 : -1]


def _given(frames: list[FrameType]) -> tuple[Future[Any] | None, bool]:
    """Return a future that the user's code passed to a library, and whether that library raised the error.

    Errors raised while waiting for a value, such as the failure of a task, do not count.
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
    """Return the first future among local variables of the user's functions, innermost first, or the given one."""
    own = [frame for frame in frames if is_project_module(frame.f_globals.get("__name__", ""))]
    found = [each for frame in own for each in _held(frame) if given is None or each[1] is given]
    return found[0] if found else ("an argument", given) if given is not None else None


def _held(frame: FrameType) -> Iterator[tuple[str, Future[Any]]]:
    for name, value in frame.f_locals.items():
        yield from ((label, item) for label, item in _items(name, value) if type(item) is Future)


def _items(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    yield name, value
    if issubclass(type(value), list | tuple):
        yield from ((f"an item of {name}", item) for item in value[:MAX_ITEMS])
    elif issubclass(type(value), dict):
        yield from ((f"{name}[{key!r}]", item) for key, item in list(value.items())[:MAX_ITEMS])


def called_too_early(task: str, node: int) -> CycleError:
    """Return the error for a call that would wait for one that does not exist yet."""
    return CycleError(
        f"{task} would wait for node {node}, which comes after it",
        because="a node can only wait for calls made before it; anything else could be a cycle",
        hint="call the task that it waits for first",
    )


def called_too_late(task: str) -> TracingError:
    """Return the error for a call that nothing would run any more."""
    return TracingError(
        f"{task} was called after its flow had ended",
        because="a thread or an asyncio task of the flow is still running, and nothing would run the call any more",
        hint="wait in the flow for all threads and asyncio tasks that call tasks",
    )
