"""Calls that were on a worker when it died. If it is unknown which one killed it, they are tried one at a time.

For workers that run several calls at a time. They send reports in batches, so the report of a successful call may be
lost with its worker, and all calls there are suspects. Blaming the first one would blame innocent calls repeatedly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Sequence

from penstock.runners.remote.under_way import InFlight


class Suspects:
    """The calls that may have killed a worker. Use it only with the engine's lock held."""

    def __init__(self) -> None:
        self._nodes: set[int] = set()
        self._waiting: deque[InFlight] = deque()
        self._tried: int | None = None

    def hold_back(self, flight: InFlight) -> bool:
        """Return whether a bundle must wait for another suspect. `ended` returns it later."""
        number = flight.bundle.number
        if self._tried == number or self._nodes.isdisjoint(call.node for call in flight.bundle.calls):
            return False
        if self._tried is not None:
            self._waiting.append(flight)
            return True
        self._tried = number
        return False

    def waits(self, bundle: int) -> bool:
        """Return whether a bundle is waiting for another suspect."""
        return any(flight.bundle.number == bundle for flight in self._waiting)

    def ended(self, flight: InFlight, under_way: Container[int], *, well: bool) -> InFlight | None:
        """Note the end of a bundle.

        Args:
            flight: The bundle.
            under_way: The numbers of the bundles under way.
            well: Whether its worker survived.

        Returns:
            The next suspect that may run now, if any.
        """
        if well:
            self._nodes.difference_update(call.node for call in flight.bundle.calls)
        if self._tried != flight.bundle.number:
            return None
        self._tried = None
        while self._waiting:
            following = self._waiting.popleft()
            if following.bundle.number in under_way:
                self._tried = following.bundle.number
                return following
        return None

    def blamed(self, flights: Sequence[InFlight]) -> InFlight | None:
        """Return which of the bundles on a worker killed it; None if that is unknown. All become suspects."""
        alone = flights[0] if len(flights) == 1 else None
        found = alone or next((flight for flight in flights if flight.bundle.number == self._tried), None)
        self._nodes.update(call.node for flight in flights for call in flight.bundle.calls)
        return found
