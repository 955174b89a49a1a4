"""The base of engines that submit bundles in their own thread: several at a time, and only those that can run now.

A bundle waits while no worker can run it, and while another bundle that may have killed its worker is tried alone.
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
    """A bundle that may wait before it is submitted to the cluster."""

    started: bool = False
    """Whether its start was reported. Only bundles with a timeout report it."""
    well: bool = False
    """Whether its worker reported its outcomes, and so did not die of it."""
    waits_since: float | None = None
    """Since when there has been no worker at all, by the monotonic clock."""


Q = TypeVar("Q", bound=QueuedFlight)


class QueueingEngine(RemoteEngine[Q]):
    """A `RemoteEngine` with a queue of its own. `start` starts its thread."""

    def __init__(self, run: str, report: Report, machines: Machines) -> None:
        super().__init__(run, report, machines)
        self.service: ServiceThread
        self._ready: list[Q] = []  # to be submitted
        self._held: list[Q] = []  # no worker can run them now
        self._suspects = Suspects()

    def start(self, name: str) -> None:
        """Start the thread that submits bundles.

        Args:
            name: The name of the thread.
        """
        self.service = ServiceThread(name, after=self._hand_over_ready, on_error=self.break_off)

    # -- what a subclass does, in the engine's thread -----------------------------------------------------------------

    @abstractmethod
    def hand_over(self, flights: Sequence[Q]) -> None:
        """Submit bundles that a worker can run to the cluster."""

    @abstractmethod
    def place(self, flight: Q) -> bool:
        """Choose where a bundle may run.

        Returns:
            False if no worker can run it now.

        Raises:
            RunnerError: No worker will ever be able to run it.
        """

    def knows(self, flight: Q) -> bool:
        """Return whether the cluster has a bundle that was submitted, so that others can wait for it there."""
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
        """Handle a worker's message that a bundle `started` or `finished`. May be called from any thread."""
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
        """Try the held bundles again, because there may be other workers. Returns these bundles."""
        held, self._held = self._held, []
        waiting = [flight for flight in held if flight.bundle.number in self.flights]
        if not self.machines.known:
            for flight in waiting:
                self.wait_for_workers(flight, where)
        self._ready += waiting
        return waiting

    def wait_for_workers(self, flight: Q, where: str) -> None:
        """Note that there are no workers. If that lasts for `patience`, the calls fail."""
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
        """End a bundle that the cluster gave up, because inputs were lost or because of the failure."""
        lost = without_lost(flight.bundle, self.is_lost)
        if lost:
            self.end(flight, lost)
        else:
            self.end_alike(flight, "worker_lost" if isinstance(failure, Failure) else "failed", failure)

    def end_killed(self, died: Mapping[str, Iterable[Q]]) -> None:
        """End the bundles that were on workers that died."""
        for worker, there in died.items():
            flights = list(there)
            with self.changed:
                blamed = self._suspects.blamed(flights)
            failure = Failure("WorkerLost", f"the worker {worker} died", "")
            for flight in flights:
                # The calls of a bundle are first tried separately before one is blamed.
                if flight is blamed or len(flight.bundle.calls) > 1:
                    self.end_alike(flight, "worker_lost", failure)
                else:
                    self.end_alike(flight, "not_started")

    # -- the engine's own thread --------------------------------------------------------------------------------------

    def _hand_over_ready(self) -> None:
        """Submit the bundles that were not cancelled meanwhile and need not wait."""
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
        """Return whether a worker can run a bundle now. Otherwise it is held, or has ended."""
        try:
            if self.place(flight):
                return True
            self._held.append(flight)
        except RunnerError as error:
            self.end_alike(flight, "failed", error)
        return False
