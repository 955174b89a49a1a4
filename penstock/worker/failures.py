"""Exceptions as they travel from a worker to the driver and on to the user.

What users raise may refuse everything that is done with exceptions: to say what it is, to be pickled, to take a note.
Then it travels as far as it can, and its text and traceback always.
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
    """The exception with its text and traceback; the object itself travels along where it can."""
    return Failure(kind_of(error), text_of(error), traceback_of(error), error)


def portable(failure: Failure) -> Failure:
    """The failure as another process can read it: without the exception if that does not survive pickling."""
    pickled = None
    if failure.error is not None:
        pickled = _survives(failure.error, failure.error) or _survives(_Bare(failure.error), failure.error)
    return replace(failure, error=None, pickled=pickled)


def _survives(sent: object, error: BaseException) -> bytes | None:
    """What is sent as bytes, if they become an exception of the same class again."""
    try:
        # As it will be sent: exceptions of a script's own travel with their class, and come back as that class.
        data: bytes = cloudpickle.dumps(sent)
        return data if type(cloudpickle.loads(data)) is type(error) else None
    except BaseException:  # noqa: BLE001 (a user's __reduce__ may raise anything, or exit; the text stays)
        return None


class _Bare:
    """An exception by what all have, its class, `args` and attributes.

    For those whose own way does not lead back: an `__init__` with other arguments than `args`, attributes that cannot
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


# What the exception's class says of these attributes is not asked.
_ARGS = BaseException.__dict__["args"].__get__
_TRACEBACK = BaseException.__dict__["__traceback__"].__get__
_ATTRIBUTES = BaseException.__dict__["__dict__"].__get__


def arrived(failure: Failure) -> Failure:
    """A portable failure in the driver: with its exception again, if that can be read here too."""
    if failure.pickled is None:
        return failure
    error: Any = None
    try:
        error = cloudpickle.loads(failure.pickled)
    except BaseException:  # noqa: BLE001 (as above)
        error = None
    return replace(failure, error=error if is_exception(error) else None, pickled=None)


def is_exception(thing: object) -> bool:
    """Whether it can be raised, whatever it says of its class."""
    return issubclass(type(thing), BaseException)


def to_exception(failure: Failure, *, task: str, node: int, attempt: int) -> BaseException:
    """What the flow raises: the task's own exception with a note where it came from, or `TaskFailed` with its text.

    `TaskFailed` also for what would end the program (`SystemExit`, `KeyboardInterrupt` and all else that is no
    `Exception`): a task's end is not the flow's.
    """
    where = f"task {task}, node {node}, attempt {attempt}"
    error = failure.error
    if error is None or not issubclass(type(error), Exception):
        because = "it is no error but an order to end the program, which a task cannot give"
        if error is None:
            because = "the exception itself could not be sent back; its traceback is in `data`"
        failed = TaskFailed(
            f"{failure.type_name}: {failure.message}" if failure.message else failure.type_name,
            where=where,
            because=because,
            traceback=failure.traceback,
        )
        failed.__cause__ = error
        return failed
    notes = [f"in {where}"]
    if _TRACEBACK(error) is None:  # it was left in another process
        notes.append(f"There:\n{users_frames(failure.traceback).rstrip()}")
    for text in notes:
        note(error, text)
    return error


def note(error: BaseException | None, text: str) -> None:
    """Add a note that is not there yet. What refuses to be noted on is raised as it is."""
    with contextlib.suppress(BaseException):
        if error is not None and text not in getattr(error, "__notes__", ()):
            BaseException.add_note(error, text)


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
        return text_of(self._error)
