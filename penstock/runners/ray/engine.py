"""The engine of RayRunner: bundles become Ray tasks that are never tried again by Ray itself."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ray

from penstock.digests.large import Large
from penstock.errors import DamagedResult, RunnerError
from penstock.objects.texts import encodable
from penstock.runners.ray import worker as ray_worker
from penstock.runners.ray.capacity import Capacity, as_options
from penstock.runners.ray.clusters import PROCESS
from penstock.runners.ray.health import LOOK_SECONDS, RETURN_SECONDS, Nodes, Watch
from penstock.runners.ray.in_flight import InFlight, Kept, Promised, all_failed, all_of, shippable
from penstock.runners.ray.losses import lost_among, why_lost, without
from penstock.runners.ray.prints import PRINTS, logger
from penstock.worker.failures import describe
from penstock.worker.messages import (
    Bundle,
    Failure,
    Finished,
    Outcome,
    Report,
    ShippedTask,
    Started,
    WorkerContext,
)
from penstock.worker.remote import log_again
from penstock.worker.shipping.code_packing import Shipment
from penstock.worker.shipping.shared_buffers import pack, unpack
from penstock.worker.shipping.source_lines import pickled_task
from penstock.worker.shipping.values import Pickled, pickled, read_value
from penstock.worker.shipping.wire import none_read, pack_bundle, unpack_outcomes

MAX_SLOTS = 8
"""A bundle's large values come back in at most so many objects; each costs Ray about 12 µs, used or not."""
GRACE_SECONDS = 1.0
"""A cancelled call is interrupted first; its process is killed if it has not stopped by then."""
HELD_BACK = 1_000
"""So many bundles wait in Ray for what others make."""


class RayEngine:
    """See `penstock.runners.base.Engine`."""

    def __init__(
        self,
        context: WorkerContext,
        report: Report,
        seat: object,
        *,
        own: bool,
        patience: float,
        shipped: Shipment | None = None,
    ) -> None:
        """`own` Ray was started for the run; a call waits `patience` seconds for a machine that has what it needs."""
        self._seat = seat
        self._report = report
        setup = ray_worker.WorkerSetup(
            pickled(context.travelling(), "the run"),
            tuple(path for path in sys.path if path),
            None if own else context.evidence(),
            shipped,
            PRINTS.marked,
        )
        self._run = os.urandom(8).hex()  # a run that is resumed has its old id, and other numbers for its tasks
        self._parts: dict[Any, Any] = {ray_worker.SETUP: ray.put(pickled(setup, "the run"))}
        self._shared = 0  # large arguments put into Ray's store so far
        self._shipped_tasks: dict[int, ShippedTask] = {}
        self._variants: dict[Any, Callable[..., Any]] = {}
        functions = (ray_worker.perform, ray_worker.perform_telling, ray_worker.unshare)
        self._remote = {function: ray.remote(function) for function in functions}
        self._capacity = Capacity(ray.nodes(), patience=patience)  # type: ignore[no-untyped-call]
        self._place = PROCESS.place()
        self._broken: RunnerError | None = None
        self._flights: dict[int, InFlight] = {}
        self._changed = threading.Condition()
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._collect, name="penstock-ray-outcomes", daemon=True)
        self._thread.start()
        self._watch = Watch(
            ray,
            **self._place,
            patience=0.0 if own else RETURN_SECONDS,
            on_look=self._looked,
            on_lost=lambda why: self._inbox.put(lambda: self._break(why)),
        )

    @property
    def capacity(self) -> Mapping[str, float]:
        return self._capacity.now()

    def register(self, shipped_task: ShippedTask) -> None:
        self._check_there()
        self._parts[shipped_task.number] = ray.put(pickled_task(shipped_task))
        self._shipped_tasks[shipped_task.number] = shipped_task

    @property
    def held_back(self) -> int:
        return HELD_BACK

    def promise(self, bundle: int, node: int) -> Promised:
        flight = self._flights.get(bundle)
        return Promised(flight.values[0] if flight is not None else None, 0, flight)

    def submit(self, bundle: Bundle) -> None:
        promised = [s.handle for c in bundle.calls for s in c.inputs.values() if isinstance(s.handle, Promised)]
        if any(handle.flight is None for handle in promised):
            self._report(Finished(bundle.number, all_of(bundle, "not_started")))
            return
        sources: dict[Any, int] = {}
        large = {large for call in bundle.calls for large in call.large}
        for each in large:
            self._share(each)
        calls = [shippable(call, sources, ray_worker.Brought) for call in bundle.calls]
        travelling = Bundle(bundle.number, calls, seconds=bundle.seconds)
        data = pack_bundle(travelling)
        bundle.size = travelling.size
        flight = InFlight(bundle, list(sources), follows=[h.flight for h in promised if h.flight is not None])
        first = self._shipped_tasks[bundle.calls[0].task]
        # Only with a time-out it matters when exactly a call begins, and being told costs Ray five times as much.
        timed = first.task.options.timeout_seconds is not None
        slots = min(MAX_SLOTS, sum(call.keep or call.passes_on for call in bundle.calls))
        tells = timed and not PROCESS.is_client
        name = self._name(bundle)
        self._capacity.check_fits(name, bundle.resources)
        submit = self._variant(encodable(name), bundle.resources, slots, tells=tells)
        names = (ray_worker.SETUP, *(call.task for call in bundle.calls), *(each.handle for each in large))
        parts = {name: self._parts[name] for name in names}
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

    def _share(self, large: Large) -> None:
        """Put a large argument into Ray's store, the first time that a call has it."""
        if large.handle is not None:
            return
        self._check_there()
        packed = pack(large.shared(), inline=-1)
        assert not isinstance(packed, Pickled)  # nothing is small enough for that
        shared, buffers = packed
        if PROCESS.is_client:  # its connection does not take views
            buffers = [bytes(buffer) for buffer in buffers]
        self._shared += 1
        handle = ray_worker.Argument(self._shared)
        self._parts[handle] = ray.put((shared, buffers))
        large.handle = handle

    def cancel(self, bundle: int) -> None:
        with self._changed:
            flight = self._flights.get(bundle)
            if flight is None:
                return
            flight.overdue = time.monotonic() + GRACE_SECONDS
        self._stop(flight, force=False)
        self._inbox.put(lambda: None)  # to have the moment noticed

    def fetch(self, handle: Any) -> Any:
        if isinstance(handle, Pickled):
            return read_value(handle)
        try:
            if PROCESS.is_client:  # Ray's server for clients cannot send buffers as they lie in shared memory
                return unpack(self._get(self._remote[ray_worker.unshare].remote(handle.ref, handle.index)))
            return unpack(self._get(handle.ref)[handle.index])
        except ray.exceptions.RayError as error:
            raise DamagedResult(
                "a value in Ray's object store is lost",
                because=str(error).partition("\n")[0],
                hint="keep what is costly to make: give its task a cache policy",
            ) from error

    def _get(self, ref: Any) -> Any:
        """The object, however long it takes; raises `RunnerError` if Ray is lost meanwhile."""
        while True:
            self._check_there()
            with contextlib.suppress(ray.exceptions.GetTimeoutError):
                return ray.get(ref, timeout=LOOK_SECONDS)

    def release(self, handles: Iterable[Any]) -> None:
        for handle in handles:
            if isinstance(handle, Kept):
                handle.ref = None
            elif isinstance(handle, ray_worker.Argument):
                self._parts.pop(handle, None)

    def close(self) -> None:
        for flight in self._under_way():
            if flight.overdue is None:
                self.cancel(flight.bundle.number)
        with self._changed:
            # Those that do not stop are killed by the thread that collects outcomes, and end like that.
            self._changed.wait_for(lambda: not self._flights, timeout=2 * GRACE_SECONDS)
        if self._broken is None:
            PRINTS.drain(self._run)
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
            function = ray_worker.perform_telling if tells else ray_worker.perform
            options = self._remote[function].options(
                name=name,
                num_returns="streaming" if tells else slots + 1,
                max_retries=0,
                retry_exceptions=False,
                **as_options(needs),
            )
            variant = self._variants[key] = options.remote
        return variant

    def _follow(self, flight: InFlight, slots: int) -> None:
        """A thread of its own for a bundle that tells when it begins: Ray lets one only wait for that."""
        stream = flight.task
        try:
            ray.get(next(stream))
            self._report(Started(flight.bundle.number))
            flight.values = [next(stream) for _ in range(slots)]
            self._await(flight, next(stream))
        except Exception as error:  # noqa: BLE001 (judged where outcomes are)
            self._inbox.put(lambda error=error: self._landed(flight, error))  # type: ignore[misc]

    def _await(self, flight: InFlight, outcomes: Any) -> None:
        """Have the outcomes collected when they are there."""

        def landed(future: Any) -> None:  # in a thread of Ray's, which must not be held up
            answer = future.exception() or future.result()
            self._inbox.put(lambda: self._landed(flight, answer))

        outcomes.future().add_done_callback(landed)

    def _stop(self, flight: InFlight, *, force: bool) -> None:
        if flight.task is not None:
            with contextlib.suppress(ray.exceptions.RayError, ValueError):  # over already, which is fine
                ray.cancel(flight.task, force=force)

    def _end(self, flight: InFlight) -> bool:
        """The bundle is over; False if it was before."""
        with self._changed:
            self._changed.notify_all()
            return self._flights.pop(flight.bundle.number, None) is not None

    def _under_way(self) -> list[InFlight]:
        with self._changed:
            return list(self._flights.values())

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
        cancelled = [flight for flight in self._under_way() if flight.overdue is not None]
        for flight in cancelled:
            if flight.overdue is not None and flight.overdue <= now:
                flight.overdue = math.inf
                self._stop(flight, force=True)
        soonest = min((f.overdue for f in cancelled if f.overdue is not None), default=math.inf)
        return None if soonest == math.inf else max(0.0, soonest - now)

    def _looked(self, nodes: Nodes) -> None:
        """In the thread that watches Ray."""
        self._capacity.update(nodes)
        self._inbox.put(self._give_up)

    def _give_up(self) -> None:
        """What waits in Ray for a machine that is gone, and was not replaced in time, would wait for ever."""
        for flight in self._under_way():
            try:
                self._capacity.check_fits(self._name(flight.bundle), flight.bundle.resources)
            except RunnerError as error:
                self._stop(flight, force=False)
                if self._end(flight):
                    self._report(Finished(flight.bundle.number, all_of(flight.bundle, "failed", describe(error))))

    def _name(self, bundle: Bundle) -> str:
        """Flow and task, as people know them."""
        shipped_task = self._shipped_tasks[bundle.calls[0].task]
        return f"{shipped_task.flow}/{shipped_task.task.name}"

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
        for flight in self._under_way():
            self._end(flight)
            self._report(Finished(flight.bundle.number, all_of(flight.bundle, "failed", describe(error))))

    def _landed(self, flight: InFlight, answer: bytes | BaseException) -> None:
        under_way = [each for each in flight.follows if each.broken is None]
        if under_way and isinstance(answer, BaseException):
            under_way[0].then.append(lambda: self._landed(flight, answer))  # it may have failed, and this one with it
            return
        flight.broken = isinstance(answer, BaseException)
        self._settle(flight, answer)
        for follow in flight.then:
            follow()

    def _settle(self, flight: InFlight, answer: bytes | BaseException) -> None:
        if not self._end(flight):
            return  # it was lost with the cluster
        try:
            outcomes = self._read(flight, answer) if isinstance(answer, bytes) else self._explain(flight, answer)
        except Exception as error:  # noqa: BLE001 (what unpickling runs is the user's code)
            outcomes = all_failed(flight.bundle, describe(error))
        if outcomes is not None:
            self._report(Finished(flight.bundle.number, outcomes))

    def _read(self, flight: InFlight, answer: bytes) -> list[Outcome]:
        PRINTS.expect(self._run, answer[0])
        outcomes, logs = unpack_outcomes(answer[1:])
        log_again(logs)
        if isinstance(outcomes, Failure):
            return none_read(flight.bundle, outcomes)
        self._capacity.learn(len(outcomes), sum(outcome.busy for outcome in outcomes))
        for outcome in outcomes:
            if isinstance(outcome.handle, ray_worker.Placed):
                outcome.handle = Kept(flight.values[outcome.handle.slot], outcome.handle.index)
        return list(outcomes)

    def _explain(self, flight: InFlight, error: BaseException) -> list[Outcome] | None:
        """What Ray's error means for the calls; None if they were submitted again."""
        for value in flight.values:
            with contextlib.suppress(Exception):
                ray.get(value, timeout=0)  # what nobody looks at Ray tells as an error that nobody handles
        if any(each.broken for each in flight.follows):
            return all_of(flight.bundle, "not_started")
        cause = getattr(error, "cause", None) or error
        lost = lost_among(flight.sources, cause)
        if lost:
            outcomes = without(flight, lost)
            if any(outcome.lost for outcome in outcomes):
                return outcomes
            self.submit(flight.bundle)
            return None
        failure = why_lost(cause)
        if failure is not None:  # the driver tries it again a few times; people hear of it at once, in a line
            logger.warning("a worker was lost under %s: %s", self._name(flight.bundle), failure.message)
            return all_of(flight.bundle, "worker_lost", failure)
        refused = RunnerError(
            "Ray could not run a call",
            because=str(cause).strip(),
            hint="its machines need Penstock and what your tasks import, in the versions that are here",
        )
        return all_failed(flight.bundle, describe(refused))
