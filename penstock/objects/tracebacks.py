"""Tracebacks that show users' own frames without Penstock's."""

from __future__ import annotations

import os
import re
import sysconfig
from types import TracebackType

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
    """Remove Penstock's frames from the traceback of an error. If it has no others, only if a task raised it."""
    kept: list[TracebackType] = []
    trace: TracebackType | None = _TRACEBACK(error)
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        if not path.startswith(OURS) or path.startswith(_TESTING):
            kept.append(trace)
        trace = trace.tb_next
    shown: TracebackType | None = None
    for trace in reversed(kept):
        shown = TracebackType(shown, trace.tb_frame, trace.tb_lasti, trace.tb_lineno)
    if shown is not None or of_task:
        BaseException.with_traceback(error, shown)


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
