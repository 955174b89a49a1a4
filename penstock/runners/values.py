"""Values as they travel to and between worker processes: small ones as bytes inside messages, large ones as files."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
from dataclasses import dataclass
from typing import Any

import cloudpickle

from penstock.errors import RunnerError
from penstock.texts import told

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
    """A handle to the value; raises what pickling raises."""
    data = pickle_simple(value) or cloudpickle.dumps(value, protocol=5)
    if len(data) <= INLINE_VALUE_BYTES:
        return Pickled(data)
    path = os.path.join(folder, os.urandom(8).hex())
    with open(path, "xb") as file:
        file.write(data)
    return Spilled(path)


def spill_value(value: Any, folder: str) -> Spilled:
    """A handle to a large value, which is written without another copy in memory. Raises `RunnerError`."""
    path = os.path.join(folder, os.urandom(8).hex())
    with open(path, "xb") as file:
        _pickle_into(file, value, "an argument")
    return Spilled(path)


def pickle_simple(value: Any) -> bytes | None:
    """A number, a text, … as bytes, in a tenth of the time that cloudpickle takes; None for all other values."""
    return pickle.dumps(value, protocol=5) if type(value) in _SIMPLE else None


_SIMPLE = frozenset({type(None), bool, int, float, complex, str, bytes})


def read_value(handle: Pickled | Spilled) -> Any:
    """The value behind a handle."""
    if isinstance(handle, Pickled):
        return cloudpickle.loads(handle.data)
    with open(handle.path, "rb") as file:
        return cloudpickle.load(file)


def discard_value(handle: Pickled | Spilled) -> None:
    """Remove what the handle keeps outside of messages."""
    if isinstance(handle, Spilled):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(handle.path)


def pickled(thing: Any, what: str) -> bytes:
    """What travels to a worker process, as bytes; `what` names it in the `RunnerError` if it cannot be sent."""
    buffer = io.BytesIO()
    _pickle_into(buffer, thing, what)
    return buffer.getvalue()


def _pickle_into(file: Any, thing: Any, what: str) -> None:
    try:
        cloudpickle.CloudPickler(file, protocol=5).dump(thing)
    except BaseException as error:  # what a user's __reduce__ raises is no order to end the driver
        raise RunnerError(
            f"{what} cannot be sent to a worker process",
            because=told(error),
            hint="pass values that pickle, or use the thread runner",
        ) from error
