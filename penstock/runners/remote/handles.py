"""The names of values that stay with the workers, in messages of the driver and of workers."""

from __future__ import annotations

from typing import NamedTuple


class Argument(NamedTuple):
    """A large argument, which is sent once for all calls that need it."""

    number: int


class Brought(NamedTuple):
    """To a worker: a value that the engine sends along with the bundle."""

    place: int
    """The position of its object in the `sources` of the flight."""
    item: int
    """`under_way.Kept.item`."""
    node: int
    """The node that returned the value."""
    promised: bool
    """Whether it was promised by a bundle under way. If it is missing, that call returned no value."""


class Placed(NamedTuple):
    """From a worker: a value that stays with it."""

    position: int
    """Its position among the values that the bundle left."""
