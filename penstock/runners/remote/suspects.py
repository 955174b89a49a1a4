"""Calls that were at a worker when it died, of which nobody can tell which one killed it: they are tried one at a time.

For workers that run several calls at a time. What one of them tells is on its way in batches, so the report of a call
that ended well may die with it, and the engine blames whatever was there. Blaming the first would convict a neighbour
again and again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Sequence

from penstock.runners.remote.under_way import InFlight


class Suspects:
    """Used under the engine's lock."""

    def __init__(self) -> None:
        self._nodes: set[int] = set()
        self._waiting: deque[InFlight] = deque()
        self._tried: int | None = None

    def hold_back(self, flight: InFlight) -> bool:
        """Whether it has to wait for another suspect's end; `ended` gives it back then."""
        number = flight.bundle.number
        if self._tried == number or self._nodes.isdisjoint(call.node for call in flight.bundle.calls):
            return False
        if self._tried is not None:
            self._waiting.append(flight)
            return True
        self._tried = number
        return False

    def waits(self, bundle: int) -> bool:
        """Whether the bundle is held back."""
        return any(flight.bundle.number == bundle for flight in self._waiting)

    def ended(self, flight: InFlight, under_way: Container[int], *, well: bool) -> InFlight | None:
        """A bundle is over, `well` if its worker lived; returns the one of those under way that may go now."""
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
        """Of the bundles that were at a worker that died, the one to blame; None if nobody knows. The others are
        suspects from now on."""
        alone = flights[0] if len(flights) == 1 else None
        found = alone or next((flight for flight in flights if flight.bundle.number == self._tried), None)
        self._nodes.update(call.node for flight in flights for call in flight.bundle.calls)
        return found
