"""Stopping a call on a Dask worker: its thread is interrupted where that is possible."""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


class Interrupted(BaseException):
    """Raised inside a bundle's thread to stop it."""


@dataclass(slots=True, eq=False)
class InterruptibleJob:
    """A bundle under way in a thread of this process."""

    thread: int
    stopped: bool = False


_jobs: dict[tuple[str, int], InterruptibleJob] = {}
_jobs_guard = threading.Lock()


@contextmanager
def interruptible(key: tuple[str, int]) -> Iterator[InterruptibleJob]:
    """The block may be ended by `interrupt`, at its next line of Python."""
    job = InterruptibleJob(threading.get_ident())
    with _jobs_guard:
        _jobs[key] = job
    try:
        yield job
    finally:
        # From here on nobody raises anything in this thread: it is Dask's, and goes on to other tasks.
        with _jobs_guard:
            _jobs.pop(key, None)
    if job.stopped:
        raise Interrupted


def interrupt(key: Any) -> None:
    """Stop the bundle if it is under way here. Code inside C extensions goes on until it returns to Python."""
    with _jobs_guard:
        job = _jobs.pop(key, None)
        if job is not None:
            job.stopped = True
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(job.thread), ctypes.py_object(Interrupted))


_watched: weakref.WeakSet[Any] = weakref.WeakSet()


def watch_for_cancelling(worker: Any) -> None:
    """Let this Dask worker interrupt bundles whose Dask task is cancelled, or whose driver is gone."""
    with _jobs_guard:
        if worker in _watched:
            return
        _watched.add(worker)
    from distributed import WorkerPlugin

    class Interrupts(WorkerPlugin):
        """Dask forgets a running task that is cancelled; its thread is told here."""

        def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
            if finish == "released" and start in ("executing", "long-running"):
                interrupt(key)

    worker.loop.add_callback(worker.plugin_add, Interrupts(), "penstock-interrupts")
