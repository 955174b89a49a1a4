"""Exceptions as they travel from a worker to the driver and on to the user."""

from __future__ import annotations

import traceback
from typing import Any

import cloudpickle

from penstock.errors import TaskFailed
from penstock.runners.base import Failure


def describe(error: BaseException) -> Failure:
    """The exception with its text and traceback; the object itself travels along where it can."""
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    return Failure(type(error).__qualname__, str(error), "".join(lines), error)


def portable(failure: Failure) -> Failure:
    """The failure as another process can read it: without the exception object if that does not survive pickling."""
    try:
        # As it will be sent: exceptions of a script's own travel with their class, and come back as that class.
        cloudpickle.loads(cloudpickle.dumps(failure.error))
    except Exception:  # noqa: BLE001 (a user's __reduce__ may raise anything; the text stays)
        return Failure(failure.type_name, failure.message, failure.traceback)
    return failure


def to_exception(failure: Failure, *, task: str, node: int, attempt: int) -> BaseException:
    """What the flow raises: the task's own exception with a note where it came from, or `TaskFailed` with its text."""
    where = f"task {task}, node {node}, attempt {attempt}"
    if failure.error is None:
        return TaskFailed(
            f"{failure.type_name}: {failure.message}",
            where=where,
            because="the exception itself could not be sent back; its traceback is in `data`",
            traceback=failure.traceback,
        )
    note = f"in {where}"
    if note not in getattr(failure.error, "__notes__", ()):
        failure.error.add_note(note)
    return failure.error


class FailedState:
    """What `retry_condition_fn(task, task_run, state)` gets: `state.result()` raises the task's exception."""

    name = "Failed"

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def result(self, raise_on_failure: bool = True) -> Any:
        """Raises the exception, or returns it if told not to raise."""
        if raise_on_failure:
            raise self._error
        return self._error

    def is_failed(self) -> bool:
        return True

    @property
    def message(self) -> str:
        return str(self._error)
