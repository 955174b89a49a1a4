"""The other side of DaskRunner: what runs in Dask's workers. One Dask task performs one bundle.

The scheduler gets bytes and the name of `perform`; only workers turn either into code. What came of the calls is told
by an event on the topic of the driver's client, the values that others need are what the Dask task returns.
"""

from __future__ import annotations

import os
import pickle
import platform
import sys
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cloudpickle

from penstock.errors import RunnerError
from penstock.runners.dask.event_batching import batcher_of
from penstock.runners.dask.interrupting import Interrupted, InterruptibleJob, interruptible, watch_for_cancelling
from penstock.runners.dask.thread_logs import collected_logs
from penstock.storage.results.store import ResultStore
from penstock.storage.stores.base import Store
from penstock.worker.execution import Worker
from penstock.worker.failures import describe, portable
from penstock.worker.inputs import InputLost
from penstock.worker.messages import (
    NO_GENERATION,
    Bundle,
    Call,
    Failure,
    Input,
    Outcome,
    ShippedTask,
    WorkerContext,
)
from penstock.worker.remote import portable_outcomes, prepare, stores_of
from penstock.worker.shipping.code_packing import Shipment
from penstock.worker.shipping.code_unpacking import explained, in_use
from penstock.worker.shipping.shared_buffers import Packed, pack, unpack
from penstock.worker.shipping.values import Pickled, read_value
from penstock.worker.shipping.wire import Logs, pack_outcomes, unpack_bundle, unpack_outcomes
from penstock.worker.value_cache import IDLE_SECONDS, ValueCache

INLINE_VALUE_BYTES = 4 * 1024
"""A value up to this size travels as bytes inside its outcome."""
INLINE_BUNDLE_BYTES = 32 * 1024
"""And so much of all values of a bundle: outcomes pass through the scheduler, which keeps the last 1 000 events."""
COMPRESS_BYTES = 16 * 1024
"""Outcomes larger than this are compressed."""
RUNS_KEPT = 8
"""Stores and tasks of so many runs stay known to a worker process."""
THIS_PROCESS = os.urandom(8).hex()

Blob = bytes | tuple[int, ...]
"""Bytes, or where they are among what Dask brought along, in parts."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A value that stays in Dask: which bundle made it, and which node's it is."""

    bundle: int
    node: int


@dataclass(frozen=True, slots=True)
class Promised(Kept):
    """A value that a bundle under way will make."""

    key: tuple[str, int] | None
    """Of the bundle's Dask task; None if it was over already."""


@dataclass(frozen=True, slots=True)
class Argument:
    """A handle to a large argument as it was sent."""

    number: int


class Parcel(NamedTuple):
    """What one Dask task is given: nothing in it is the user's, except inside of bytes."""

    run: str
    """Unique for each engine: names the run's Dask tasks."""
    key: tuple[str, int]
    """The Dask task's."""
    topic: str
    setup: Blob
    tasks: Mapping[int, Blob]
    """The tasks of the bundle's calls, by number."""
    bundle: Blob
    arguments: Mapping[int, Blob]
    """Its large arguments, pickled."""
    values: Mapping[tuple[int, int], int]
    """Where kept values (bundle, node) are among what Dask brought along."""
    tells: bool
    """Its beginning matters: the calls have a time-out."""


class WorkerSetup(NamedTuple):
    """What a worker needs to know of a run."""

    versions: tuple[str, str]
    """The driver's."""
    process: str
    """The driver's."""
    paths: tuple[str, ...]
    """The driver's import path: folders that are here too are searched last."""
    evidence: str | None
    """Something that is in the run's store, by name; None if nobody can look at another store by mistake."""
    context: bytes
    shipped: Shipment | None
    """Packages of the project that travel along."""


class KeptValue:
    """A packed value as Dask keeps, moves and spills it: it knows its size, and its buffers travel without a copy."""

    __slots__ = ("packed",)

    def __init__(self, packed: Packed) -> None:
        shared, (pickle_, *buffers) = packed
        # As bytes: what is a view into a BytesIO cannot be freed in any order when the worker ends.
        self.packed: Packed = (shared, [bytes(pickle_), *buffers])

    def __sizeof__(self) -> int:
        return sum(memoryview(buffer).nbytes for buffer in self.packed[1])

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        shared, buffers = self.packed
        # What passes through the scheduler is pickled by an older protocol.
        travelling = pickle.PickleBuffer if protocol >= 5 else bytes
        return _kept_again, (shared, [travelling(buffer) for buffer in buffers])


def _kept_again(shared: tuple[bool, ...], buffers: list[Any]) -> KeptValue:
    return KeptValue((shared, buffers))


def perform(data: bytes, *brought: Any) -> dict[int, Pickled | KeptValue]:
    """Perform a bundle: tells the driver what came of it, and returns the values to keep, by node."""
    import distributed

    parcel = Parcel(*pickle.loads(data))
    worker = distributed.get_worker()
    watch_for_cancelling(worker)
    batcher = batcher_of(worker)
    if parcel.tells:
        batcher.tell(parcel.topic, parcel.run, "started", parcel.key[1], b"")
    try:
        with interruptible(parcel.key) as job, ExitStack() as using:
            answer, logs, values = _perform(parcel, brought, job, using)
            batcher.tell(parcel.topic, parcel.run, "finished", parcel.key[1], _wrapped(answer, logs))
            return values
    except Interrupted:
        return {}  # the driver has forgotten this bundle


def unwrapped(message: bytes) -> tuple[list[Outcome] | Failure, Logs]:
    """The outcomes (or the one failure of all) and the log records of a bundle. Raises what unpickling raises."""
    return unpack_outcomes(zlib.decompress(message[1:]) if message[:1] == b"z" else message[1:])


def _wrapped(answer: Sequence[Outcome] | Failure, logs: Logs) -> bytes:
    data = pack_outcomes(answer, logs)
    return b"z" + zlib.compress(data, 1) if len(data) > COMPRESS_BYTES else b"-" + data


def _perform(
    parcel: Parcel, brought: Sequence[Any], job: InterruptibleJob, using: ExitStack
) -> tuple[Sequence[Outcome] | Failure, Logs, dict[int, Pickled | KeptValue]]:
    try:
        site = _site(parcel, brought, using)
        bundle = unpack_bundle(_bytes(parcel.bundle, brought))
    except Interrupted:
        raise
    except BaseException as error:  # noqa: BLE001 (what unpickling imports and runs is the user's code)
        return portable(describe(explained(error))), [], {}
    bundle_worker = BundleWorker(site, parcel, brought, job)
    with collected_logs(enabled=site.driver != THIS_PROCESS) as logs:
        outcomes = portable_outcomes(bundle_worker.perform_bundle(bundle))
    return outcomes, logs, bundle_worker.take_values(bundle, outcomes)


def _bytes(blob: Blob, brought: Sequence[Any]) -> bytes:
    return blob if isinstance(blob, bytes) else b"".join(brought[place] for place in blob)


# -- runs known to this process ---------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Site:
    """What all bundles of a run share in this process."""

    context: WorkerContext
    driver: str
    open_results: Callable[[Any], ResultStore]
    shipped: Shipment | None
    epoch: int
    """Of the shipped modules that its tasks were unpickled with."""
    shipped_tasks: dict[int, ShippedTask] = field(default_factory=dict)
    cache: ValueCache = field(default_factory=lambda: ValueCache(idle_seconds=IDLE_SECONDS))


_sites: dict[str, _Site] = {}
_sites_guard = threading.Lock()


def _site(parcel: Parcel, brought: Sequence[Any], using: ExitStack) -> _Site:
    """The run as it is known here; what was shipped with it stays in use until `using` closes."""
    site = _sites.get(parcel.run)
    if site is None or using.enter_context(in_use(site.shipped)) != site.epoch:
        site = _open_site(parcel.run, WorkerSetup(*pickle.loads(_bytes(parcel.setup, brought))), using)
    for number, blob in parcel.tasks.items():
        if number not in site.shipped_tasks:
            site.shipped_tasks[number] = cloudpickle.loads(_bytes(blob, brought))
    return site


def _open_site(run: str, setup: WorkerSetup, using: ExitStack) -> _Site:
    _check_versions(setup.versions)
    shipped = setup.shipped if setup.process != THIS_PROCESS else None
    epoch = using.enter_context(in_use(shipped))
    with _sites_guard:
        if setup.process != THIS_PROCESS:
            sys.path += [path for path in setup.paths if path not in sys.path and os.path.isdir(path)]
        context: WorkerContext = cloudpickle.loads(setup.context)
        open_results = stores_of(context, check=lambda store: _check_store(store, setup.evidence))
        if run in _sites and _sites[run].epoch != epoch:
            del _sites[run]
        if run not in _sites:
            prepare(context)
        while len(_sites) >= RUNS_KEPT:
            del _sites[next(iter(_sites))]
        return _sites.setdefault(run, _Site(context, setup.process, open_results, shipped, epoch))


def versions() -> tuple[str, str]:
    """Of Python, as far as functions that travel by value need the same, and of Penstock."""
    penstock: str = sys.modules["penstock"].__version__
    return f"{sys.version_info.major}.{sys.version_info.minor}", penstock


def _check_versions(of_driver: tuple[str, str]) -> None:
    if tuple(of_driver) != versions():
        ours, theirs = ("Python {} and Penstock {}".format(*each) for each in (versions(), of_driver))
        raise RunnerError(
            "a worker has other versions than the driver",
            where=f"{platform.node()}:{os.getpid()}",
            because=f"{ours} on the worker, {theirs} at the driver",
            hint="install the same Python and Penstock everywhere",
        )


def _check_store(store: Store, evidence: str | None) -> None:
    if evidence is not None and store.get(evidence) is None:
        raise RunnerError(
            "a worker does not see the run's store",
            where=store.url,
            because=f"on {platform.node()} it has nothing of this run",
            hint="use a store that all machines reach: a shared folder or a bucket, with PENSTOCK_STORE or store=",
        )


# -- one bundle -------------------------------------------------------------------------------------------------------


class BundleWorker(Worker):
    """The worker of one bundle. Several may be at work in one process."""

    def __init__(self, site: _Site, parcel: Parcel, brought: Sequence[Any], job: InterruptibleJob) -> None:
        super().__init__(
            site.context,
            open_results=site.open_results,
            fetch=self._fetch_value,
            keep=self._keep_value,
            shares_memory=False,
            cache=site.cache,
        )
        self.shipped_tasks = site.shipped_tasks
        self._places = parcel.values
        self._arguments = parcel.arguments
        self._brought = brought
        self._job = job
        self._room = INLINE_BUNDLE_BYTES

    def perform(self, call: Call) -> Outcome:
        """As of any worker, and nothing more once the bundle was cancelled, or if nothing came of a promise."""
        if self._job.stopped or any(self._is_broken(source.handle) for source in call.inputs.values()):
            return self.outcome(call, "not_started")
        call.inputs = {node: self._without_lost_handle(source) for node, source in call.inputs.items()}
        return super().perform(call)

    def take_values(self, bundle: Bundle, outcomes: Sequence[Outcome]) -> dict[int, Pickled | KeptValue]:
        """The values that stay here, by node; their outcomes get handles by which others find them."""
        values: dict[int, Pickled | KeptValue] = {}
        for call, outcome in zip(bundle.calls, outcomes, strict=True):
            if call.promised and outcome.handle is not None:
                values[outcome.node] = outcome.handle
            if isinstance(outcome.handle, KeptValue):
                values[outcome.node] = outcome.handle
                outcome.handle = Kept(bundle.number, outcome.node)
        return values

    def _brought_value(self, handle: Kept) -> Pickled | KeptValue | None:
        found = self._brought[self._places[handle.bundle, handle.node]]
        value: Pickled | KeptValue | None = found.get(handle.node) if isinstance(found, dict) else found
        return value

    def _is_broken(self, handle: Any) -> bool:
        return isinstance(handle, Promised) and self._brought_value(handle) is None

    def _without_lost_handle(self, source: Input) -> Input:
        # Dask runs a bundle again if the worker that held its values died; it then finds published results, without
        # their values. They are in the store.
        if isinstance(source.handle, Kept) and source.record is not None and self._brought_value(source.handle) is None:
            return Input(source.digest, source.record, source.store, shared=source.shared)
        return source

    def _fetch_value(self, handle: Pickled | Kept | Argument) -> Any:
        if isinstance(handle, Pickled):
            return read_value(handle)
        if isinstance(handle, Argument):
            return cloudpickle.loads(_bytes(self._arguments[handle.number], self._brought))
        value = self._brought_value(handle)
        if value is None:
            raise InputLost(handle.node, NO_GENERATION)
        return read_value(value) if isinstance(value, Pickled) else unpack(value.packed)

    def _keep_value(self, value: Any) -> Pickled | KeptValue:
        packed = pack(value, inline=min(self._room, INLINE_VALUE_BYTES))
        if isinstance(packed, Pickled):
            self._room -= len(packed.data)
            return packed
        return KeptValue(packed)


# -- logs -------------------------------------------------------------------------------------------------------------


# -- cancelling -------------------------------------------------------------------------------------------------------
