"""Bringing a value back runs its own code, which may raise anything or exit: that is told as what it is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from penstock.errors import PenstockError, SerializationError, is_a
from penstock.objects.texts import told
from penstock.process.termination import Terminated

V = TypeVar("V")


def read_back(read: Callable[[], V], what: str, *, passes: tuple[type[BaseException], ...] = ()) -> V:
    """What `read` gives; raises Penstock's own errors and what `passes` as they are, else `SerializationError`."""
    try:
        return read()
    except BaseException as error:
        if issubclass(type(error), (PenstockError, Terminated, *passes)):
            raise
        if is_a(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise  # Ctrl-C
        raise SerializationError(
            f"{what} cannot be read back",
            because=told(error),
            hint="that is what its own code raised while it was unpickled or copied; return plain data instead",
        ) from error
