"""The part of RayRunner that runs in Ray's worker processes. One Ray task performs one bundle."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import ray

from penstock.objects.texts import encodable
from penstock.runners.ray.internals import task_name_line
from penstock.runners.remote.delivery import Delivery
from penstock.runners.remote.handles import Argument, Brought
from penstock.runners.remote.printed import STREAMS, Printed
from penstock.runners.remote.workers.bundle_worker import BundleWorker, opened
from penstock.runners.remote.workers.interrupting import BySignal
from penstock.runners.remote.workers.known_runs import KnownRun, forget_runs
from penstock.worker.messages import Call, Failure, Outcome
from penstock.worker.remote import CollectedLogs
from penstock.worker.shipping.shared_buffers import Packed, unpack
from penstock.worker.shipping.values import Pickled
from penstock.worker.shipping.wire import pack_outcomes

SETUP = -1
"""The key of the setup of the run, beside the numbers of tasks."""


def perform(run: str, parts: Mapping[Any, Any], bundle: bytes, lists: int, marked: bool, *brought: Any) -> Any:
    """Perform a bundle.

    Returns a byte with the number of marked streams, followed by the pickled outcomes and logs. With `lists`, returns a
    list of that and as many lists of packed values.

    `parts` are references to the tasks of the bundle by number, to large arguments by `Argument`, and to the setup of
    the run by SETUP. They are fetched only if this process does not know them. `brought` is what other bundles returned
    in their lists. If the bundle is `marked`, marks follow its output.
    """
    answer, values = _perform(RayDelivery(run, parts, brought), bundle, lists, marked)
    return [answer, *values] if lists else answer


def perform_telling(
    run: str, parts: Mapping[Any, Any], bundle: bytes, lists: int, marked: bool, *brought: Any
) -> Iterator[Any]:
    """Perform a bundle and yield None at once, to report its start, then the lists of values, and last the outcomes."""
    yield None
    answer, values = _perform(RayDelivery(run, parts, brought), bundle, lists, marked)
    for value in (*values, answer):  # noqa: UP028 (Ray sends into what yields; `yield from` would hand that to a tuple)
        yield value


def unshare(values: Sequence[Packed], item: int) -> Packed:
    """Return one of the values that a bundle returned in a list, as plain bytes."""
    shared, buffers = values[item]
    return shared, [bytes(buffer) for buffer in buffers]


def _perform(delivery: RayDelivery, data: bytes, lists: int, marked: bool) -> tuple[bytes, list[Any]]:
    _interrupt.allow()
    logs, printed = _logs(), Printed()
    with ExitStack() as using:
        found = opened(delivery, data, using)
        if isinstance(found, Failure):
            return b"\0" + pack_outcomes(found, logs.take()), [None] * lists
        run, bundle = found
        worker = RayBundleWorker(run, delivery, bundle.calls[0])
        outcomes, values = worker.outcomes_and_values(bundle, lambda: _interrupt.asked)
        if _interrupt.asked:
            forget_runs()
        marks = printed.mark(delivery.run) if marked else 0
        staying = list(values.values())
        spread = [staying[first::lists] or None for first in range(lists)]
        return bytes([marks]) + pack_outcomes(outcomes, logs.take()), spread


class RayDelivery(Delivery):
    """References into Ray's object store, and the lists of values that Ray passed to the task."""

    def __init__(
        self, run: str, parts: Mapping[Any, Any], brought: Sequence[Sequence[Pickled | Packed] | None]
    ) -> None:
        self.run = run
        self._parts = parts
        self._brought = brought

    def setup(self) -> bytes:
        setup: bytes = ray.get(self._parts[SETUP])
        return setup

    def tasks(self) -> Iterable[int]:
        return [name for name in self._parts if type(name) is int and name != SETUP]

    def task(self, number: int) -> bytes:
        task: bytes = ray.get(self._parts[number])
        return task

    def argument(self, handle: Argument) -> Any:
        return unpack(ray.get(self._parts[handle]))

    def value(self, handle: Brought) -> Pickled | Packed | None:
        values: Sequence[Pickled | Packed] | None = self._brought[handle.place]
        return None if values is None else values[handle.item]


class RayBundleWorker(BundleWorker):
    """A worker that Ray can interrupt, and that names the task of its output."""

    def __init__(self, run: KnownRun, delivery: RayDelivery, first: Call) -> None:
        super().__init__(run, delivery)
        self._label = self._label_of(first)  # the name of the Ray task

    def perform(self, call: Call) -> Outcome:
        """Perform a call. If it was interrupted, it counts as lost, even if the task caught the exception."""
        if (label := self._label_of(call)) != self._label:
            for stream in STREAMS:
                os.write(stream, task_name_line(encodable(label)))
            self._label = label
        outcome = super().perform(call)
        if _interrupt.asked:
            outcome.kind, outcome.failure = "worker_lost", Failure("WorkerLost", "it was interrupted", "")
        return outcome

    def _label_of(self, call: Call) -> str:
        shipped_task = self.shipped_tasks[call.task]
        return f"{shipped_task.flow}/{shipped_task.task.name}"


@functools.cache
def _logs() -> CollectedLogs:
    return CollectedLogs()


_interrupt = BySignal()
