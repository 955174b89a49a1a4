"""Tracebacks that show users' own frames without Penstock's."""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Sequence
from types import TracebackType

from penstock.errors import PenstockError, is_a
from penstock.objects.chains import chain_of

OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_TESTING = os.path.join(OURS, "testing") + os.sep
_LIBRARIES = (
    *{sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")},
    "<frozen ",
)
_FRAME = r'^  File "(?P<path>[^"]*)", line \d+'


def is_users_file(path: str) -> bool:
    """Return whether a file is the user's own code."""
    return path.startswith(_TESTING) or not path.startswith((OURS, *_LIBRARIES))


def without_ours(error: BaseException, *, of_task: bool) -> None:
    """Remove Penstock's frames from the traceback of an error, and from those of its causes and contexts.

    If the error has no others, only if a task raised it.
    """
    for each in chain_of(error):
        shown: TracebackType | None = None
        for trace in reversed(_not_ours(_frames(each))):
            shown = TracebackType(shown, trace.tb_frame, trace.tb_lasti, trace.tb_lineno)
        if shown is not None or (of_task if each is error else is_a(each, PenstockError)):
            BaseException.with_traceback(each, shown)


def _frames(error: BaseException) -> list[TracebackType]:
    found: list[TracebackType] = []
    trace = _TRACEBACK(error)
    while trace is not None:
        found.append(trace)
        trace = trace.tb_next
    return found


def _is_ours(trace: TracebackType) -> bool:
    path = trace.tb_frame.f_code.co_filename
    return path.startswith(OURS) and not path.startswith(_TESTING)


def _not_ours(frames: Sequence[TracebackType]) -> list[TracebackType]:
    """Return a traceback without the frames of Penstock, and of libraries through which it calls itself or a user."""
    kept: list[TracebackType] = []
    called: list[TracebackType] | None = None  # by Penstock: it is shown where the error comes from there
    for trace in frames:
        if _is_ours(trace):
            called = []
        elif called is None or is_users_file(trace.tb_frame.f_code.co_filename):
            called = None
            kept.append(trace)
        else:
            called.append(trace)
    return [*kept, *(called or ())]


def place_in_users_code(error: BaseException) -> str:
    """Return `file:line` of the last of the user's own lines that led to an error; empty if there is none."""
    places = [(trace.tb_frame.f_code.co_filename, trace.tb_lineno) for trace in _frames(error)]
    return next((f"{path}:{line}" for path, line in reversed(places) if is_users_file(path)), "")


def users_frames(text: str) -> str:
    """Return a traceback without the frames of Penstock, installed packages and the standard library.

    If no frame would be left, only Penstock's are removed; a traceback with only those stays unchanged.
    """
    for hidden in ((OURS, *_LIBRARIES), (OURS,)):
        kept, frames = _without(text, hidden)
        if frames:
            return kept
    return text


def _without(text: str, hidden: tuple[str, ...]) -> tuple[str, int]:
    """Return the traceback without frames of files below `hidden`, and the number of frames left."""
    kept, frames, skipping = [], 0, False
    for line in text.splitlines(keepends=True):
        if frame := re.match(_FRAME, line):
            skipping = frame["path"].startswith(hidden) and not frame["path"].startswith(_TESTING)
            frames += not skipping
        elif not line.startswith("    "):
            skipping = False
        if not skipping:
            kept.append(line)
    return "".join(kept), frames


# Bypasses whatever the error's class defines for it.
_TRACEBACK = BaseException.__dict__["__traceback__"].__get__
