"""What the driver's core is told. Reports of the engine (`Started`, `Waits`, `Finished`) are events as they are.

Each is put into the driver's inbox by whoever knows of it, from any thread, or answers a question of the core.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.worker.messages import Finished, Started, Waits

Waiter = Any
"""Whoever is to be told of an end; the core only hands it back."""


@dataclass(slots=True, eq=False)
class Extend:
    """Bring everything forward that was traced so far, up to this node."""

    upto: int
    want: tuple[int, ...]
    """The waiter waits for these; for everything if there are none."""
    waiter: Waiter


@dataclass(slots=True, eq=False)
class GiveUp:
    """Whoever asked does not wait any longer."""

    waiter: Waiter


@dataclass(slots=True, eq=False)
class Remake:
    """A stored value that was handed out turned out to be unusable: make it again."""

    node: int
    reason: str
    generation: int | None


@dataclass(slots=True, eq=False)
class FinishRunning:
    """Begin nothing more; the waiter waits for what is under way."""

    waiter: Waiter


@dataclass(slots=True, eq=False)
class Cancel:
    """Stop running work and start no more; what is unfinished fails with `Cancelled`."""


@dataclass(slots=True, eq=False)
class Stop:
    """As `Cancel`, and whoever waits is told: there will be no other event."""


@dataclass(slots=True, eq=False)
class Dropped:
    """Nobody holds a future of these nodes any more."""

    nodes: Sequence[int]


@dataclass(slots=True, eq=False)
class Woken:
    """A lock, a permit or a period that nodes wait for may be there."""

    key: str


@dataclass(slots=True, eq=False)
class Rested:
    """The delay before the node's next attempt is over."""

    node: int


@dataclass(slots=True, eq=False)
class TimedOut:
    """The time has passed that the calls of a bundle may take."""

    bundle: int
    seconds: float


@dataclass(slots=True, eq=False)
class LocksLost:
    """A lock session's lease ran out, under so many locks."""

    held: int


@dataclass(slots=True, eq=False)
class LocksDown:
    """The lock manager did not answer, or cannot lock, which was not fatal."""

    doing: str
    reason: str
    unlocked: bool


@dataclass(slots=True, eq=False)
class GoOn:
    """Nothing else has come: decide what is ready, and hand over what there is room for."""

    capacity: Mapping[str, float] | None
    """Of the engine, as it is now; None before it was opened."""


@dataclass(slots=True, eq=False)
class Answered:
    """The answer to the question that the core has asked."""

    answer: Any


@dataclass(slots=True, eq=False)
class Refused:
    """Why there is no answer to the question that the core has asked."""

    error: BaseException


@dataclass(slots=True, eq=False)
class Broken:
    """An instruction could not be carried out, or something around the core does not work."""

    error: BaseException


Event = (
    Extend
    | GiveUp
    | Remake
    | FinishRunning
    | Cancel
    | Stop
    | Dropped
    | Woken
    | Rested
    | TimedOut
    | LocksLost
    | LocksDown
    | GoOn
    | Answered
    | Refused
    | Broken
    | Started
    | Waits
    | Finished
)
