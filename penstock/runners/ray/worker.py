"""The other side of RayRunner: what runs in Ray's worker processes. One Ray task performs one bundle."""

from __future__ import annotations

import functools
import os
import platform
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import cloudpickle
import ray

from penstock.errors import RunnerError
from penstock.objects.texts import encodable
from penstock.runners.ray.prints import Printed, name_task
from penstock.storage.stores.base import Store
from penstock.worker.execution import Worker
from penstock.worker.failures import describe, portable
from penstock.worker.messages import Bundle, Call, Failure, Outcome, ShippedTask, WorkerContext
from penstock.worker.remote import CollectedLogs, portable_outcomes, prepare, stores_of
from penstock.worker.shipping.code_packing import Shipment
from penstock.worker.shipping.code_unpacking import explained, in_use
from penstock.worker.shipping.shared_buffers import Packed, pack, unpack
from penstock.worker.shipping.values import INLINE_VALUE_BYTES, Pickled, read_value
from penstock.worker.shipping.wire import pack_outcomes, unpack_bundle
from penstock.worker.value_cache import IDLE_SECONDS, ValueCache

INLINE_BUNDLE_BYTES = 1024 * 1024
"""So much of a bundle's values travels as bytes inside its outcomes, which reach the driver; the rest never does."""
SETUP = -1
"""What the `WorkerSetup` goes by beside the numbers of tasks."""
RUNS_KEPT = 4
"""Stores and tasks of so many runs stay known to a worker process; Ray keeps its processes for all of them."""


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What a worker needs to know of a run."""

    context: bytes
    """The `WorkerContext`, pickled: it may need what was shipped."""
    paths: tuple[str, ...]
    """The driver's import path: folders that are here too are searched last."""
    evidence: str | None
    """Something that is in the run's store, by name; None if nobody can look at another store by mistake."""
    shipped: Shipment | None
    """Packages of the project that travel along."""
    marked: bool
    """Whether what is printed is followed by marks."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A value among those that the Ray task returns: in which of its lists, and where in it."""

    slot: int
    index: int


@dataclass(frozen=True, slots=True)
class Argument:
    """A handle to a large argument: what its packed value goes by among the parts of a bundle."""

    number: int


@dataclass(frozen=True, slots=True)
class Brought:
    """A value among those that Ray brought here: in which list, and where in it."""

    argument: int
    index: int


def perform(run: str, parts: Mapping[Any, Any], bundle: bytes, slots: int, *brought: Any) -> Any:
    """Perform a bundle: a byte that tells how many streams got marks, its outcomes and logs, pickled, and after them
    `slots` lists of packed values.

    `parts` are references to the bundle's tasks by number, to large arguments by `Argument`, and under SETUP to the
    `WorkerSetup`; they are fetched only if this process does not know them yet. `brought` is what other bundles
    returned in their slots.
    """
    answer, values = _perform(run, parts, bundle, slots, brought)
    return [answer, *values] if slots else answer


def perform_telling(run: str, parts: Mapping[Any, Any], bundle: bytes, slots: int, *brought: Any) -> Iterator[Any]:
    """As `perform`, one at a time: something at once, to tell that it began, then the values, the outcomes at last."""
    yield None
    answer, values = _perform(run, parts, bundle, slots, brought)
    for value in (*values, answer):  # noqa: UP028 (Ray sends into what yields; `yield from` would hand that to a tuple)
        yield value


def unshare(values: Sequence[Packed], index: int) -> Packed:
    """One of the values that a bundle returned in a slot, as plain bytes."""
    shared, buffers = values[index]
    return shared, [bytes(buffer) for buffer in buffers]


def _perform(
    run: str, parts: Mapping[Any, Any], bundle: bytes, slots: int, brought: Sequence[Any]
) -> tuple[bytes, list[Any]]:
    logs, printed = _logs(), Printed()
    with ExitStack() as using:
        try:
            bundle_worker = _bundle_worker(run, parts[SETUP], using)
            bundle_worker.learn(parts)
            calls = unpack_bundle(bundle)
        except Interrupted:
            raise
        except BaseException as error:  # noqa: BLE001 (what unpickling imports and runs is the user's code)
            return b"\0" + pack_outcomes(portable(describe(explained(error))), logs.take()), [None] * slots
        outcomes = bundle_worker.perform_all(calls, slots, brought)
        if bundle_worker.interrupted:
            _bundle_workers.clear()  # nobody knows what the interrupt left half done in it
        marks = printed.mark(run) if bundle_worker.marked else 0
        return bytes([marks]) + pack_outcomes(outcomes, logs.take()), bundle_worker.take_values()


class BundleWorker(Worker):
    """One run's worker in this process."""

    def __init__(self, setup: WorkerSetup, *, epoch: int) -> None:
        context: WorkerContext = cloudpickle.loads(setup.context)
        super().__init__(
            context,
            open_results=stores_of(context, check=lambda store: _check_store(store, setup.evidence)),
            fetch=self._fetch_value,
            keep=self._keep_value,
            shares_memory=False,
            cache=ValueCache(idle_seconds=IDLE_SECONDS),
        )
        prepare(context)
        self.shipped, self.marked = setup.shipped, setup.marked
        self._label = ""
        self.epoch = epoch
        self.interrupted = False
        self._brought: Sequence[Sequence[Pickled | Packed] | None] = ()
        self._parts: Mapping[Any, Any] = {}
        self._slots: list[list[Pickled | Packed] | None] = []
        self._kept = 0
        self._room = 0

    def learn(self, parts: Mapping[Any, Any]) -> None:
        """Fetch those of the tasks that this process does not know yet, and note where large arguments are."""
        self._parts = parts
        for number in parts.keys() - self.shipped_tasks.keys() - {SETUP}:
            if not isinstance(number, Argument):
                shipped_task: ShippedTask = cloudpickle.loads(ray.get(parts[number]))
                self.shipped_tasks[number] = shipped_task

    def perform_all(self, bundle: Bundle, slots: int, brought: Sequence[Any]) -> list[Outcome]:
        """The outcomes of a bundle, ready to travel."""
        first = self.shipped_tasks[bundle.calls[0].task]
        self._label = f"{first.flow}/{first.task.name}"  # Ray names the streams so
        self._brought, self._slots = brought, [None] * slots
        self._kept, self._room, _interrupt.asked = 0, INLINE_BUNDLE_BYTES, False
        return portable_outcomes(self.perform_bundle(bundle))

    def take_values(self) -> list[Any]:
        """What the bundle's calls left for others."""
        slots, self._slots, self._brought, self._parts = self._slots, [], (), {}
        return slots

    def perform(self, call: Call) -> Outcome:
        """As of any worker, and nothing more once the process was interrupted: `ray.cancel` wants it to stop.

        Nor if nothing came of what it was promised.
        """
        if self.interrupted or any(self._is_broken(source.handle) for source in call.inputs.values()):
            return self.outcome(call, "not_started")
        shipped_task = self.shipped_tasks[call.task]
        if (label := f"{shipped_task.flow}/{shipped_task.task.name}") != self._label:
            name_task(encodable(label))
            self._label = label
        outcome = super().perform(call)
        if call.promised and isinstance(outcome.handle, Pickled):
            self._slots[0] = [outcome.handle]  # where those look that were submitted before
        if _interrupt.asked:
            self.interrupted = True
            outcome.kind, outcome.failure = "worker_lost", Failure("WorkerLost", "it was interrupted", "")
        return outcome

    def _fetch_value(self, handle: Pickled | Brought | Argument) -> Any:
        if isinstance(handle, Pickled):
            return read_value(handle)
        if isinstance(handle, Argument):
            return unpack(ray.get(self._parts[handle]))
        values = self._brought[handle.argument]
        assert values is not None  # else the call was not started
        value = values[handle.index]
        return read_value(value) if isinstance(value, Pickled) else unpack(value)

    def _is_broken(self, handle: Any) -> bool:
        """Whether it is a handle to what a call promised, and did not make."""
        return isinstance(handle, Brought) and self._brought[handle.argument] is None

    def _keep_value(self, value: Any) -> Pickled | Placed:
        packed = pack(value, inline=min(self._room, INLINE_VALUE_BYTES))
        if isinstance(packed, Pickled):
            self._room -= len(packed.data)
            return packed
        slot = self._kept % len(self._slots)
        self._kept += 1
        values = self._slots[slot]
        if values is None:
            values = self._slots[slot] = []
        values.append(packed)
        return Placed(slot, len(values) - 1)


@functools.cache
def _logs() -> CollectedLogs:
    return CollectedLogs()


_bundle_workers: dict[str, BundleWorker] = {}


def _bundle_worker(run: str, setup: Any, using: ExitStack) -> BundleWorker:
    """The run as it is known here; what was shipped with it stays in use until `using` closes."""
    bundle_worker = _bundle_workers.get(run)
    if bundle_worker is None or using.enter_context(in_use(bundle_worker.shipped)) != bundle_worker.epoch:
        bundle_worker = _open_bundle_worker(run, setup, using)
    return bundle_worker


def _open_bundle_worker(run: str, reference: Any, using: ExitStack) -> BundleWorker:
    setup: WorkerSetup = cloudpickle.loads(ray.get(reference))
    _allow_interrupts()
    sys.path += [path for path in setup.paths if path not in sys.path and os.path.isdir(path)]
    while len(_bundle_workers) >= RUNS_KEPT:
        del _bundle_workers[next(iter(_bundle_workers))]
    bundle_worker = _bundle_workers[run] = BundleWorker(setup, epoch=using.enter_context(in_use(setup.shipped)))
    return bundle_worker


class Interrupted(KeyboardInterrupt):
    """Raised inside of a call by `ray.cancel`: tasks may raise KeyboardInterrupt themselves."""


class _Interrupt:
    """Ray's signal that a call is to stop. Whatever becomes of the exception, it is known."""

    asked = False

    def __call__(self, *_: Any) -> None:
        self.asked = True
        raise Interrupted


_interrupt = _Interrupt()


def _allow_interrupts() -> None:
    """Have `ray.cancel` interrupt calls here.

    Also where SIGINT is ignored: a driver that was started in the background by a shell hands that on to the processes
    of the Ray it starts.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _interrupt)


def _check_store(store: Store, evidence: str | None) -> None:
    if evidence is not None and store.get(evidence) is None:
        raise RunnerError(
            "a worker does not see the run's store",
            where=store.url,
            because=f"on {platform.node()} it has nothing of this run",
            hint="use a store that all machines reach: a shared folder or a bucket, with PENSTOCK_STORE or store=",
        )
