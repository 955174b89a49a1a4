"""Exceptions on their way from a worker to the driver and the user.

Users' exceptions may fail at everything: converting to text, pickling, adding notes. As much as possible is sent, and
always the text and traceback.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import cloudpickle

from penstock.errors import TaskFailed
from penstock.objects.texts import kind_of, text_of, traceback_of
from penstock.objects.tracebacks import users_frames
from penstock.worker.messages import Failure


def describe(error: BaseException) -> Failure:
    """Describe an exception by its text, traceback and the object itself."""
    return Failure(kind_of(error), text_of(error), traceback_of(error), error)


def portable(failure: Failure) -> Failure:
    """Return the failure in a form for other processes: without the exception if that cannot be pickled."""
    pickled = None
    if failure.error is not None:
        pickled = _survives(failure.error, failure.error) or _survives(_Bare(failure.error), failure.error)
    return replace(failure, error=None, pickled=pickled)


def _survives(sent: object, error: BaseException) -> bytes | None:
    """Return the pickled exception if it can be unpickled as one of the same class, else None."""
    try:
        # With cloudpickle, as it will be sent: exceptions defined in a script are pickled with their class.
        data: bytes = cloudpickle.dumps(sent)
        return data if type(cloudpickle.loads(data)) is type(error) else None
    except BaseException:  # noqa: BLE001 (a user's __reduce__ may raise anything, or exit; the text stays)
        return None


class _Bare:
    """Pickles an exception by its class, `args` and attributes.

    For exceptions whose own pickling fails, because `__init__` takes other arguments than `args` or attributes cannot
    be set.
    """

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        error = self.error
        return _from_bare, (type(error), _ARGS(error), _ATTRIBUTES(error))


def _from_bare(kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]) -> BaseException:
    error = BaseException.__new__(kind, *args)
    _ATTRIBUTES(error).update(attributes)
    return error


# Bypasses whatever the exception's class defines for these attributes.
_ARGS = BaseException.__dict__["args"].__get__
_TRACEBACK = BaseException.__dict__["__traceback__"].__get__
_ATTRIBUTES = BaseException.__dict__["__dict__"].__get__


def arrived(failure: Failure) -> Failure:
    """Restore the exception of a portable failure in the driver, if it can be unpickled here."""
    if failure.pickled is None:
        return failure
    error: Any = None
    try:
        error = cloudpickle.loads(failure.pickled)
    except BaseException:  # noqa: BLE001 (as above)
        error = None
    return replace(failure, error=error if is_exception(error) else None, pickled=None)


def is_exception(thing: object) -> bool:
    """Return whether an object can be raised, regardless of its `__class__`."""
    return issubclass(type(thing), BaseException)


def to_exception(failure: Failure, *, task: str, node: int, attempt: int) -> BaseException:
    """Return the exception for the flow: the task's own with a note of its call, or `TaskFailed` with its text.

    `TaskFailed` is also used for exceptions that would end the program (`SystemExit`, `KeyboardInterrupt` and others
    that are not an `Exception`), since the end of a task must not end the flow.
    """
    where = f"task {task}, node {node}, attempt {attempt}"
    error = failure.error
    if error is None or not issubclass(type(error), Exception):
        because = "this exception ends a program, and a task cannot end the program of its flow"
        if error is None:
            because = "the exception itself could not be pickled; its traceback is in `data`"
        failed = TaskFailed(
            f"{failure.type_name}: {failure.message}" if failure.message else failure.type_name,
            where=where,
            because=because,
            traceback=failure.traceback,
        )
        failed.__cause__ = error
        return failed
    notes = [f"in {where}"]
    if _TRACEBACK(error) is None:  # it stayed in another process
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
