"""Errors that end a script: the interpreter prints them without Penstock's frames, as `penstock run` does."""

from __future__ import annotations

import sys
from types import TracebackType

from penstock.errors import PenstockError
from penstock.objects.tracebacks import without_ours
from penstock.settings import current_settings


def print_users_frames() -> None:
    """Have uncaught errors printed without Penstock's frames, unless the log level is DEBUG.

    Called when a task or flow is defined. An `excepthook` that others have set stays.
    """
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _excepthook


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not _debugging():
        without_ours(error, of_task=False)
        trace = BaseException.__dict__["__traceback__"].__get__(error)
    sys.__excepthook__(kind, error, trace)


def _debugging() -> bool:
    try:
        return current_settings().log_level == "DEBUG"
    except PenstockError:  # invalid settings may be what is printed
        return False
