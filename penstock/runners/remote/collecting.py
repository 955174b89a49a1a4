"""The base of engines that hand bundles over at once, and collect what comes of them in a thread of their own.

For clusters that keep a queue themselves, let bundles wait there for each other, and can kill a worker.
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
"""A cancelled call is interrupted first; its process is killed if it has not stopped by then."""


@dataclass(slots=True, eq=False)
class CollectedFlight(InFlight):
    """A bundle under way in the cluster's own queue."""

    broken: bool | None = None
    """Whether the cluster failed to run it; None until it has come back."""
    then: list[Callable[[], None]] = field(default_factory=list)
    """To be done once it has come back."""
    cancelled: bool = False


C = TypeVar("C", bound=CollectedFlight)


class CollectingEngine(RemoteEngine[C]):
    """See `RemoteEngine`. Its threads begin with `start`."""

    _service: ServiceThread
    _watch: Watch

    def start(self, name: str, *, patience: float) -> None:
        """Begin to collect and to look, in threads with such names. The cluster may be away for so long."""
        self._service = ServiceThread(f"{name}-outcomes", on_error=self.break_off)
        on_lost = self._is_lost_now
        self._watch = Watch(self._look, patience=patience, on_lost=on_lost, name=f"{name}-watch")

    # -- what a subclass does -----------------------------------------------------------------------------------------

    @abstractmethod
    def look(self) -> None:
        """See what machines there are. Raises `watching.Away` or `Gone`. In a thread of its own: it may take long."""

    @abstractmethod
    def stop(self, flight: C, *, force: bool) -> None:
        """Interrupt the bundle, or kill its worker. It may be over already."""

    @abstractmethod
    def settle(self, flight: C, error: BaseException, *, in_vain: bool) -> None:
        """Find out what an error of the cluster means for the calls, and `end` the bundle: as `not_started` if it
        waited `in_vain` for another one. In the engine's thread.
        """

    def left(self) -> None:
        """All is over: leave the cluster."""

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
            # Those that do not stop are killed by the engine's thread, and end like that.
            self.changed.wait_for(lambda: not self.flights, timeout=2 * GRACE_SECONDS)
        self._watch.close()
        self._service.close()
        self.left()

    # -- for subclasses -----------------------------------------------------------------------------------------------

    def came(self, flight: C, answer: bytes | BaseException) -> None:
        """What the cluster made of a bundle. From any thread."""
        self._service.do(partial(self._collect, flight, answer))

    # -- the engine's own threads -------------------------------------------------------------------------------------

    def _look(self) -> None:
        self.look()
        self._service.do(self._give_up)

    def _is_lost_now(self, why: str) -> None:
        self._service.do(lambda: self.break_off(why))

    def _kill(self, flight: C) -> None:
        """It was cancelled, and did not stop."""
        if flight.bundle.number in self.flights:
            self.stop(flight, force=True)

    def _give_up(self) -> None:
        """What waits in the cluster for a machine that is gone, and was not replaced in time, would wait for ever."""
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
            under_way[0].then.append(partial(self._collect, flight, answer))  # it may have failed, and this with it
            return
        flight.broken = isinstance(answer, BaseException)
        if isinstance(answer, bytes):
            self.landed(flight, answer)
        elif flight.bundle.number in self.flights:  # else it was lost with the cluster
            self.settle(flight, answer, in_vain=any(each.broken for each in follows))
        for follow in flight.then:
            follow()
