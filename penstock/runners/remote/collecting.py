"""The base of engines that submit bundles at once, and collect the results in their own thread.

For clusters that have a queue, in which bundles can wait for each other, and that can kill a worker.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from penstock.errors import RunnerError
from penstock.runners.remote.engine import RemoteEngine
from penstock.runners.remote.service_thread import ServiceThread
from penstock.runners.remote.under_way import InFlight
from penstock.runners.remote.watching import Watch

GRACE_SECONDS = 1.0
"""Seconds between interrupting a cancelled call and killing its process."""


@dataclass(slots=True, eq=False)
class CollectedFlight(InFlight):
    """A bundle under way, in the queue of the cluster."""

    broken: bool | None = None
    """Whether the cluster failed to run it; None until that is known."""
    then: list[Callable[[], None]] = field(default_factory=list)
    """Called when `broken` is known."""
    cancelled: bool = False


C = TypeVar("C", bound=CollectedFlight)


class CollectingEngine(RemoteEngine[C]):
    """A `RemoteEngine` for clusters with a queue. `start` starts its threads."""

    _service: ServiceThread
    _watch: Watch

    def start(self, name: str, *, patience: float) -> None:
        """Start the threads that collect results and watch the cluster.

        Args:
            name: The prefix of the names of the threads.
            patience: How many seconds the cluster may be away before it counts as lost.
        """
        self._service = ServiceThread(f"{name}-outcomes", on_error=self.break_off)
        on_lost = self._is_lost_now
        self._watch = Watch(self._look, patience=patience, on_lost=on_lost, name=f"{name}-watch")

    # -- what a subclass does -----------------------------------------------------------------------------------------

    @abstractmethod
    def look(self) -> None:
        """Update the machines. Called in a separate thread, so it may take long.

        Raises:
            Away: The cluster does not answer; `Gone` if it will not come back.
        """

    @abstractmethod
    def stop(self, flight: C, *, force: bool) -> None:
        """Stop a bundle, which may have ended already.

        Args:
            flight: The bundle.
            force: Whether to kill its worker instead of interrupting the call.
        """

    @abstractmethod
    def settle(self, flight: C, error: BaseException, *, in_vain: bool) -> None:
        """End a bundle for which the cluster returned an error. Called in the engine's thread.

        Args:
            flight: The bundle.
            error: The error.
            in_vain: Whether a bundle for which it waited failed. Then its calls are `not_started`.
        """

    def left(self) -> None:
        """Disconnect from the cluster. Called last."""

    # -- for the driver -----------------------------------------------------------------------------------------------

    def cancel(self, bundle: int) -> None:
        with self.changed:
            flight = self.flights.get(bundle)
            if flight is None:
                return
            flight.cancelled = True
        self.stop(flight, force=False)
        self._service.later(GRACE_SECONDS, partial(self._kill, flight))

    def close(self) -> None:
        for flight in self.under_way():
            if not flight.cancelled:
                self.cancel(flight.bundle.number)
        with self.changed:
            # The engine's thread kills those that do not stop.
            self.changed.wait_for(lambda: not self.flights, timeout=2 * GRACE_SECONDS)
        self._watch.close()
        self._service.close()
        self.left()

    # -- for subclasses -----------------------------------------------------------------------------------------------

    def came(self, flight: C, answer: bytes | BaseException) -> None:
        """Take the result of a bundle from the cluster: packed outcomes or an error. May be called from any thread."""
        self._service.do(partial(self._collect, flight, answer))

    # -- the engine's own threads -------------------------------------------------------------------------------------

    def _look(self) -> None:
        self.look()
        self._service.do(self._give_up)

    def _is_lost_now(self, why: str) -> None:
        self._service.do(lambda: self.break_off(why))

    def _kill(self, flight: C) -> None:
        """Kill a cancelled bundle that has not stopped."""
        if flight.bundle.number in self.flights:
            self.stop(flight, force=True)

    def _give_up(self) -> None:
        """Fail bundles that wait for a machine that was not replaced in time: they would wait for ever."""
        for flight in self.under_way():
            try:
                self.machines.check_fits(flight.name, flight.bundle.resources)
            except RunnerError as error:
                self.stop(flight, force=False)
                self.end_alike(flight, "failed", error)

    def _collect(self, flight: C, answer: bytes | BaseException) -> None:
        follows: Any = flight.follows
        under_way = [each for each in follows if each.broken is None]
        if under_way and isinstance(answer, BaseException):
            under_way[0].then.append(
                partial(self._collect, flight, answer)
            )  # its failure may be the cause of this error
            return
        flight.broken = isinstance(answer, BaseException)
        if isinstance(answer, bytes):
            self.landed(flight, answer)
        elif flight.bundle.number in self.flights:  # otherwise it ended with the cluster
            self.settle(flight, answer, in_vain=any(each.broken for each in follows))
        for follow in flight.then:
            follow()
