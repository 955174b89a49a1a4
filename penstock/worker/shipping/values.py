"""Values sent to and between worker processes: small ones as bytes inside messages, large ones as files."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cloudpickle

from penstock.errors import SerializationError
from penstock.objects.live import (
    Pickler,
    ResultPickler,
    culprit,
    dumps,
    find_live,
    said_place,
    shown_cause,
    why_not,
    why_unpicklable,
)
from penstock.objects.questions import WHERE_PENDING_BELONGS, is_pending
from penstock.objects.texts import kind_of

INLINE_VALUE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Pickled:
    """A value as bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Spilled:
    """A value in a file."""

    path: str


def write_value(value: Any, folder: str) -> Pickled | Spilled:
    """Write a value and return its handle. Raises `SerializationError`."""
    data = pickle_simple(value) or pickled_result(value)
    if len(data) <= INLINE_VALUE_BYTES:
        return Pickled(data)
    path = os.path.join(folder, os.urandom(8).hex())
    with open(path, "xb") as file:
        file.write(data)
    return Spilled(path)


def spill_value(value: Any, folder: str) -> Spilled:
    """Write a large value without another copy in memory, and return its handle. Raises `SerializationError`."""
    path = os.path.join(folder, os.urandom(8).hex())
    with open(path, "xb") as file:
        _pickle_into(Pickler(file, protocol=5), value, "an argument")
    return Spilled(path)


def pickle_simple(value: Any) -> bytes | None:
    """Pickle a number, string and the like in a tenth of cloudpickle's time. Returns None for all other values."""
    return pickle.dumps(value, protocol=5) if type(value) in _SIMPLE else None


_SIMPLE = frozenset({type(None), bool, int, float, complex, str, bytes})


def read_value(handle: Pickled | Spilled) -> Any:
    """Return the value of a handle."""
    if isinstance(handle, Pickled):
        return cloudpickle.loads(handle.data)
    with open(handle.path, "rb") as file:
        return cloudpickle.load(file)


def discard_value(handle: Pickled | Spilled) -> None:
    """Remove the file of a handle, if it has one."""
    if isinstance(handle, Spilled):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(handle.path)


def pickled_result(value: Any) -> bytes:
    """Pickle the result of a call. Raises `SerializationError` if it cannot leave its process."""
    try:
        return dumps(value, ResultPickler)
    except BaseException as error:  # noqa: BLE001 (a __reduce__ may raise anything, or exit)
        raise unsendable(value, error) from shown_cause(error)


LOOKED_AT = 64
"""How many parts of a value that stays in its process are searched for live values."""


def refuse_live(value: Any, *, one_way: bool) -> None:
    """Raise `SerializationError` for a live result, which could be passed on inside this process only.

    With `one_way`, only for one that a second consumer would find empty.
    """
    error = None if type(value) in _SIMPLE else find_live(value, most=LOOKED_AT, one_way=one_way)
    if error is not None:
        raise unsendable(value, error) from shown_cause(error)


def unsendable(value: Any, error: BaseException) -> SerializationError:
    """Return the error for a result that cannot leave its process, naming the part that is the cause."""
    path, part = culprit(value, error)
    what = f"result{said_place(path)} is of type {kind_of(part)}" if path else f"a {kind_of(part)}"
    return SerializationError(
        f"a result cannot leave the process that computed it: {what}",
        where=f"result{said_place(path)}",
        because=why_not(error),
        hint="return its data instead, or use the thread runner",
    )


_SENDABLE = "pass values that can be pickled, or use the thread runner"
_MADE_THERE = (
    "create it in the task, or in a function with functools.cache that the task calls: then each process has its own. "
    "Or use the thread runner"
)


def pickled(
    thing: Any, what: str, *, named: Callable[[], Mapping[str, Any]] = dict, pickler: type[Pickler] = Pickler
) -> bytes:
    """Pickle something for a worker process.

    `what` describes it in the `SerializationError` if it cannot be sent, and `named` returns its parts, to find the
    cause.
    """
    buffer = io.BytesIO()
    _pickle_into(pickler(buffer, protocol=5), thing, what, named)
    return buffer.getvalue()


def _pickle_into(pickler: Pickler, thing: Any, what: str, named: Callable[[], Mapping[str, Any]] = dict) -> None:
    try:
        pickler.dump(thing)
    except BaseException as error:  # noqa: BLE001 (a user's __reduce__ must not end the driver)
        cause = shown_cause(error)
        broken = {name: why for name, part in named().items() if (why := why_unpicklable(part))}
        found = [(name, *culprit(named()[name], why)) for name, why in broken.items()]
        raise SerializationError(
            f"{what} cannot be sent to a worker process",
            where=", ".join(f"{name}{said_place(path)} is of type {kind_of(part)}" for name, path, part in found),
            because=why_not(error),
            hint=_way_out([part for _, _, part in found], cause),
        ) from cause


def _way_out(culprits: list[Any], cause: BaseException | None) -> str:
    if any(map(is_pending, culprits)):
        return WHERE_PENDING_BELONGS
    return _MADE_THERE if cause is None else _SENDABLE
