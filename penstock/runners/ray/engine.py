"""The engine of RayRunner, which submits bundles as Ray tasks that Ray never tries again by itself."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray

from penstock.digests.large import Large
from penstock.errors import RunnerError
from penstock.objects.texts import encodable
from penstock.runners.ray import worker as ray_worker
from penstock.runners.ray.capacity import Nodes, as_options
from penstock.runners.ray.clusters import PROCESS
from penstock.runners.ray.health import RETURN_SECONDS, look
from penstock.runners.ray.losses import lost_among, why_lost
from penstock.runners.ray.prints import PRINTS, logger
from penstock.runners.remote.collecting import CollectedFlight, CollectingEngine
from penstock.runners.remote.engine import run_name
from penstock.runners.remote.handles import Argument, Placed
from penstock.runners.remote.refusals import could_not_run
from penstock.runners.remote.under_way import Kept, Promised
from penstock.runners.remote.watching import LOOK_SECONDS
from penstock.worker.failures import describe
from penstock.worker.messages import Outcome, Report, Started, WorkerContext
from penstock.worker.shipping.shared_buffers import Packed, pack
from penstock.worker.shipping.values import Pickled
from penstock.worker.shipping.wire import none_read

MAX_LISTS = 8
"""The number of objects for the large values of a bundle. Each costs Ray about 12 µs, used or not."""
HELD_BACK = 1_000
"""The number of bundles that may wait in Ray for values of other bundles."""


@dataclass(slots=True, eq=False)
class RayFlight(CollectedFlight):
    """A bundle under way in Ray."""

    task: Any = None
    """The reference to its Ray task."""
    values: list[Any] = field(default_factory=list)
    """References to the values that it will return."""


class RayEngine(CollectingEngine[RayFlight]):
    """The `Engine` of RayRunner."""

    flight_class = RayFlight
    machines: Nodes

    def __init__(
        self, context: WorkerContext, report: Report, seat: object, *, own: bool, setup: bytes, patience: float
    ) -> None:
        """Start the engine.

        `own` is whether the Ray was started for the run. A call waits at most `patience` seconds for a machine.
        """
        super().__init__(run_name(context), report, Nodes(ray.nodes(), patience=patience))  # type: ignore[no-untyped-call]
        self._seat = seat
        self._marked = PRINTS.marked
        self._parts: dict[Any, Any] = {ray_worker.SETUP: ray.put(setup)}
        self._variants: dict[Any, Callable[..., Any]] = {}
        functions = (ray_worker.perform, ray_worker.perform_telling, ray_worker.unshare)
        self._remote = {function: ray.remote(function) for function in functions}
        self._place = PROCESS.place()
        self.start("penstock-ray", patience=0.0 if own else RETURN_SECONDS)

    # -- the driver's thread ------------------------------------------------------------------------------------------

    def share_task(self, number: int, data: bytes) -> None:
        self._parts[number] = ray.put(data)

    def share_argument(self, handle: Argument, large: Large) -> None:
        packed = pack(large.shared(), inline=-1)
        assert not isinstance(packed, Pickled)  # no value is small enough for that
        shared, buffers = packed
        if PROCESS.is_client:  # its connection does not accept views
            buffers = [bytes(buffer) for buffer in buffers]
        self._parts[handle] = ray.put((shared, buffers))

    def source_of(self, handle: Kept) -> Any:
        return handle.ref

    @property
    def held_back(self) -> int:
        return HELD_BACK

    def promise(self, bundle: int, node: int) -> Promised:
        flight = self.flights.get(bundle)
        return Promised(flight.values[0] if flight is not None else None, 0, flight)

    def send(self, flight: RayFlight) -> None:
        bundle = flight.bundle
        lists = min(MAX_LISTS, sum(call.keep or call.passes_on for call in bundle.calls))
        # Reports of the start cost Ray five times as much, so only bundles with a timeout have them.
        tells = flight.timed and not PROCESS.is_client
        submit = self._variant(encodable(flight.name), bundle.resources, lists, tells=tells)
        names = (ray_worker.SETUP, *(call.task for call in bundle.calls), *flight.arguments)
        parts = {name: self._parts[name] for name in names}
        made = submit(self.run, parts, flight.data, lists, self._marked, *flight.sources)
        if tells:
            flight.task = made
            threading.Thread(
                target=self._follow, args=(flight, lists), name=f"penstock-ray-{bundle.number}", daemon=True
            ).start()
            return
        flight.task, *flight.values = made if lists else [made]
        self._await(flight, flight.task)
        if flight.timed:
            self.report(Started(bundle.number))

    def get(self, handle: Any) -> Packed:
        packed: Packed
        if PROCESS.is_client:  # Ray's server for clients cannot send buffers in shared memory
            packed = self._get(self._remote[ray_worker.unshare].remote(handle.ref, handle.item))
        else:
            packed = self._get(handle.ref)[handle.item]
        return packed

    def _get(self, ref: Any) -> Any:
        """Return an object, however long that takes. Raises `RunnerError` if the cluster is lost meanwhile."""
        while True:
            self.check_there()
            with contextlib.suppress(ray.exceptions.GetTimeoutError):
                return ray.get(ref, timeout=LOOK_SECONDS)

    def release(self, handles: Iterable[Any]) -> None:
        for handle in handles:
            if isinstance(handle, Kept):
                handle.ref = None
            elif isinstance(handle, Argument):
                self._parts.pop(handle, None)

    def left(self) -> None:
        if self.broken is None:
            PRINTS.marks.drain(self.run)
        self._parts.clear()
        self._variants.clear()
        PROCESS.leave(self._seat)

    # -- Ray's side of a bundle ---------------------------------------------------------------------------------------

    def _variant(self, name: str, needs: Mapping[str, float], lists: int, *, tells: bool) -> Callable[..., Any]:
        """Return the remote function with the options for a bundle."""
        key = (name, tuple(needs.items()), lists, tells)
        variant = self._variants.get(key)
        if variant is None:
            function = ray_worker.perform_telling if tells else ray_worker.perform
            options = self._remote[function].options(
                name=name,
                num_returns="streaming" if tells else lists + 1,
                max_retries=0,
                retry_exceptions=False,
                **as_options(needs),
            )
            variant = self._variants[key] = options.remote
        return variant

    def _follow(self, flight: RayFlight, lists: int) -> None:
        """Wait for the start and the end of a bundle that reports its start, in a separate thread."""
        stream = flight.task
        try:
            ray.get(next(stream))
            self.report(Started(flight.bundle.number))
            flight.values = [next(stream) for _ in range(lists)]
            self._await(flight, next(stream))
        except Exception as error:  # noqa: BLE001 (judged where outcomes are)
            self.came(flight, error)

    def _await(self, flight: RayFlight, outcomes: Any) -> None:
        """Collect the outcomes when they arrive."""

        def came(future: Any) -> None:  # in a thread of Ray, which must not be blocked
            self.came(flight, future.exception() or future.result())

        outcomes.future().add_done_callback(came)

    def stop(self, flight: RayFlight, *, force: bool) -> None:
        if flight.task is not None:
            with contextlib.suppress(ray.exceptions.RayError, ValueError):  # it has ended already
                ray.cancel(flight.task, force=force)

    def look(self) -> None:
        self.machines.update(look(ray, **self._place))

    # -- the engine's own thread --------------------------------------------------------------------------------------

    def landed(self, flight: RayFlight, data: bytes) -> None:
        PRINTS.marks.expect(self.run, data[0])
        super().landed(flight, data[1:])

    def kept(self, flight: RayFlight, outcome: Outcome, placed: Placed) -> Kept:
        lists = len(flight.values)
        return Kept(flight.values[placed.position % lists], placed.position // lists)

    def settle(self, flight: RayFlight, error: BaseException, *, in_vain: bool) -> None:
        for value in flight.values:
            with contextlib.suppress(Exception):
                ray.get(value, timeout=0)  # Ray reports errors that are not retrieved
        cause = getattr(error, "cause", None) or error
        failure = why_lost(cause)
        if in_vain:
            self.end_alike(flight, "not_started")
        elif lost := lost_among(flight.sources, cause):
            self.end_without(flight, lambda handle: isinstance(handle, Kept) and handle.ref in lost)
        elif failure is not None:  # the driver tries again; users see one line at once
            logger.warning("a worker was lost under %s: %s", flight.name, failure.message)
            self.end_alike(flight, "worker_lost", failure)
        else:
            self.end(flight, none_read(flight.bundle, describe(could_not_run("Ray", cause))))

    def why_broken(self, because: str) -> RunnerError:
        PROCESS.lost()
        return RunnerError(
            "the Ray cluster is lost",
            where=self._place["head"] or "",
            because=because,
            hint="run it again when there is one: what was published is a hit then",
        )
