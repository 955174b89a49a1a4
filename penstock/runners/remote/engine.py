"""The base of engines whose workers are processes of a cluster. It tracks bundles under way and their outcomes.

A subclass sends a bundle (`send`) and reports its end once: by `landed` with what the worker packed, or by `end`. The
worker's part is in `workers.bundle_worker`. Values are handles here; see `handles`.
"""

from __future__ import annotations

import itertools
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from penstock.digests.large import Large
from penstock.errors import DamagedResult, PenstockError, RunnerError
from penstock.objects.texts import text_of
from penstock.runners.remote.handles import Argument, Brought, Placed
from penstock.runners.remote.machines import Machines
from penstock.runners.remote.parcels import Parcel
from penstock.runners.remote.under_way import InFlight, Kept, Promised, outcomes_of_all, promised_to, without_lost
from penstock.worker.failures import describe
from penstock.worker.messages import Bundle, Failure, Finished, Outcome, OutcomeKind, Report, ShippedTask, WorkerContext
from penstock.worker.remote import log_again
from penstock.worker.shipping.shared_buffers import Packed, unpack
from penstock.worker.shipping.source_lines import pickled_task
from penstock.worker.shipping.values import Pickled, pickled, read_value
from penstock.worker.shipping.wire import none_read, pack_bundle, unpack_outcomes

F = TypeVar("F", bound=InFlight)


def run_name(context: WorkerContext) -> str:
    """Return a name that is unique for each engine: a resumed run has its old id, and numbers bundles anew."""
    return f"{context.run.id or 'call'}-{os.urandom(4).hex()}"


class RemoteEngine(ABC, Generic[F]):
    """The base of an `Engine`. Its other public methods and attributes are for subclasses."""

    flight_class: ClassVar[type[InFlight]] = InFlight
    """The class of a bundle under way: `F`."""

    def __init__(self, run: str, report: Report, machines: Machines) -> None:
        """Create an engine.

        Args:
            run: A unique name; see `run_name`.
            report: Called with what happens to bundles.
            machines: The resources of the cluster. The subclass keeps them up to date.
        """
        self.run = run
        self.report = report
        self.machines = machines
        self.packed_tasks: dict[int, bytes] = {}
        self.packed_arguments: dict[Argument, bytes] = {}
        self.shipped_tasks: dict[int, ShippedTask] = {}
        self.flights: dict[int, F] = {}
        self.changed = threading.Condition()
        """Held while a bundle is added or removed, and notified after a removal."""
        self.broken: RunnerError | None = None
        """Set when the cluster is lost, so that the engine cannot be used any more."""
        self._numbers = itertools.count()

    # -- what a subclass does -----------------------------------------------------------------------------------------

    @abstractmethod
    def send(self, flight: F) -> None:
        """Start a bundle as soon as a worker is free.

        Raises:
            SerializationError: The bundle cannot be sent.
        """

    @abstractmethod
    def cancel(self, bundle: int) -> None:
        """See `Engine.cancel`."""

    @abstractmethod
    def close(self) -> None:
        """See `Engine.close`."""

    @abstractmethod
    def why_broken(self, because: str) -> RunnerError:
        """Return the error for all calls of a cluster that is lost."""

    def share_task(self, number: int, data: bytes) -> None:
        """Make a task available to workers, which read it by `Delivery.task`."""
        self.packed_tasks[number] = data

    def share_argument(self, handle: Argument, large: Large) -> None:
        """Make a large argument available to workers, which read it by `Delivery.argument`."""
        self.packed_arguments[handle] = pickled(large.shared(), "an argument")

    def source_of(self, handle: Kept) -> Any:
        """Return what the engine must send along for a value. It is equal for values in the same object."""
        return handle

    def kept(self, flight: F, outcome: Outcome, placed: Placed) -> Kept:
        """Return the handle to a value that stays with the workers.

        Args:
            flight: The bundle whose call returned the value.
            outcome: The outcome of the call.
            placed: Where the worker placed the value among those that the bundle left.
        """
        flight.left.add(outcome.node)
        return Kept(flight.left, outcome.node)

    def get(self, handle: Any) -> Packed:
        """Return the packed value of a handle. Raises any exception if it is lost.

        Override it if values stay with the workers.
        """
        raise NotImplementedError

    def is_lost(self, handle: Any) -> bool:
        """Return whether a value is known to be lost."""
        return False

    def ended(self, flight: F) -> None:
        """Called when a bundle has ended, with `changed` held."""

    # -- for the driver -----------------------------------------------------------------------------------------------

    @property
    def capacity(self) -> Mapping[str, float]:
        """See `Engine.capacity`."""
        return self.machines.capacity

    def register(self, shipped_task: ShippedTask) -> None:
        """See `Engine.register`."""
        self.check_there()
        self.share_task(shipped_task.number, pickled_task(shipped_task))
        self.shipped_tasks[shipped_task.number] = shipped_task

    def submit(self, bundle: Bundle) -> None:
        """See `Engine.submit`."""
        self.check_there()
        lost = without_lost(bundle, self.is_lost)
        if any(outcome.lost for outcome in lost):
            self.report(Finished(bundle.number, lost))
            return
        promised = promised_to(bundle)
        follows = [handle.flight for handle in promised if handle.flight is not None]
        if len(follows) < len(promised):
            self.report(Finished(bundle.number, outcomes_of_all(bundle, "not_started")))
            return
        flight = self._flight(bundle, follows)
        self.machines.check_fits(flight.name, bundle.resources)
        with self.changed:
            self.check_there()
            self.flights[bundle.number] = flight
        try:
            self.send(flight)
        except BaseException:
            self.end(flight)
            raise

    def fetch(self, handle: Any) -> Any:
        """See `Engine.fetch`."""
        if isinstance(handle, Pickled):
            return read_value(handle)
        try:
            packed = self.get(handle)
        except PenstockError:
            raise
        except Exception as error:
            raise DamagedResult(
                "a value is not in the cluster any more",
                because=f"{type(error).__name__}: {text_of(error).partition(chr(10))[0]}",
                hint="keep what is costly to make: give its task a cache policy",
            ) from error
        return unpack(packed)

    def release(self, handles: Iterable[Any]) -> None:
        """See `Engine.release`. Values that travel as bytes are freed with the last reference to them."""
        for handle in handles:
            if isinstance(handle, Argument):
                self.packed_arguments.pop(handle, None)

    # -- for subclasses -----------------------------------------------------------------------------------------------

    def check_there(self) -> None:
        """Raise `RunnerError` if the cluster is lost."""
        if self.broken is not None:
            raise self.broken

    def under_way(self) -> list[F]:
        """Return all bundles for which the driver waits."""
        with self.changed:
            return list(self.flights.values())

    def landed(self, flight: F, data: bytes) -> None:
        """End a bundle with the outcomes that its worker packed.

        Raises nothing: an error while unpickling is the failure of the calls. Ignored if the bundle has ended.
        """
        if flight.bundle.number not in self.flights:
            return
        try:
            outcomes = self._read(flight, data)
        except Exception as error:  # noqa: BLE001 (what unpickling runs is the user's code)
            outcomes = none_read(flight.bundle, describe(error))
        self.end(flight, outcomes)

    def end_alike(self, flight: F, kind: OutcomeKind, failure: Failure | BaseException | None = None) -> None:
        """End a bundle with the same outcome for all its calls."""
        told = describe(failure) if isinstance(failure, BaseException) else failure
        self.end(flight, outcomes_of_all(flight.bundle, kind, told))

    def end(self, flight: F, outcomes: Sequence[Outcome] | None = None) -> None:
        """End a bundle. Ignored if it has ended.

        Args:
            flight: The bundle.
            outcomes: The outcomes to report. None if it was cancelled, so that nothing is reported.
        """
        with self.changed:
            if self.flights.pop(flight.bundle.number, None) is None:
                return
            self.ended(flight)
            self.changed.notify_all()
        flight.forget_followed()
        if outcomes is not None:
            self.report(Finished(flight.bundle.number, outcomes))

    def end_without(self, flight: F, is_lost: Callable[[Any], bool]) -> None:
        """Handle a bundle that did not run because values are lost.

        If the store has all of them, the bundle is submitted again and reads them there. Otherwise it ends.
        """
        outcomes = without_lost(flight.bundle, is_lost)
        if any(outcome.lost for outcome in outcomes):
            self.end(flight, outcomes)
            return
        with self.changed:
            if self.flights.pop(flight.bundle.number, None) is None:
                return
        try:
            self.submit(flight.bundle)
        except Exception as error:  # noqa: BLE001 (told as the calls' end)
            self.report(Finished(flight.bundle.number, none_read(flight.bundle, describe(error))))

    def break_off(self, because: str | BaseException) -> None:
        """Fail all current and later calls, because the cluster is lost."""
        if isinstance(because, BaseException):
            because = f"{type(because).__name__}: {because}"
        with self.changed:
            self.broken = broken = self.why_broken(because)
        for flight in self.under_way():
            self.end_alike(flight, "failed", broken)

    def parcel(self, flight: F, setup: bytes) -> Parcel:
        """Return a bundle with everything that a worker needs."""
        tasks = {number: self.packed_tasks[number] for number in {call.task for call in flight.bundle.calls}}
        arguments = {handle.number: self.packed_arguments[handle] for handle in flight.arguments}
        return Parcel(self.run, setup, tasks, flight.data, arguments)

    # -- one bundle ---------------------------------------------------------------------------------------------------

    def _flight(self, bundle: Bundle, follows: list[InFlight]) -> F:
        """Return the bundle, ready to be sent. Raises `SerializationError` if it cannot be pickled."""
        arguments: dict[Argument, None] = {}
        for large in {large for call in bundle.calls for large in call.large}:
            if large.handle is None:
                handle = Argument(next(self._numbers))
                self.share_argument(handle, large)
                large.handle = handle
            arguments[large.handle] = None
        sources: dict[Any, int] = {}

        def on_the_way(node: int, handle: Any) -> Any:
            if not isinstance(handle, Kept):
                return handle
            place = sources.setdefault(self.source_of(handle), len(sources))
            return Brought(place, handle.item, node, isinstance(handle, Promised))

        data = pack_bundle(bundle, on_the_way)
        first = self.shipped_tasks[bundle.calls[0].task]
        timed = any(self.shipped_tasks[call.task].task.options.timeout_seconds is not None for call in bundle.calls)
        name = f"{first.flow}/{first.task.name}"
        flight: Any = self.flight_class(bundle, name, data, list(sources), list(arguments), timed, follows)
        made: F = flight
        return made

    def _read(self, flight: F, data: bytes) -> list[Outcome]:
        outcomes, logs = unpack_outcomes(data)
        log_again(logs)
        if isinstance(outcomes, Failure):
            return none_read(flight.bundle, outcomes)
        self.machines.learn(len(outcomes), sum(outcome.busy for outcome in outcomes))
        for outcome in outcomes:
            if isinstance(outcome.handle, Placed):
                outcome.handle = self.kept(flight, outcome, outcome.handle)
        return outcomes
