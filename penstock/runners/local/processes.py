"""`ProcessRunner`: runs calls in processes of this machine, with one thread of the driver for each worker process.

If a worker dies, only its own call is affected, and the worker is replaced. A call that is cancelled or timed out is
interrupted, and its worker is killed if that does not end it. Values that only other calls need do not enter this
process: small ones are sent as bytes, large ones as files.
"""

from __future__ import annotations

import contextlib
import multiprocessing.connection
import os
import queue
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from msgspec.structs import replace

from penstock.runners.base import Engine, checked_setup
from penstock.runners.local.machine import LocalRunner
from penstock.runners.local.template import Template, WorkerProcess
from penstock.runners.resources import local_machine, required
from penstock.storage.stores.base import Reach
from penstock.worker.failures import describe
from penstock.worker.messages import (
    Bundle,
    Failure,
    Finished,
    Outcome,
    Preparation,
    Report,
    ShippedTask,
    Started,
    Waits,
    WorkerContext,
)
from penstock.worker.remote import log_again
from penstock.worker.shipping.source_lines import pickled_task
from penstock.worker.shipping.values import discard_value, pickled, read_value, spill_value
from penstock.worker.shipping.wire import none_read, pack_bundle, unpack_outcomes, unpack_waits


@dataclass(frozen=True)
class ProcessRunner(LocalRunner):
    """Runs calls in processes of this machine.

    Functions of scripts are pickled by value, so a script that is run needs no `__main__` guard. A file that is
    imported needs one around its calls of flows, also if `penstock plan FILE:FLOW` imports it.

    Each run has worker processes of its own, copies of a process that has loaded Penstock. `with ProcessRunner() as
    runner:` keeps that process for all runs of the block.

    Args:
        workers: The number of processes. Defaults to the number of cores.
        resources: Resources of the machine in addition to, or in place of, `cpu` and `memory`, for tasks that request
            them, for example `{"gpu": 1}`.
        ship: Packages to ship. Only checked on this machine.
        max_workers: Another name for `workers`.
        worker_setup: A function without parameters that is called once in each process, before its first call.

    Raises:
        ConfigurationError: A setting is invalid.
    """

    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    worker_setup: Preparation | None = field(default=None, kw_only=True)
    """Called once in each worker process, before its first call."""
    _template: Template | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_setup(self.worker_setup)

    def __enter__(self) -> Self:
        if self._template is None:
            object.__setattr__(self, "_template", Template())
        return self

    def __exit__(self, *_: object) -> None:
        template = self._template
        object.__setattr__(self, "_template", None)
        if template is not None and template.usable:
            template.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_template": None}

    @property
    def reach(self) -> Reach:
        return "host"

    def open(self, context: WorkerContext, report: Report) -> Engine:
        kept = self._template if self._template is not None and self._template.usable else None
        return _ProcessEngine(self, replace(context, setup=self.worker_setup), report, kept)


@dataclass(slots=True, eq=False)
class _Seat:
    """A worker process and the thread that communicates with it."""

    process: WorkerProcess | None = None
    connection: multiprocessing.connection.Connection | None = None
    known: set[int] = field(default_factory=set)
    bundle: int | None = None
    killing: threading.Timer | None = None
    """Kills the process of a cancelled bundle if it does not end by itself."""


GRACE_SECONDS = 1.0
"""How long a cancelled call may run its `finally` blocks before its process is killed."""


class _ProcessEngine:
    def __init__(self, runner: ProcessRunner, context: WorkerContext, report: Report, kept: Template | None) -> None:
        self._capacity = {**local_machine(runner.workers), **required(runner.resources, 1)}
        self._context = pickled(context.travelling(), "the run", named=lambda: {"worker_setup": context.setup})
        self._report = report
        self._limit = runner.workers
        self._queue: queue.SimpleQueue[tuple[Bundle, bytes] | None] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._seats: list[_Seat] = []
        self._threads: set[threading.Thread] = set()  # including those of abandoned seats, until they end
        self._unfinished = 0
        self._cancelled: set[int] = set()
        self._shipped_tasks: dict[int, bytes] = {}
        self._scratch = tempfile.mkdtemp(prefix="penstock-")
        self._template = kept or Template()
        self._is_template_kept = kept is not None
        # Workers hold the reading end, and exit when this process ends for any reason.
        self._life_read, self._life_write = os.pipe()
        self._closing = False

    @property
    def capacity(self) -> Mapping[str, float]:
        return self._capacity

    def register(self, shipped_task: ShippedTask) -> None:
        self._shipped_tasks[shipped_task.number] = pickled_task(shipped_task)

    def submit(self, bundle: Bundle) -> None:
        for large in {large for call in bundle.calls for large in call.large if large.handle is None}:
            large.handle = spill_value(large.shared(), self._scratch)
        data = pack_bundle(bundle)
        with self._guard:
            self._unfinished += 1
            if self._unfinished > len(self._seats) and len(self._seats) < self._limit:
                seat = _Seat()
                thread = threading.Thread(
                    target=self._serve, args=(seat,), name=f"penstock-seat-{len(self._seats)}", daemon=True
                )
                self._seats.append(seat)
                self._threads.add(thread)
                thread.start()
        self._queue.put((bundle, data))

    def cancel(self, bundle: int) -> None:
        with self._guard:
            for seat in self._seats:
                if seat.bundle == bundle and seat.process is not None:
                    self._stop(seat, seat.process)
                    return
            self._cancelled.add(bundle)  # not started, or its worker is being started

    def fetch(self, handle: Any) -> Any:
        return read_value(handle)

    def release(self, handles: Iterable[Any]) -> None:
        for handle in handles:
            discard_value(handle)

    def close(self) -> None:
        with self._guard:
            self._closing = True
            for seat in self._seats:
                if seat.bundle is not None and seat.process is not None:
                    self._stop(seat, seat.process)
            threads = list(self._threads)  # a copy, since seats may be abandoned meanwhile
        for _ in threads:
            self._queue.put(None)
        for thread in threads:
            thread.join()
        if not self._is_template_kept or self._template.is_closed:  # a run may outlast the block that keeps it
            self._template.close()
        os.close(self._life_write)
        os.close(self._life_read)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _stop(self, seat: _Seat, process: WorkerProcess) -> None:
        """Interrupt the process's call, so that its `finally` blocks run; kill the process if that takes too long."""
        if seat.killing is not None:
            return
        process.terminate()
        seat.killing = threading.Timer(GRACE_SECONDS, process.kill)
        seat.killing.daemon = True
        seat.killing.start()

    def _lend(self, report: Waits) -> None:
        """Allow one more running call while a worker waits in a nested run."""
        change = 1 if report.waits else -1
        with self._guard:
            self._limit += change
            self._capacity = {**self._capacity, "slots": self._capacity["slots"] + change}
        self._report(report)

    # -- one worker's thread ------------------------------------------------------------------------------------------

    def _serve(self, seat: _Seat) -> None:
        try:
            while (item := self._queue.get()) is not None:
                bundle, data = item
                with self._guard:
                    skip = bundle.number in self._cancelled or self._closing
                    self._unfinished -= skip
                    if not skip:
                        seat.bundle = bundle.number
                if not skip:
                    outcomes = self._run(seat, bundle, data)
                    with self._guard:
                        seat.bundle = None
                        self._unfinished -= 1
                        surplus = len(self._seats) > self._limit
                        if surplus:
                            self._seats.remove(seat)
                    if seat.killing is not None:
                        self._dismiss(seat)
                    self._report(Finished(bundle.number, outcomes))
                    if surplus:
                        return
        finally:
            self._dismiss(seat)
            with self._guard:
                self._threads.discard(threading.current_thread())

    def _run(self, seat: _Seat, bundle: Bundle, data: bytes) -> list[Outcome]:
        try:
            connection = self._hire(seat)
            unknown = {call.task for call in bundle.calls} - seat.known
            connection.send_bytes(b"%d" % len(unknown))
            for number in unknown:
                connection.send_bytes(self._shipped_tasks[number])
            connection.send_bytes(data)
            seat.known |= unknown
            self._report(Started(bundle.number))
            return self._receive(seat, connection, bundle)
        except Exception as error:  # noqa: BLE001 (usually EOFError or OSError; whatever it is, the run goes on)
            why = self._dismiss(seat) or str(error)
            lost = Failure("WorkerLost", why, "")
            return [Outcome(c.node, c.attempt, "worker_lost", failure=lost) for c in bundle.calls]

    def _receive(self, seat: _Seat, connection: multiprocessing.connection.Connection, bundle: Bundle) -> list[Outcome]:
        lent: list[Waits] = []
        try:
            while isinstance(data := unpack_waits(connection.recv_bytes(), bundle), Waits):
                self._lend(data)
                lent = [*lent, data] if data.waits else lent[1:]
        finally:
            for waits in lent:  # the worker died while it was lent out
                self._lend(replace(waits, waits=False))
        try:
            outcomes, logs = unpack_outcomes(data)
        except Exception as error:  # noqa: BLE001 (unpickling runs the user's code)
            outcomes, logs = describe(error), []
        if isinstance(outcomes, Failure):
            seat.known.clear()  # possibly a task could not be read
            outcomes = none_read(bundle, outcomes)
        log_again(logs)
        return list(outcomes)

    def _hire(self, seat: _Seat) -> multiprocessing.connection.Connection:
        """Return the connection to the seat's worker, starting one if needed."""
        if seat.connection is not None:
            return seat.connection
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as undo:
            undo.enter_context(ours)
            process = self._template.start(theirs.fileno(), self._life_read, self._scratch)
            undo.pop_all()
        with self._guard:
            seat.process = process
            if self._closing or seat.bundle in self._cancelled:
                process.kill()  # it was cancelled before the process existed
        seat.connection = multiprocessing.connection.Connection(ours.detach())
        seat.known = set()
        seat.connection.send_bytes(self._context)
        seat.connection.recv_bytes()  # the worker is ready, so that timeouts of calls do not include its start
        return seat.connection

    def _dismiss(self, seat: _Seat) -> str:
        """End the seat's worker, and describe how it ended."""
        connection, seat.connection = seat.connection, None
        if connection is not None:
            _hang_up(connection)
        process = seat.process
        if process is None:
            return ""
        code = process.wait()
        with self._guard:
            seat.process = None
            killing, seat.killing = seat.killing, None
        if killing is not None:
            killing.cancel()
        if code is None:
            return "it ended"
        return f"it was killed by signal {-code}" if code < 0 else f"it exited with status {code}"


def _hang_up(connection: multiprocessing.connection.Connection) -> None:
    """Close a connection for the other side, too, if a process that was forked meanwhile has it as well."""
    with socket.socket(fileno=os.dup(connection.fileno())) as other, contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_RDWR)
    connection.close()
