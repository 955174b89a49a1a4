"""Processes forked by tasks, which must not continue as workers."""

from __future__ import annotations

import contextlib
import os
import sys

from penstock.objects.texts import encodable, traceback_of


def end_if_forked(process: int, task: str, error: BaseException | None = None) -> None:
    """End this process if it is not `process`, in which the task started, but a forked child that left the task.

    It would continue as a second worker with the first one's connections, locks and files.
    """
    if os.getpid() == process:
        return
    code = 0
    if error is not None:
        code = _code(error)
    with contextlib.suppress(Exception):  # flushes the child's own prints if possible
        sys.stdout.flush()
        sys.stderr.flush()
    text = f"penstock: a process forked by {task} returned from the task and was ended with status {code}\n"
    if error is not None and type(error) is not SystemExit:
        text += traceback_of(error)
    with contextlib.suppress(OSError):
        os.write(2, encodable(text).encode())
    os._exit(code)


def _code(error: BaseException) -> int:
    """Return the exit status that the interpreter would use."""
    if type(error) is not SystemExit:
        return 1
    return error.code & 0xFF if isinstance(error.code, int) else int(error.code is not None)
