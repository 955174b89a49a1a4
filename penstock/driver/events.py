"""The events that the driver's core receives. Reports of the engine (`Started`, `Waits`, `Finished`) are events, too.

Any thread can put events into the driver's inbox. Others are the answers to the core's questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.worker.messages import Finished, Started, Waits

Waiter = Any
"""An opaque object that is passed back when its wait is over."""


@dataclass(slots=True, eq=False)
class Extend:
    """Execute everything traced so far, up to a node."""

    upto: int
    want: tuple[int, ...]
    """The nodes that the waiter waits for; all if empty."""
    waiter: Waiter


@dataclass(slots=True, eq=False)
class GiveUp:
    """The waiter stopped waiting."""

    waiter: Waiter


@dataclass(slots=True, eq=False)
class Remake:
    """A stored value turned out to be unusable and must be recomputed."""

    node: int
    reason: str
    generation: int | None


@dataclass(slots=True, eq=False)
class FinishRunning:
    """Start nothing more; the waiter waits for running calls."""

    waiter: Waiter


@dataclass(slots=True, eq=False)
class Cancel:
    """Stop running calls and start no more. Unfinished nodes fail with `Cancelled`."""


@dataclass(slots=True, eq=False)
class Stop:
    """Cancel, and answer all waiters. No other event follows."""


@dataclass(slots=True, eq=False)
class Dropped:
    """The last futures of these nodes are gone."""

    nodes: Sequence[int]


@dataclass(slots=True, eq=False)
class Woken:
    """A lock or permit that nodes wait for may be free, or a period may have begun."""

    key: str


@dataclass(slots=True, eq=False)
class Rested:
    """The delay before the node's next attempt is over."""

    node: int


@dataclass(slots=True, eq=False)
class TimedOut:
    """The timeout of a bundle has expired."""

    bundle: int
    seconds: float


@dataclass(slots=True, eq=False)
class LocksLost:
    """The lease of a lock session with this number of locks expired."""

    held: int


@dataclass(slots=True, eq=False)
class LocksDown:
    """The lock manager did not answer or cannot lock, which is not fatal."""

    doing: str
    reason: str
    unlocked: bool


@dataclass(slots=True, eq=False)
class GoOn:
    """No other event is pending: decide ready nodes and submit what there is room for."""

    capacity: Mapping[str, float] | None
    """The engine's present capacity; None before it is opened."""


@dataclass(slots=True, eq=False)
class Answered:
    """The answer to the core's question."""

    answer: Any


@dataclass(slots=True, eq=False)
class Refused:
    """The error instead of an answer to the core's question."""

    error: BaseException


@dataclass(slots=True, eq=False)
class Broken:
    """An instruction could not be carried out, or something else in the driver failed."""

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
