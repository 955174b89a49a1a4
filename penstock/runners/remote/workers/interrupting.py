"""Stop a bundle on a worker, by interrupting its thread, or its process by a signal."""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


class Interrupted(BaseException):
    """Raised inside a bundle to stop it."""


@dataclass(slots=True, eq=False)
class Interruptible:
    """A bundle under way in a thread of this process."""

    thread: int
    stopped: bool = False


_under_way: dict[Hashable, Interruptible] = {}
_guard = threading.Lock()


@contextmanager
def interruptible(key: Hashable) -> Iterator[Interruptible]:
    """Return a context manager for a block that `interrupt` can end at its next line of Python."""
    block = Interruptible(threading.get_ident())
    with _guard:
        _under_way[key] = block
    try:
        yield block
    finally:
        # After this, nothing is raised in this thread, which continues with other bundles.
        with _guard:
            _under_way.pop(key, None)
    if block.stopped:
        raise Interrupted


def interrupt(key: Hashable) -> None:
    """Stop a bundle if it is under way here. Code in C extensions continues until it returns to Python."""
    with _guard:
        block = _under_way.pop(key, None)
        if block is not None:
            block.stopped = True
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(block.thread), ctypes.py_object(Interrupted))


class InterruptedBySignal(KeyboardInterrupt, Interrupted):
    """Raised inside a call by `BySignal`. Different from a KeyboardInterrupt that a task raises itself."""


class BySignal:
    """The handler of SIGINT, which stops a bundle in a worker process that performs one at a time in its main thread.

    `asked` is set even if the task catches the exception.
    """

    def __init__(self) -> None:
        self.asked = False
        """Whether the bundle under way should stop."""

    def allow(self) -> None:
        """Prepare for a new bundle. Installs the handler even if SIGINT is ignored.

        A shell lets its background processes ignore SIGINT, and clusters that they start inherit that.
        """
        self.asked = False
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self)

    def __call__(self, *_: Any) -> None:
        self.asked = True
        raise InterruptedBySignal
