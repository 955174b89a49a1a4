"""Handles: how a value that stays with an engine's workers is named by the driver, on its way, and by a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from penstock.runners.remote.under_way import InFlight


@dataclass(slots=True, eq=False)
class Kept:
    """In the driver: a value that stays with the workers."""

    ref: Any
    """What the engine has it by: what its bundle `Left`, or a reference of the engine's own."""
    item: int
    """Which of the values there it is: by node, if it is among what a bundle left."""


@dataclass(slots=True, eq=False)
class Promised(Kept):
    """In the driver: a value that a bundle under way will make."""

    flight: InFlight | None
    """None if the bundle was over already."""


class Argument(NamedTuple):
    """A large argument, as it was sent once for all calls that have it."""

    number: int


class Brought(NamedTuple):
    """On the way to a worker: a value that the engine brings along with the bundle."""

    place: int
    """Which of the flight's `sources` it is in."""
    item: int
    """`Kept.item`."""
    node: int
    """Whose value it is."""
    promised: bool
    """If it is not there, nothing came of the call that was to make it."""


class Placed(NamedTuple):
    """From a worker: a value that stays there."""

    position: int
    """Among all that the bundle left."""
