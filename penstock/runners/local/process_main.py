"""The worker process of ProcessRunner, which runs bundles until its driver ends."""

from __future__ import annotations

import contextlib
import multiprocessing.connection
import os
import shutil
import signal
import threading
from collections.abc import Callable

import cloudpickle

from penstock.worker.execution import Worker
from penstock.worker.failures import describe, portable
from penstock.worker.messages import Failure, Outcome, ShippedTask, Waits, WorkerContext
from penstock.worker.remote import CollectedLogs, portable_outcomes, prepare, stores_of
from penstock.worker.shipping.loading import loading
from penstock.worker.shipping.values import read_value, write_value
from penstock.worker.shipping.wire import pack_outcomes, pack_waits, unpack_bundle


def main(descriptor: int, life: int, ends: int, scratch: str) -> None:
    """Serve one driver over an inherited socket.

    Args:
        descriptor: The socket.
        life: A pipe that closes when the driver's process ends.
        ends: A pipe to the driver that is to close when this process ends.
        scratch: The folder for large values.
    """
    stop = _Stop()
    signal.signal(signal.SIGTERM, stop)
    os.register_at_fork(after_in_child=lambda: _leave_to_parent(descriptor, life, ends))
    threading.Thread(target=_exit_with_driver, args=(life, scratch), daemon=True).start()
    with contextlib.suppress(_Interrupted):  # between two calls
        _serve(multiprocessing.connection.Connection(descriptor), scratch, stop)


def _serve(connection: multiprocessing.connection.Connection, scratch: str, stop: _Stop) -> None:
    logs = CollectedLogs()
    talking = threading.Lock()

    def report(waits: Waits) -> None:
        with talking:
            connection.send_bytes(pack_waits(waits))

    worker = _worker_for(connection.recv_bytes(), scratch, report)
    connection.send_bytes(b"up")
    while not stop.asked:
        try:
            *tasks, data = [connection.recv_bytes() for _ in range(int(connection.recv_bytes()) + 1)]
        except EOFError:
            return
        outcomes = worker if isinstance(worker, Failure) else _perform(worker, tasks, data, stop)
        answer = pack_outcomes(outcomes, logs.take())
        if not stop.asked:
            connection.send_bytes(answer)


class _Interrupted(BaseException):
    """Raised inside a call to stop it."""


class _Stop:
    """The signal handler for cancelling: ends the call after its `finally` blocks, and then the process."""

    asked = False

    def __call__(self, *_: object) -> None:
        first, self.asked = not self.asked, True
        if first:
            raise _Interrupted


def _leave_to_parent(*descriptors: int) -> None:
    """Close the connections to the driver in a process that a task has forked.

    If a child kept them open, the driver would not notice the end of the worker.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _perform(worker: Worker, tasks: list[bytes], data: bytes, stop: _Stop) -> list[Outcome] | Failure:
    """Perform a bundle, whose new tasks come first. Return a failure if it cannot be read."""
    try:
        with loading():
            for task in tasks:
                shipped_task: ShippedTask = cloudpickle.loads(task)
                worker.shipped_tasks[shipped_task.number] = shipped_task
            bundle = unpack_bundle(data)
    except BaseException as error:  # noqa: BLE001 (unpickling imports and runs the user's code)
        return portable(describe(error))
    return portable_outcomes(worker.perform_bundle(bundle, lambda: stop.asked))


def _worker_for(data: bytes, scratch: str, report: Callable[[Waits], None]) -> Worker | Failure:
    """Return the worker of a pickled context; or why there is none, which is reported for each bundle."""
    try:
        with loading():
            context: WorkerContext = cloudpickle.loads(data)
            worker = _make_worker(context, scratch, report)
            prepare(context)
    except Exception as error:  # noqa: BLE001 (unpickling imports and runs the user's code)
        return portable(describe(error))
    return worker


def _make_worker(context: WorkerContext, scratch: str, report: Callable[[Waits], None]) -> Worker:
    return Worker(
        context,
        open_results=stores_of(context),
        fetch=read_value,
        keep=lambda value: write_value(value, scratch),
        shares_memory=False,
        keeps_published=False,
        report=report,
    )


def _exit_with_driver(life: int, scratch: str) -> None:
    os.read(life, 1)  # nothing is ever written, so this returns when the driver has ended
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)
