"""The base of engines that hand bundles over in a thread of their own: several at a time, and none that has to wait.

A bundle waits while no worker can run it, and while another one that may have killed its worker is tried by itself.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from penstock.errors import RunnerError
from penstock.runners.remote.engine import RemoteEngine
from penstock.runners.remote.machines import Machines
from penstock.runners.remote.service_thread import ServiceThread
from penstock.runners.remote.suspects import Suspects
from penstock.runners.remote.under_way import InFlight, Promised, without_lost
from penstock.worker.messages import Failure, Report, Started


@dataclass(slots=True, eq=False)
class QueuedFlight(InFlight):
    """A bundle that may wait before it is handed over."""

    started: bool = False
    """Told only of bundles with a time-out."""
    well: bool = False
    """Its worker lived to tell what came of it."""
    waits_since: float | None = None
    """There is no worker at all since."""


Q = TypeVar("Q", bound=QueuedFlight)


class QueueingEngine(RemoteEngine[Q]):
    """See `RemoteEngine`. Its thread begins with `start`."""

    def __init__(self, run: str, report: Report, machines: Machines) -> None:
        super().__init__(run, report, machines)
        self.service: ServiceThread
        self._ready: list[Q] = []  # to be handed over
        self._held: list[Q] = []  # no worker can run them now
        self._suspects = Suspects()

    def start(self, name: str) -> None:
        """Begin to hand over, in a thread that is called so."""
        self.service = ServiceThread(name, after=self._hand_over_ready, on_error=self.break_off)

    # -- what a subclass does, in the engine's thread -----------------------------------------------------------------

    @abstractmethod
    def hand_over(self, flights: Sequence[Q]) -> None:
        """Give the cluster bundles that a worker can run."""

    @abstractmethod
    def place(self, flight: Q) -> bool:
        """Find out where it may run. False if that is nowhere now; raises `RunnerError` if it never is."""

    def knows(self, flight: Q) -> bool:
        """Whether the cluster has a bundle that was handed over, so that others may wait for it there."""
        return False

    # -- for the driver -----------------------------------------------------------------------------------------------

    def send(self, flight: Q) -> None:
        self.service.do(partial(self._ready.append, flight))

    def promise(self, bundle: int, node: int) -> Promised:
        """See `HoldsBack.promise`."""
        flight = self.flights.get(bundle)
        return Promised(flight.left if flight is not None else None, node, flight)

    def cancel(self, bundle: int) -> None:
        flight = self.flights.get(bundle)
        if flight is not None:
            self.end(flight)

    # -- for subclasses -----------------------------------------------------------------------------------------------

    def heard(self, what: str, number: int, outcomes: bytes) -> None:
        """A worker told that a bundle `started` or `finished`. From any thread."""
        flight = self.flights.get(number)
        if flight is None:
            return  # cancelled, or run again by the cluster
        if what == "finished":
            flight.well = True
            self.landed(flight, outcomes)
        elif not flight.started:
            flight.started = True
            self.report(Started(number))

    def ended(self, flight: Q) -> None:
        following: Any = self._suspects.ended(flight, self.flights, well=flight.well)
        if following is not None:
            self.send(following)

    def look_again(self, where: str) -> list[Q]:
        """There may be other workers now: try again what is held. Returns that."""
        held, self._held = self._held, []
        waiting = [flight for flight in held if flight.bundle.number in self.flights]
        if not self.machines.known:
            for flight in waiting:
                self.wait_for_workers(flight, where)
        self._ready += waiting
        return waiting

    def wait_for_workers(self, flight: Q, where: str) -> None:
        """There are none; that fails the calls if it lasts."""
        now = time.monotonic()
        flight.waits_since = flight.waits_since or now
        if now - flight.waits_since > self.machines.patience:
            error = RunnerError(
                "the cluster has no workers",
                where=where,
                because=f"none came within {self.machines.patience:g} s",
                hint="start workers, or raise worker_timeout= if they take longer",
            )
            self.end_alike(flight, "failed", error)

    def end_lost(self, flight: Q, failure: Failure | BaseException) -> None:
        """The cluster gave it up: because inputs were lost, or for the reason that the failure says."""
        lost = without_lost(flight.bundle, self.is_lost)
        if lost:
            self.end(flight, lost)
        else:
            self.end_alike(flight, "worker_lost" if isinstance(failure, Failure) else "failed", failure)

    def end_killed(self, died: Mapping[str, Iterable[Q]]) -> None:
        """Workers died, and with them the bundles that were there."""
        for worker, there in died.items():
            flights = list(there)
            with self.changed:
                blamed = self._suspects.blamed(flights)
            failure = Failure("WorkerLost", f"the worker {worker} died", "")
            for flight in flights:
                # Calls of a bundle are tried apart from each other before any is to blame.
                if flight is blamed or len(flight.bundle.calls) > 1:
                    self.end_alike(flight, "worker_lost", failure)
                else:
                    self.end_alike(flight, "not_started")

    # -- the engine's own thread --------------------------------------------------------------------------------------

    def _hand_over_ready(self) -> None:
        """What was not cancelled meanwhile, and does not have to wait."""
        flights = list(self._ready)
        self._ready.clear()
        going: dict[Q, None] = {}
        for flight in flights:
            if flight.bundle.number not in self.flights or self.broken is not None:
                continue
            follows: Any = flight.follows
            with self.changed:
                if self._suspects.hold_back(flight):
                    continue
                if any(self._suspects.waits(each.bundle.number) for each in follows):
                    self._held.append(flight)
                    continue
            if not all(each in going or self.knows(each) for each in follows):
                self.end_alike(flight, "not_started")
            elif self._can_run(flight):
                going[flight] = None
        if going:
            self.hand_over(list(going))

    def _can_run(self, flight: Q) -> bool:
        """Whether a worker can run it now; else it is held, or over."""
        try:
            if self.place(flight):
                return True
            self._held.append(flight)
        except RunnerError as error:
            self.end_alike(flight, "failed", error)
        return False
