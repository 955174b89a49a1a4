"""Reading values back, which may run users' code that raises or exits; such errors are reported clearly."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from penstock.errors import PenstockError, SerializationError, is_a
from penstock.objects.texts import told
from penstock.process.termination import Terminated

V = TypeVar("V")


def read_back(read: Callable[[], V], what: str, *, passes: tuple[type[BaseException], ...] = ()) -> V:
    """Return `read()`. Errors of Penstock and those in `passes` are unchanged; others become `SerializationError`."""
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
            hint="its own code raised this while being unpickled or copied; return plain data instead",
        ) from error
