"""Exceptions on their way from a worker to the driver and the user.

Users' exceptions may fail at everything: converting to text, pickling, adding notes. As much as possible is sent, and
always the text and traceback.
"""

from __future__ import annotations

import contextlib
from typing import Any

from msgspec.structs import replace

from penstock.objects.sent_exceptions import packed, stand_in, unpacked
from penstock.objects.texts import kind_of, text_of, traceback_of
from penstock.objects.tracebacks import users_frames
from penstock.worker.messages import Failure


def describe(error: BaseException) -> Failure:
    """Describe an exception by its text, traceback and the object itself."""
    return Failure(kind_of(error), text_of(error), traceback_of(error), error)


def portable(failure: Failure) -> Failure:
    """Return the failure in a form for other processes."""
    return failure if failure.error is None else replace(failure, error=None, chain=packed(failure.error))


def arrived(failure: Failure) -> Failure:
    """Restore the exception of a portable failure in the driver, if it can be unpickled here."""
    if not failure.chain:
        return failure
    lost = stand_in(failure.type_name, failure.message, failure.traceback)
    error = unpacked(failure.chain, lost)
    return replace(failure, error=None if error is lost else error, stand_in=lost, chain={})


def to_exception(failure: Failure, *, task: str, node: int, attempt: int) -> BaseException:
    """Return the exception for the flow: the task's own with a note of its call, or `TaskFailed` with its text.

    `TaskFailed` is also used for exceptions that would end the program (`SystemExit`, `KeyboardInterrupt` and others
    that are not an `Exception`), since the end of a task must not end the flow.
    """
    where = f"task {task}, node {node}, attempt {attempt}"
    error = failure.error
    if error is None or not issubclass(type(error), Exception):
        failed = failure.stand_in or stand_in(failure.type_name, failure.message, failure.traceback)
        failed.where = where
        if error is not None:
            failed.because = "this exception ends a program, and a task cannot end the program of its flow"
            failed.__cause__ = error
        return failed
    notes = [f"in {where}"]
    if BaseException.__dict__["__traceback__"].__get__(error) is None:  # it stayed in another process
        notes.append(f"Traceback on the worker:\n{users_frames(failure.traceback).rstrip()}")
    for text in notes:
        note(error, text)
    return error


def note(error: BaseException | None, text: str) -> None:
    """Add a note to an exception, once. Does nothing if the exception does not accept notes."""
    with contextlib.suppress(BaseException):
        if error is not None and text not in getattr(error, "__notes__", ()):
            BaseException.add_note(error, text)


class FailedState:
    """The `state` argument of `retry_condition_fn(task, task_run, state)`."""

    name = "Failed"

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def result(self, raise_on_failure: bool = True) -> Any:
        """Raise the task's exception, or return it if `raise_on_failure` is False."""
        if raise_on_failure:
            raise self._error
        return self._error

    def is_failed(self) -> bool:
        return True

    @property
    def message(self) -> str:
        return text_of(self._error)
