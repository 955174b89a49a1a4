"""RayRunner: calls run on Ray, a bundle of them as one Ray task that is never tried again by Ray itself.

Outcomes come back apart from values. Small values travel inside of outcomes, large ones stay in Ray's object store and
go from worker to worker. The driver only holds references to them, until nobody can ask for them any more.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.errors import ConfigurationError, DamagedResult, RunnerError
from penstock.locks.base import Reach
from penstock.runners.base import (
    NO_GENERATION,
    Bundle,
    Call,
    Engine,
    Failure,
    Finished,
    Input,
    Outcome,
    OutcomeKind,
    Payload,
    Report,
    Started,
    WorkerContext,
)
from penstock.runners.binding import BindsFlows
from penstock.runners.failures import describe
from penstock.runners.packed_values import unpack
from penstock.runners.ray_capacity import Capacity, as_options
from penstock.runners.ray_clusters import PROCESS
from penstock.runners.ray_watch import LOOK_SECONDS, RETURN_SECONDS, Watch
from penstock.runners.shipping import Ship, Shipment, check_ship, pack
from penstock.runners.values import Pickled, pickled, read_value
from penstock.runners.wire import pack_bundle, unpack_outcomes
from penstock.runners.worker_processes import log_again

MAX_SLOTS = 8
"""A bundle's large values come back in at most so many objects; each costs Ray about 12 µs, used or not."""
GRACE_SECONDS = 1.0
"""A cancelled call is interrupted first; its process is killed if it has not stopped by then."""


class RayRunner(BindsFlows):
    """Runs calls on Ray.

    On the Ray that this process is connected to; else on the cluster at `address` (`ray://host:10001`, `host:6379`,
    `auto`; by default RAY_ADDRESS); else on one started for the run, on this machine. Only that one is shut down
    afterwards. `init_options` go to `ray.init`, such as `num_cpus=4` or `runtime_env=...`, and mean nothing to a Ray
    that this process is already connected to. `ship=["pkg"]` sends packages and modules of the project along, by name
    or path, for workers that cannot import them.

    As a context manager it stays connected, or keeps the Ray it started, from one run to the next:

        with RayRunner(num_cpus=4) as runner:
            runner(first_flow)()
            runner(second_flow)()
    """

    def __init__(self, address: str | None = None, *, ship: Ship = (), **init_options: Any) -> None:
        self.address = address
        self.ship = check_ship(ship)
        self.init_options = init_options
        self._kept_open: list[object] = []

    def __repr__(self) -> str:
        # Options may hold secrets, and this is written down with each run.
        parts = [repr(self.address)] if self.address is not None else []
        parts += [f"{name}={value!r}" for name, value in self.init_options.items() if isinstance(value, int | float)]
        return f"RayRunner({', '.join(parts)})"

    def __enter__(self) -> RayRunner:
        self._kept_open.append(PROCESS.join(self.address, self.init_options))
        return self

    def __exit__(self, *_: object) -> None:
        PROCESS.leave(self._kept_open.pop())

    @property
    def reach(self) -> Reach:
        return "host" if PROCESS.is_own(self.address) else "network"

    def open(self, context: WorkerContext, report: Report) -> Engine:
        if context.store.startswith("memory:"):
            raise ConfigurationError(
                "a store in memory cannot be shared with worker processes",
                where=context.store,
                hint="use a folder or a bucket as the store, or the thread runner",
            )
        shipped = pack(self.ship)
        seat = PROCESS.join(self.address, self.init_options)
        try:
            own = PROCESS.is_own(self.address)
            return _RayEngine(context, report, seat, own=own, shipped=shipped)
        except BaseException:
            PROCESS.leave(seat)
            raise


@dataclass(slots=True, eq=False)
class _Kept:
    """A handle: a value in Ray's object store."""

    ref: Any
    """None once it was released."""
    index: int
    """Its place among the values of the same object."""


@dataclass(slots=True, eq=False)
class _Flight:
    """A bundle under way."""

    bundle: Bundle
    sources: list[Any]
    """References to the values it was given."""
    task: Any = None
    """What Ray knows it by."""
    values: list[Any] = field(default_factory=list)
    """References to the values it will have made."""
    overdue: float | None = None
    """It is cancelled; its process is killed at this moment."""


class _RayEngine:
    def __init__(
        self, context: WorkerContext, report: Report, seat: object, *, own: bool, shipped: Shipment | None = None
    ) -> None:
        import ray

        from penstock.runners import ray_worker

        self._ray, self._worker = ray, ray_worker
        self._seat = seat
        self._report = report
        run = context.run
        setup = ray_worker.WorkerSetup(
            pickled(WorkerContext(run, context.store), "the run"),
            tuple(path for path in sys.path if path),
            f"runs/{run.id}/run.json" if run.id and not own else None,
            shipped,
        )
        self._run = os.urandom(8).hex()  # a run that is resumed has its old id, and other numbers for its tasks
        self._parts: dict[int, Any] = {ray_worker.SETUP: ray.put(pickled(setup, "the run"))}
        self._payloads: dict[int, Payload] = {}
        self._variants: dict[Any, Callable[..., Any]] = {}
        functions = (ray_worker.perform, ray_worker.perform_telling, ray_worker.unshare)
        self._remote = {function: ray.remote(function) for function in functions}
        self._capacity = Capacity(ray.nodes())  # type: ignore[no-untyped-call]
        self._place = PROCESS.place()
        self._broken: RunnerError | None = None
        self._flights: dict[int, _Flight] = {}
        self._changed = threading.Condition()
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._collect, name="penstock-ray-outcomes", daemon=True)
        self._thread.start()
        self._watch = Watch(
            ray,
            **self._place,
            patience=0.0 if own else RETURN_SECONDS,
            on_look=self._capacity.update,
            on_lost=lambda why: self._inbox.put(lambda: self._break(why)),
        )

    @property
    def capacity(self) -> Mapping[str, float]:
        return self._capacity.now()

    def register(self, payload: Payload) -> None:
        self._check_there()
        data = pickled(payload, f"task {payload.task.name}")
        self._parts[payload.number] = self._ray.put(data)
        self._payloads[payload.number] = payload

    def submit(self, bundle: Bundle) -> None:
        sources: dict[Any, int] = {}
        calls = [_shippable(call, sources, self._worker.Brought) for call in bundle.calls]
        data = pack_bundle(Bundle(bundle.number, calls, seconds=bundle.seconds))
        flight = _Flight(bundle, list(sources))
        first = self._payloads[bundle.calls[0].payload]
        # Only with a time-out it matters when exactly a call begins, and being told costs Ray five times as much.
        timed = first.task.options.timeout_seconds is not None
        slots = min(MAX_SLOTS, sum(call.keep or call.passes_on for call in bundle.calls))
        tells = timed and not PROCESS.is_client
        self._capacity.check_fits(first.task.name, bundle.resources)
        submit = self._variant(first.task.name, bundle.resources, slots, tells=tells)
        parts = {n: self._parts[n] for n in (self._worker.SETUP, *(call.payload for call in bundle.calls))}
        with self._changed:
            self._check_there()
            self._flights[bundle.number] = flight
        try:
            made = submit(self._run, parts, data, slots, *flight.sources)
        except BaseException:
            self._end(flight)
            raise
        if tells:
            flight.task = made
            threading.Thread(
                target=self._follow, args=(flight, slots), name=f"penstock-ray-{bundle.number}", daemon=True
            ).start()
            return
        flight.task, *flight.values = made if slots else [made]
        self._await(flight, flight.task)
        if timed:
            self._report(Started(bundle.number))

    def cancel(self, bundle: int) -> None:
        with self._changed:
            flight = self._flights.get(bundle)
            if flight is None:
                return
            flight.overdue = time.monotonic() + GRACE_SECONDS
        self._stop(flight, force=False)
        self._inbox.put(_nothing)  # to have the moment noticed

    def fetch(self, handle: Any) -> Any:
        if isinstance(handle, Pickled):
            return read_value(handle)
        try:
            if PROCESS.is_client:  # Ray's server for clients cannot send buffers as they lie in shared memory
                return unpack(self._get(self._remote[self._worker.unshare].remote(handle.ref, handle.index)))
            return unpack(self._get(handle.ref)[handle.index])
        except self._ray.exceptions.RayError as error:
            raise DamagedResult(
                "a value in Ray's object store is lost",
                because=str(error).partition("\n")[0],
                hint="keep what is costly to make: give its task a cache policy",
            ) from error

    def _get(self, ref: Any) -> Any:
        """The object, however long it takes; raises `RunnerError` if Ray is lost meanwhile."""
        while True:
            self._check_there()
            with contextlib.suppress(self._ray.exceptions.GetTimeoutError):
                return self._ray.get(ref, timeout=LOOK_SECONDS)

    def release(self, handles: Iterable[Any]) -> None:
        for handle in handles:
            if isinstance(handle, _Kept):
                handle.ref = None

    def close(self) -> None:
        with self._changed:
            running = list(self._flights.values())
        for flight in running:
            if flight.overdue is None:
                self.cancel(flight.bundle.number)
        with self._changed:
            # Those that do not stop are killed by the thread that collects outcomes, and end like that.
            self._changed.wait_for(lambda: not self._flights, timeout=2 * GRACE_SECONDS)
        self._watch.close()
        self._inbox.put(None)
        self._thread.join()
        self._parts.clear()
        self._variants.clear()
        PROCESS.leave(self._seat)

    # -- Ray's side of a bundle ----------------------------------------------------------------------------------------

    def _variant(self, name: str, needs: Mapping[str, float], slots: int, *, tells: bool) -> Callable[..., Any]:
        """The remote function with the options that a bundle needs."""
        key = (name, tuple(needs.items()), slots, tells)
        variant = self._variants.get(key)
        if variant is None:
            function = self._worker.perform_telling if tells else self._worker.perform
            options = self._remote[function].options(
                name=name,
                num_returns="streaming" if tells else slots + 1,
                max_retries=0,
                retry_exceptions=False,
                **as_options(needs),
            )
            variant = self._variants[key] = options.remote
        return variant

    def _follow(self, flight: _Flight, slots: int) -> None:
        """A thread of its own for a bundle that tells when it begins: Ray lets one only wait for that."""
        stream = flight.task
        try:
            self._ray.get(next(stream))
            self._report(Started(flight.bundle.number))
            flight.values = [next(stream) for _ in range(slots)]
            self._await(flight, next(stream))
        except Exception as error:  # noqa: BLE001 (judged where outcomes are)
            self._inbox.put(lambda error=error: self._landed(flight, error))  # type: ignore[misc]

    def _await(self, flight: _Flight, outcomes: Any) -> None:
        """Have the outcomes collected when they are there."""

        def landed(future: Any) -> None:  # in a thread of Ray's, which must not be held up
            answer = future.exception() or future.result()
            self._inbox.put(lambda: self._landed(flight, answer))

        outcomes.future().add_done_callback(landed)

    def _stop(self, flight: _Flight, *, force: bool) -> None:
        if flight.task is not None:
            with contextlib.suppress(self._ray.exceptions.RayError, ValueError):  # over already, which is fine
                self._ray.cancel(flight.task, force=force)

    def _end(self, flight: _Flight) -> bool:
        """The bundle is over; False if it was before."""
        with self._changed:
            self._changed.notify_all()
            return self._flights.pop(flight.bundle.number, None) is not None

    def _check_there(self) -> None:
        if self._broken is not None:
            raise self._broken

    # -- the thread that collects outcomes ----------------------------------------------------------------------------

    def _collect(self) -> None:
        while True:
            try:
                handle = self._inbox.get(timeout=self._kill_overdue())
            except queue.Empty:
                continue
            if handle is None:
                return
            handle()

    def _kill_overdue(self) -> float | None:
        """Kill what was cancelled and did not stop; returns the seconds until the next one is due."""
        now = time.monotonic()
        with self._changed:
            cancelled = [flight for flight in self._flights.values() if flight.overdue is not None]
        for flight in cancelled:
            if flight.overdue is not None and flight.overdue <= now:
                flight.overdue = math.inf
                self._stop(flight, force=True)
        soonest = min((f.overdue for f in cancelled if f.overdue is not None), default=math.inf)
        return None if soonest == math.inf else max(0.0, soonest - now)

    def _break(self, why: str) -> None:
        """Ray is lost: tell it whoever waits, now and from now on."""
        error = RunnerError(
            "the Ray cluster is lost",
            where=self._place["head"] or "",
            because=why,
            hint="run it again when there is one: what was published is a hit then",
        )
        PROCESS.lost()
        with self._changed:
            self._broken = error
            flights = list(self._flights.values())
        for flight in flights:
            self._end(flight)
            self._report(Finished(flight.bundle.number, _all(flight, "failed", describe(error))))

    def _landed(self, flight: _Flight, answer: bytes | BaseException) -> None:
        if not self._end(flight):
            return  # it was lost with the cluster
        try:
            outcomes = self._read(flight, answer) if isinstance(answer, bytes) else self._explain(flight, answer)
        except Exception as error:  # noqa: BLE001 (what unpickling runs is the user's code)
            outcomes = _all_failed(flight, describe(error))
        if outcomes is not None:
            self._report(Finished(flight.bundle.number, outcomes))

    def _read(self, flight: _Flight, answer: bytes) -> list[Outcome]:
        outcomes, logs = unpack_outcomes(answer)
        log_again(logs)
        if isinstance(outcomes, Failure):
            return _all_failed(flight, outcomes)
        for outcome in outcomes:
            if isinstance(outcome.handle, self._worker.Placed):
                outcome.handle = _Kept(flight.values[outcome.handle.slot], outcome.handle.index)
        return list(outcomes)

    def _explain(self, flight: _Flight, error: BaseException) -> list[Outcome] | None:
        """What Ray's error means for the calls; None if they were submitted again."""
        errors = self._ray.exceptions
        cause = getattr(error, "cause", None) or error
        if isinstance(cause, errors.ObjectLostError):
            lost = {source for source in flight.sources if source.hex() == cause.object_ref_hex}
            if lost:
                return self._without(flight, lost)
        if isinstance(cause, errors.TaskCancelledError):
            return _all(flight, "worker_lost", Failure("WorkerLost", "it was cancelled from outside of the run", ""))
        if isinstance(cause, errors.OutOfMemoryError):
            text = "Ray stopped it because its machine ran out of memory"
            return _all(flight, "worker_lost", Failure("OutOfMemory", text, str(cause)))
        losses = (
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.LocalRayletDiedError,
            errors.ObjectLostError,  # of the outcomes themselves: their machine died just after it made them
        )
        if isinstance(cause, losses):
            return _all(flight, "worker_lost", Failure("WorkerLost", _first_sentence(cause), str(cause)))
        failure = RunnerError(
            "Ray could not run a call",
            because=str(cause).strip(),
            hint="its machines need Penstock and what your tasks import, in the versions that are here",
        )
        return _all_failed(flight, describe(failure))

    def _without(self, flight: _Flight, lost: set[Any]) -> list[Outcome] | None:
        """Values the bundle was given are lost: load them from the store instead, or have them made again."""
        outcomes = []
        for call in flight.bundle.calls:
            gone = {n: i for n, i in call.inputs.items() if isinstance(i.handle, _Kept) and i.handle.ref in lost}
            for source in gone.values():
                source.handle = None
            unstored = {node: NO_GENERATION for node, source in gone.items() if source.record is None}
            kind: OutcomeKind = "input_lost" if unstored else "not_started"
            outcomes.append(Outcome(call.node, call.attempt, kind, lost=unstored))
        if any(outcome.lost for outcome in outcomes):
            return outcomes
        self.submit(flight.bundle)
        return None


def _shippable(call: Call, sources: dict[Any, int], brought: Callable[[int, int], Any]) -> Call:
    """The call as it travels: values in Ray's store are named by their place among `sources`, which are sent beside."""
    if not any(isinstance(source.handle, _Kept) for source in call.inputs.values()):
        return call
    inputs: dict[int, Input] = {}
    for node, source in call.inputs.items():
        if isinstance(source.handle, _Kept):
            place = sources.setdefault(source.handle.ref, len(sources))
            inputs[node] = replace(source, handle=brought(place, source.handle.index))
        else:
            inputs[node] = source
    return replace(call, inputs=inputs)


def _all(flight: _Flight, kind: OutcomeKind, failure: Failure) -> list[Outcome]:
    return [Outcome(call.node, call.attempt, kind, failure=failure) for call in flight.bundle.calls]


def _all_failed(flight: _Flight, failure: Failure) -> list[Outcome]:
    """The bundle could not be read, or its outcomes could not: if it is of several calls, each is tried by itself."""
    return _all(flight, "failed" if len(flight.bundle.calls) == 1 else "worker_lost", failure)


def _first_sentence(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _nothing() -> None:
    """Only to wake up who waits."""
