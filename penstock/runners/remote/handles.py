"""How values that stay with an engine's workers are named in what travels: by the driver, and by a worker."""

from __future__ import annotations

from typing import NamedTuple


class Argument(NamedTuple):
    """A large argument, as it was sent once for all calls that have it."""

    number: int


class Brought(NamedTuple):
    """On the way to a worker: a value that the engine brings along with the bundle."""

    place: int
    """Which of the flight's `sources` it is in."""
    item: int
    """`under_way.Kept.item`."""
    node: int
    """Whose value it is."""
    promised: bool
    """If it is not there, nothing came of the call that was to make it."""


class Placed(NamedTuple):
    """From a worker: a value that stays there."""

    position: int
    """Among all that the bundle left."""
