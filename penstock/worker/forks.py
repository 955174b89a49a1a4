"""Processes that a task forks off: none of them takes part in what only the worker does."""

from __future__ import annotations

import contextlib
import os
import sys

from penstock.objects.texts import encodable, traceback_of


def end_if_forked(process: int, task: str, error: BaseException | None = None) -> None:
    """End this process here if it is not `process`, where the task began: a child that came back from the task.

    It would go on as a second worker, with the first one's connections, locks and files.
    """
    if os.getpid() == process:
        return
    code = 0
    if error is not None:
        code = _code(error)
    with contextlib.suppress(Exception):  # the child's own prints; whatever becomes of them, it ends
        sys.stdout.flush()
        sys.stderr.flush()
    text = f"penstock: a process that {task} forked came back from the task; it was ended here with status {code}\n"
    if error is not None and type(error) is not SystemExit:
        text += traceback_of(error)
    with contextlib.suppress(OSError):
        os.write(2, encodable(text).encode())
    os._exit(code)


def _code(error: BaseException) -> int:
    """The status that the interpreter would end with."""
    if type(error) is not SystemExit:
        return 1
    return error.code & 0xFF if isinstance(error.code, int) else int(error.code is not None)
