"""Stopping a bundle on a worker: its thread, or its process by a signal, is interrupted where that is possible."""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


class Interrupted(BaseException):
    """Raised inside of a bundle to stop it."""


@dataclass(slots=True, eq=False)
class Interruptible:
    """A bundle under way in a thread of this process."""

    thread: int
    stopped: bool = False


_under_way: dict[Hashable, Interruptible] = {}
_guard = threading.Lock()


@contextmanager
def interruptible(key: Hashable) -> Iterator[Interruptible]:
    """The block may be ended by `interrupt`, at its next line of Python."""
    block = Interruptible(threading.get_ident())
    with _guard:
        _under_way[key] = block
    try:
        yield block
    finally:
        # From here on nobody raises anything in this thread: it is the engine's, and goes on to other bundles.
        with _guard:
            _under_way.pop(key, None)
    if block.stopped:
        raise Interrupted


def interrupt(key: Hashable) -> None:
    """Stop the bundle if it is under way here. Code inside C extensions goes on until it returns to Python."""
    with _guard:
        block = _under_way.pop(key, None)
        if block is not None:
            block.stopped = True
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(block.thread), ctypes.py_object(Interrupted))


class InterruptedBySignal(KeyboardInterrupt, Interrupted):
    """Raised inside of a call by `BySignal`: tasks may raise KeyboardInterrupt themselves."""


class BySignal:
    """A worker process that performs one bundle at a time, in its main thread, and is sent SIGINT to stop one.

    Whatever becomes of the exception, it is known.
    """

    def __init__(self) -> None:
        self.asked = False
        """Whether the bundle under way is to stop."""

    def allow(self) -> None:
        """A bundle begins. It is interrupted also where SIGINT is ignored, which a shell hands on to what it starts
        in the background, and that to the cluster it starts.
        """
        self.asked = False
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self)

    def __call__(self, *_: Any) -> None:
        self.asked = True
        raise InterruptedBySignal
