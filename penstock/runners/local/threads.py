"""`ThreadRunner`: runs calls in threads of this process. The default, since it has no start-up cost."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.runners.base import Engine
from penstock.runners.local.machine import LocalRunner
from penstock.runners.resources import local_machine, required
from penstock.storage.stores.base import Reach
from penstock.worker.copies import copied
from penstock.worker.execution import Worker
from penstock.worker.messages import Bundle, Finished, Report, ShippedTask, Started, Waits, WorkerContext

GRACE_SECONDS = 1.0
"""How long an interrupted call may run its `finally` blocks before the run ends without waiting for it."""


def default_workers() -> int:
    """Return the number of cores plus four, for calls that wait for disks and networks."""
    return min(32, (os.cpu_count() or 1) + 4)


@dataclass(frozen=True)
class ThreadRunner(LocalRunner):
    """Runs calls in threads of this process.

    A call that is timed out or cancelled is interrupted at its next line of Python. Code inside C extensions cannot be
    interrupted; its thread is abandoned and replaced.

    Args:
        workers: The number of concurrent calls. Defaults to the number of cores plus four.
        resources: Resources of the machine in addition to, or in place of, `cpu` and `memory`, for tasks that request
            them, for example `{"gpu": 1}`.
        ship: Packages to ship. Only checked on this machine.
        max_workers: Another name for `workers`.

    Raises:
        ConfigurationError: A setting is invalid.
    """

    workers: int = field(default_factory=default_workers)

    @property
    def reach(self) -> Reach:
        return "process"

    def open(self, context: WorkerContext, report: Report) -> Engine:
        return _ThreadEngine(self, context, report)


class _Interrupted(BaseException):
    """Raised inside a task's thread to stop it."""


@dataclass(slots=True, eq=False)
class _Seat:
    """One worker thread."""

    thread: threading.Thread | None = None
    bundle: int | None = None
    abandoned: bool = False


class _ThreadEngine:
    def __init__(self, runner: ThreadRunner, context: WorkerContext, report: Report) -> None:
        assert context.open_results is not None  # the run shares this process
        self._capacity = {**local_machine(runner.workers), **required(runner.resources, 1)}
        self._report = report
        self._limit = runner.workers
        self._queue: queue.SimpleQueue[Bundle | None] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._seats: list[_Seat] = []
        self._unfinished = 0
        self._cancelled: set[int] = set()
        self._leaving: list[tuple[threading.Thread, float]] = []  # interrupted threads, and their deadlines
        self._worker = Worker(
            context,
            open_results=context.open_results,
            fetch=_open_box,
            keep=_Box,
            shares_memory=True,
            report=self._lend,
        )

    @property
    def capacity(self) -> Mapping[str, float]:
        return self._capacity

    def register(self, shipped_task: ShippedTask) -> None:
        self._worker.shipped_tasks[shipped_task.number] = shipped_task

    def submit(self, bundle: Bundle) -> None:
        with self._guard:
            self._unfinished += 1
            if self._unfinished > len(self._seats) and len(self._seats) < self._limit:
                self._add_seat()
        self._queue.put(bundle)

    def cancel(self, bundle: int) -> None:
        with self._guard:
            for seat in self._seats:
                if seat.bundle == bundle:
                    self._abandon(seat)
                    self._add_seat()
                    _interrupt([seat])
                    return
            self._cancelled.add(bundle)

    def fetch(self, handle: Any) -> Any:
        return copied(_open_box(handle))

    def release(self, handles: Iterable[Any]) -> None:
        """Do nothing: values are freed with the last reference to their boxes."""

    def close(self) -> None:
        with self._guard:
            busy = [seat for seat in self._seats if seat.bundle is not None]
            for seat in busy:
                self._abandon(seat)
            seats, leaving = list(self._seats), list(self._leaving)
            _interrupt(busy)
        for thread, until in leaving:
            thread.join(max(0.0, until - time.monotonic()))
        for _ in seats:
            self._queue.put(None)
        for seat in seats:
            if seat.thread is not None and seat.thread is not threading.current_thread():
                seat.thread.join()

    def _lend(self, report: Waits) -> None:
        """Allow one more running call while another one waits in a nested run."""
        change = 1 if report.waits else -1
        with self._guard:
            self._limit += change
            self._capacity = {**self._capacity, "slots": self._capacity["slots"] + change}
        self._report(report)

    def _add_seat(self) -> None:
        seat = _Seat()
        seat.thread = threading.Thread(
            target=self._serve, args=(seat,), name=f"penstock-worker-{len(self._seats)}", daemon=True
        )
        self._seats.append(seat)
        seat.thread.start()

    def _abandon(self, seat: _Seat) -> None:
        assert seat.thread is not None
        seat.abandoned = True
        self._seats.remove(seat)
        self._unfinished -= 1
        self._leaving.append((seat.thread, time.monotonic() + GRACE_SECONDS))

    def _serve(self, seat: _Seat) -> None:
        try:
            while (bundle := self._queue.get()) is not None:
                with self._guard:
                    if bundle.number in self._cancelled:
                        self._unfinished -= 1
                        continue
                    seat.bundle = bundle.number
                self._report(Started(bundle.number))
                outcomes = self._worker.perform_bundle(bundle, lambda: seat.abandoned)
                with self._guard:
                    if seat.abandoned:
                        return
                    seat.bundle = None
                    self._unfinished -= 1
                    surplus = len(self._seats) > self._limit
                    if surplus:
                        self._seats.remove(seat)
                self._report(Finished(bundle.number, outcomes))
                if surplus:
                    return
        except _Interrupted:
            return


def _interrupt(seats: Iterable[_Seat]) -> None:
    """Interrupt abandoned seats. If an exception arrives late, it only ends a thread that would end anyway.

    Callers do this last while they hold the guard. In a traced thread (coverage, debuggers), CPython 3.11 starts no
    function until the exceptions have arrived, and threads that wait for the guard receive none.
    """
    import ctypes  # only needed for interrupting

    error, throw = ctypes.py_object(_Interrupted), ctypes.pythonapi.PyThreadState_SetAsyncExc
    threads = [ctypes.c_ulong(seat.thread.ident) for seat in seats if seat.thread is not None and seat.thread.ident]
    for thread in threads:
        throw(thread, error)


class _Box:
    """A value that stays in this process."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def _open_box(box: _Box) -> Any:
    return box.value
