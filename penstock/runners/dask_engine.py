"""The engine of DaskRunner: bundles become Dask tasks, their ends become reports.

A thread of the engine talks to Dask: it submits in one message what the driver handed over meanwhile, lets go of
values, and looks after tasks that Dask gave up. What workers tell of their bundles comes by events, in the thread of
the client. The driver's thread only leaves notes.
"""

from __future__ import annotations

import contextlib
import inspect
import operator
import pickle
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future as ThreadFuture
from dataclasses import dataclass, field, replace
from typing import Any

from dask._task_spec import DataNode, Task, TaskRef

from penstock.errors import DamagedResult, RunnerError
from penstock.runners.base import (
    NO_GENERATION,
    Bundle,
    Call,
    Failure,
    Finished,
    Outcome,
    OutcomeKind,
    Payload,
    Report,
    Started,
)
from penstock.runners.dask_capacity import ANYWHERE, Placement, Workers
from penstock.runners.dask_worker import EVENT, Blob, Kept, Parcel, unwrapped
from penstock.runners.failures import describe
from penstock.runners.packed_values import unpack
from penstock.runners.values import Pickled, pickled, read_value
from penstock.runners.worker_processes import log_again

PERFORM = b"cpenstock.runners.dask_worker\nperform\n."
"""`perform` as a pickle: the scheduler sees bytes, and needs no Penstock."""
INLINE_TASK_BYTES = 8 * 1024
"""A task up to this size travels with each bundle; a larger one is a Dask value, which each worker gets once."""
PART_BYTES = 4 * 2**20
"""Larger arguments travel in parts: Dask warns of graphs above 10 MB."""
TICK_SECONDS = 0.1
"""So often the engine looks for tasks that Dask gave up: rare enough to cost nothing, and nobody tells of them
cheaper. What workers report, and what the driver wants, is handled at once."""
REFRESH_SECONDS = 1.0
"""So often the scheduler is asked for its workers."""
OUTCOME_SECONDS = 10.0
"""A Dask task that finished so long ago has no report any more that could still be under way."""

Key = tuple[str, int] | tuple[str, int, int]


@dataclass(slots=True, eq=False)
class _Job:
    """A bundle that the driver waits for."""

    bundle: Bundle
    key: tuple[str, int]
    """Of its Dask task."""
    data: bytes
    placement: Placement = ANYWHERE
    parts: list[Key] = field(default_factory=list)
    """The Dask values that hold its arguments, if they are large."""
    started: bool = False
    worker: str = ""
    waits_since: float | None = None
    """There is no worker at all since."""
    finished_at: float | None = None


@dataclass(slots=True, eq=False)
class _Left:
    """What a bundle left in Dask."""

    key: tuple[str, int]
    alone: bool
    """It is one value."""
    nodes: set[int]
    """Whose values are not released yet."""


@dataclass(frozen=True, slots=True)
class _Drop:
    """A note to let go of Dask tasks."""

    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class _Fetch:
    """A note that somebody wants Dask's future of a value."""

    handle: Kept
    asked: ThreadFuture[Any]


_Note = _Job | _Drop | _Fetch


class DaskEngine:
    """See `penstock.runners.base.Engine`."""

    def __init__(
        self,
        client: Any,
        report: Report,
        *,
        run: str,
        setup: bytes,
        workers: Workers,
        on_close: Callable[[], None],
    ) -> None:
        """`client` is the engine's own; `run` is unique among all runs that the scheduler ever saw."""
        self._client = client
        self._report = report
        self._run = run
        self._setup = setup
        self._workers = workers
        self._on_close = on_close
        self._guard = threading.Lock()
        self._notes: queue.SimpleQueue[_Note | None] = queue.SimpleQueue()
        self._jobs: dict[int, _Job] = {}
        self._left: dict[int, _Left] = {}
        self._tasks: dict[int, bytes] = {}
        self._names: dict[int, str] = {}
        self._futures: dict[Key, Any] = {}  # touched by the engine's thread; others read
        self._shared: dict[str, Blob] = {}  # setup and tasks that are Dask values, by name
        self._part = 0
        self._held: list[_Job] = []  # no worker can run them now
        self._nudge: Any = None
        self._broken: RunnerError | None = None
        self._perform = Task(None, pickle.loads, PERFORM)
        self._refresh()
        client.subscribe_topic(client.id, self._on_event)
        self._thread = threading.Thread(target=self._serve, name="penstock-dask", daemon=True)
        self._thread.start()

    # -- the driver's thread ------------------------------------------------------------------------------------------

    @property
    def capacity(self) -> Mapping[str, float]:
        return self._workers.capacity

    def register(self, payload: Payload) -> None:
        self._tasks[payload.number] = pickled(payload, f"task {payload.task.name}")
        self._names[payload.number] = payload.task.name

    def submit(self, bundle: Bundle) -> None:
        if self._broken is not None:
            raise self._broken
        if self._workers.known:
            self._workers.place(bundle.resources)  # raises if it could never run
        lost = {call.node: found for call in bundle.calls if (found := self._without_lost_handles(call))}
        if lost:
            self._report(Finished(bundle.number, _handed_back(bundle, lost)))
            return
        key = (f"{self._names[bundle.calls[0].payload]}-{self._run}", bundle.number)
        job = _Job(bundle, key, pickled(bundle, "the arguments of a call"))
        with self._guard:
            self._jobs[bundle.number] = job
        self._notes.put(job)

    def cancel(self, bundle: int) -> None:
        # Dask forgets the task; a worker that runs it is told, and interrupts it.
        self._end(bundle)

    def fetch(self, handle: Any) -> Any:
        if isinstance(handle, Pickled):
            return read_value(handle)
        asked: ThreadFuture[Any] = ThreadFuture()
        self._notes.put(_Fetch(handle, asked))
        because = "the worker that held it is gone"
        value = None
        try:
            value = self._client.gather(asked.result())
        except Exception as error:  # noqa: BLE001 (whatever Dask says, the value cannot be had from it)
            because = f"{type(error).__name__}: {error}"
        if isinstance(value, dict):
            value = value.get(handle.node)
        if value is None:
            raise DamagedResult("a value is not in the cluster any more", where=f"node {handle.node}", because=because)
        return unpack(value.packed)

    def release(self, handles: Iterable[Any]) -> None:
        keys: list[Key] = []
        with self._guard:
            for handle in handles:
                left = self._left.get(handle.bundle) if isinstance(handle, Kept) else None
                if left is not None:
                    keys.append(self._picked(handle))
                    left.nodes.discard(handle.node)
                    if not left.nodes:
                        del self._left[handle.bundle]
                        keys.append(left.key)
        if keys:
            self._notes.put(_Drop(tuple(keys)))

    def close(self) -> None:
        with self._guard:
            self._jobs.clear()
        self._notes.put(None)
        self._thread.join()
        with contextlib.suppress(Exception):  # the scheduler may be gone
            self._client.unsubscribe_topic(self._client.id)
        for future in self._futures.values():
            future.release()
        self._futures.clear()
        self._on_close()

    def _without_lost_handles(self, call: Call) -> dict[int, int]:
        """Take out handles of values that Dask lost and the store has; returns the inputs that neither has."""
        lost: dict[int, int] = {}
        inputs: dict[int, Any] | None = None
        for node, source in call.inputs.items():
            if isinstance(source.handle, Kept) and self._is_lost(source.handle):
                inputs = dict(call.inputs) if inputs is None else inputs
                inputs[node] = replace(source, handle=None)
                if source.record is None:
                    lost[node] = NO_GENERATION
        if inputs is not None:
            call.inputs = inputs
        return lost

    def _is_lost(self, handle: Kept) -> bool:
        left = self._left.get(handle.bundle)
        if left is None:
            return True
        futures = [self._futures.get(key) for key in (left.key, self._picked(handle))]
        return any(future is not None and future.status in ("error", "cancelled") for future in futures)

    # -- the thread of Dask's client ----------------------------------------------------------------------------------

    def _on_event(self, event: tuple[float, Any]) -> None:
        message = event[1]
        if not isinstance(message, list | tuple) or message[0] != EVENT:
            return  # the scheduler tells things of its own on this topic
        _, what, number, content = message
        job = self._jobs.get(number)
        if job is None:
            return  # cancelled, or run again by Dask
        if what == "finished":
            self._finished(job, content)
        elif not job.started:
            job.started, job.worker = True, content
            self._report(Started(number))

    def _finished(self, job: _Job, content: bytes) -> None:
        calls = job.bundle.calls
        try:
            outcomes, logs = unwrapped(content)
        except Exception as error:  # noqa: BLE001 (what unpickling runs is the user's code)
            outcomes, logs = describe(error), []
        if isinstance(outcomes, Failure):
            outcomes = [Outcome(c.node, c.attempt, "failed", failure=outcomes) for c in calls]
        log_again(logs)
        self._workers.learn(len(calls), sum(outcome.busy for outcome in outcomes))
        kept = {outcome.handle.node for outcome in outcomes if isinstance(outcome.handle, Kept)}
        self._end(job.bundle.number, outcomes, kept=kept)

    def _end(self, number: int, outcomes: list[Outcome] | None = None, *, kept: set[int] | None = None) -> None:
        """The driver need not wait for the bundle any more; what Dask has of it goes, unless values are kept."""
        with self._guard:
            job = self._jobs.pop(number, None)
            if job is None:
                return
            if kept:
                self._left[number] = _Left(job.key, len(kept) == 1, kept)
        if not kept:
            self._notes.put(_Drop((job.key,)))
        if outcomes is not None:
            self._report(Finished(number, outcomes))

    # -- the engine's own thread --------------------------------------------------------------------------------------

    def _serve(self) -> None:
        next_tick = next_refresh = time.monotonic()
        while True:
            notes = self._take_notes(max(0.0, next_tick - time.monotonic()))
            if notes and notes[-1] is None:
                return
            try:
                self._handle([note for note in notes if note is not None])
                now = time.monotonic()
                if now >= next_tick and self._broken is None:
                    next_tick = now + TICK_SECONDS
                    self._look_after(now)
                if now >= next_refresh and self._broken is None:
                    next_refresh = now + REFRESH_SECONDS
                    self._refresh()
                    self._hand_over_held(now)
            except Exception as error:  # noqa: BLE001 (told to whoever waits)
                self._break(error)

    def _handle(self, notes: Iterable[_Note]) -> None:
        jobs = []
        for note in notes:
            if isinstance(note, _Drop):
                self._let_go(note.keys)
            elif isinstance(note, _Fetch):
                self._answer(note)
            else:
                jobs.append(note)
        if jobs:
            self._hand_over(jobs)

    def _answer(self, note: _Fetch) -> None:
        try:
            graph: dict[Key, Any] = {}
            key = self._value_key(note.handle, graph)
            self._send({ANYWHERE: graph})
            note.asked.set_result(self._futures[key])
        except Exception as error:  # noqa: BLE001 (handed to the thread that asks)
            note.asked.set_exception(error)

    def _take_notes(self, seconds: float) -> list[_Note | None]:
        """What was noted, up to the None that ends it all; waits for the first so long."""
        notes: list[_Note | None] = []
        with contextlib.suppress(queue.Empty):
            notes.append(self._notes.get(timeout=seconds))
            while notes[-1] is not None:
                notes.append(self._notes.get_nowait())
        return notes

    def _hand_over(self, jobs: Iterable[_Job]) -> None:
        """Submit what was not cancelled meanwhile, in as few messages as can be."""
        graphs: dict[Placement, dict[Key, Any]] = {}
        sent: list[_Job] = []
        size = 0
        for job in jobs:
            if job.bundle.number not in self._jobs or self._broken is not None:
                continue
            placement = self._placement(job)
            if placement is None:
                self._held.append(job)
                continue
            job.placement = placement
            graphs.setdefault(placement, {}).update(self._graph(job))
            sent.append(job)
            size += len(job.data)
            if size > PART_BYTES:
                self._send(graphs)
                size = 0
        self._send(graphs)
        for job in sent:
            self._let_go(job.parts)  # the scheduler keeps them for the job

    def _placement(self, job: _Job) -> Placement | None:
        """Where it may run; None if that is nowhere right now."""
        asks = any(amount for name, amount in job.bundle.resources.items() if name != "slots")
        if not asks:
            return ANYWHERE  # also without a worker: it makes clusters grow that adapt
        try:
            return self._workers.place(job.bundle.resources) if self._workers.known else None
        except RunnerError as error:
            self._end(job.bundle.number, _outcomes(job.bundle, "failed", describe(error)))
            return None

    def _hand_over_held(self, now: float) -> None:
        held, self._held = self._held, []
        waiting = [job for job in held if job.bundle.number in self._jobs]
        if waiting and not self._workers.addresses and self._nudge is None:
            self._nudge = self._client.submit(int, pure=False)  # clusters that adapt grow when there is work
        elif self._workers.addresses:
            self._nudge = None
        self._hand_over(waiting)

    def _graph(self, job: _Job) -> dict[Key, Any]:
        """The Dask task of a bundle, and those that pick the values it needs out of what other bundles left."""
        graph: dict[Key, Any] = {}
        brought: dict[Key, int] = {}

        def place(key: Key) -> int:
            return brought.setdefault(key, len(brought))

        def local(blob: Blob | tuple[Key, ...]) -> Blob:
            return blob if isinstance(blob, bytes) else tuple(place(key) for key in blob)  # type: ignore[arg-type]

        values: dict[tuple[int, int], int] = {}
        for call in job.bundle.calls:
            for source in call.inputs.values():
                if isinstance(source.handle, Kept):
                    values[source.handle.bundle, source.handle.node] = place(self._value_key(source.handle, graph))
        tasks = {number: local(self._shared_blob(str(number), self._tasks[number])) for number in _payloads(job.bundle)}
        data: Any = job.data
        if len(data) > PART_BYTES:
            job.parts = list(self._ship(data))
            data = tuple(job.parts)
        parcel = Parcel(
            run=self._run,
            key=job.key,
            topic=self._client.id,
            setup=local(self._shared_blob("setup", self._setup)),
            tasks=tasks,
            bundle=local(data),
            values=values,
        )
        # Tasks without inputs wait at the scheduler until a worker is free, not at a worker that may be busy for long.
        graph[job.key] = Task(
            job.key,
            operator.call,
            self._perform,
            pickle.dumps(tuple(parcel)),
            *map(TaskRef, brought),
            _data_producer=not values,
        )
        return graph

    def _value_key(self, handle: Kept, graph: dict[Key, Any]) -> Key:
        """What to depend on to get a value: the bundle's task if it left no other, else a task that picks it out."""
        picked = self._picked(handle)
        left = self._left.get(handle.bundle)
        if left is None:
            return picked  # released meanwhile, so the driver does not wait for this job any more
        if left.alone:
            return left.key
        if picked not in self._futures:
            graph[picked] = Task(picked, dict.get, TaskRef(left.key), handle.node)
        return picked

    def _picked(self, handle: Kept) -> Key:
        return (f"value-{self._run}", handle.bundle, handle.node)

    def _shared_blob(self, name: str, data: bytes) -> Any:
        """The bytes, or the Dask values that hold them if they are many."""
        if len(data) <= INLINE_TASK_BYTES:
            return data
        if name not in self._shared:
            self._shared[name] = self._ship(data)  # type: ignore[assignment]
        return self._shared[name]

    def _ship(self, data: bytes) -> tuple[Key, ...]:
        """Make bytes Dask values, in parts."""
        keys = []
        for start in range(0, len(data), PART_BYTES):
            self._part += 1
            key = (f"data-{self._run}", self._part)
            self._send({ANYWHERE: {key: DataNode(key, data[start : start + PART_BYTES])}})
            keys.append(key)
        return tuple(keys)

    def _send(self, graphs: dict[Placement, dict[Key, Any]]) -> None:
        for placement, graph in graphs.items():
            keys = list(graph)
            futures = self._client.get(
                graph,
                keys,
                sync=False,
                resources=dict(placement.resources) or None,
                workers=list(placement.workers) or None,
                fifo_timeout=0,
                retries=0,
            )
            self._futures.update(zip(keys, futures, strict=True))
        graphs.clear()

    def _let_go(self, keys: Iterable[Key]) -> None:
        for key in keys:
            future = self._futures.pop(key, None)
            if future is not None:
                future.release()

    # -- what goes wrong ----------------------------------------------------------------------------------------------

    def _look_after(self, now: float) -> None:
        if self._client.status != "running":
            raise ConnectionError(f"Dask's client is {self._client.status}")
        erred: list[tuple[_Job, Any]] = []
        for job in list(self._jobs.values()):
            future = self._futures.get(job.key)
            status = future.status if future is not None else "pending"
            if status == "error":
                erred.append((job, future))
            elif status == "cancelled":
                self._lost(job, "Dask cancelled it")
            elif status == "finished":
                job.finished_at = job.finished_at or now
                if now - job.finished_at > OUTCOME_SECONDS:
                    self._lost(job, "it ended, and its report never came")
            elif not job.started:
                self._look_for_worker(job, now)
        self._settle_erred(erred)

    def _look_for_worker(self, job: _Job, now: float) -> None:
        if self._workers.addresses and self._workers.runs(job.placement):
            job.waits_since = None
        elif job.placement != ANYWHERE:
            self._end(job.bundle.number, _outcomes(job.bundle, "not_started"))  # to be placed again
        else:
            job.waits_since = job.waits_since or now
            if now - job.waits_since > self._workers.patience:
                error = RunnerError(
                    "the cluster has no workers",
                    where=self._client.scheduler.address,
                    because=f"none came within {self._workers.patience:g} s",
                    hint="start workers, or raise worker_timeout= if they take longer",
                )
                self._end(job.bundle.number, _outcomes(job.bundle, "failed", describe(error)))

    def _lost(self, job: _Job, why: str) -> None:
        lost = Failure("WorkerLost", why, "")
        self._end(job.bundle.number, self._handed_back(job.bundle) or _outcomes(job.bundle, "worker_lost", lost))

    def _handed_back(self, bundle: Bundle) -> list[Outcome] | None:
        """Outcomes of a bundle that never ran because Dask lost inputs of it; None if it lost none."""
        handles = [source.handle for call in bundle.calls for source in call.inputs.values()]
        if not any(isinstance(handle, Kept) and self._is_lost(handle) for handle in handles):
            return None
        return _handed_back(bundle, {call.node: self._without_lost_handles(call) for call in bundle.calls})

    def _settle_erred(self, erred: Iterable[tuple[_Job, Any]]) -> None:
        from distributed.scheduler import KilledWorker

        died: dict[str, list[_Job]] = {}
        for job, future in erred:
            error = future.exception()
            if isinstance(error, KilledWorker) and error.task == job.key:
                died.setdefault(error.last_worker.address, []).append(job)
            else:
                outcomes = self._handed_back(job.bundle)
                self._end(job.bundle.number, outcomes or _outcomes(job.bundle, "failed", describe(_told(error))))
        for address, jobs in died.items():
            # Dask blames all that were at the worker. Only as many as it has threads can have been under way; what it
            # did not tell of any more began last.
            jobs.sort(key=lambda job: (not job.started, job.bundle.number))
            threads = self._workers.threads(address)
            lost = Failure("WorkerLost", f"the Dask worker {address} died", "")
            for job in jobs[:threads]:
                self._end(job.bundle.number, _outcomes(job.bundle, "worker_lost", lost))
            for job in jobs[threads:]:
                self._end(job.bundle.number, _outcomes(job.bundle, "not_started"))

    def _refresh(self) -> None:
        self._workers.update(scheduler_info(self._client)["workers"], time.monotonic())

    def _break(self, error: Exception) -> None:
        """Nothing can be done any more: tell it whoever waits, now and from now on."""
        self._broken = RunnerError(
            "the connection to the Dask scheduler is lost",
            where=self._client.scheduler.address if self._client.scheduler is not None else "",
            because=f"{type(error).__name__}: {error}",
            hint="run it again when the scheduler is back: what was published is a hit then",
        )
        for job in list(self._jobs.values()):
            self._end(job.bundle.number, _outcomes(job.bundle, "failed", describe(self._broken)))


def scheduler_info(client: Any) -> dict[str, Any]:
    """What the scheduler says of itself and all its workers."""
    every = {"n_workers": -1} if "n_workers" in inspect.signature(client.scheduler_info).parameters else {}
    info: dict[str, Any] = client.scheduler_info(**every)
    return info


def _told(error: BaseException) -> BaseException:
    """What a Dask task failed with that never came as far as to a call of ours."""
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in ("penstock", "cloudpickle"):
        return RunnerError(
            "a Dask worker cannot import Penstock",
            because=str(error),
            hint="install the same Python and Penstock everywhere",
        )
    return RunnerError(
        "Dask could not run a bundle of calls",
        because=f"{type(error).__name__}: {error}",
        hint="the logs of the scheduler and of its workers tell more",
    )


def _payloads(bundle: Bundle) -> set[int]:
    return {call.payload for call in bundle.calls}


def _outcomes(bundle: Bundle, kind: OutcomeKind, failure: Failure | None = None) -> list[Outcome]:
    """The same for all calls of a bundle."""
    return [Outcome(call.node, call.attempt, kind, failure=failure) for call in bundle.calls]


def _handed_back(bundle: Bundle, lost: Mapping[int, Mapping[int, int]]) -> list[Outcome]:
    """Outcomes of a bundle that cannot run because inputs of some calls are lost, by node."""
    return [
        Outcome(c.node, c.attempt, "input_lost", lost=lost[c.node])
        if lost.get(c.node)
        else Outcome(c.node, c.attempt, "not_started")
        for c in bundle.calls
    ]
