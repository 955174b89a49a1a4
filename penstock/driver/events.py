"""The events that the driver's core receives. Reports of the engine (`Started`, `Waits`, `Finished`) are events, too.

Any thread can put events into the driver's inbox. Others are the answers to the core's questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from penstock.worker.messages import Finished, Started, Waits

Waiter = Any
"""An opaque object that is passed back when its wait is over."""


class Extend(Struct, eq=False):
    """Execute everything traced so far, up to a node."""

    upto: int
    want: tuple[int, ...]
    """The nodes that the waiter waits for; all if empty."""
    waiter: Waiter


class GiveUp(Struct, eq=False):
    """The waiter stopped waiting."""

    waiter: Waiter


class Remake(Struct, eq=False):
    """A stored value turned out to be unusable and must be recomputed."""

    node: int
    reason: str
    generation: int | None


class FinishRunning(Struct, eq=False):
    """Start nothing more; the waiter waits for running calls."""

    waiter: Waiter


class Cancel(Struct, eq=False):
    """Stop running calls and start no more. Unfinished nodes fail with `Cancelled`."""


class Stop(Struct, eq=False):
    """Cancel, and answer all waiters. No other event follows."""


class Dropped(Struct, eq=False):
    """The last futures of these nodes are gone."""

    nodes: Sequence[int]


class Woken(Struct, eq=False):
    """A lock or permit that nodes wait for may be free, or a period may have begun."""

    key: str


class Rested(Struct, eq=False):
    """The delay before the node's next attempt is over."""

    node: int


class TimedOut(Struct, eq=False):
    """The timeout of a bundle has expired."""

    bundle: int
    seconds: float


class LocksLost(Struct, eq=False):
    """The lease of a lock session with this number of locks expired."""

    held: int


class LocksDown(Struct, eq=False):
    """The lock manager did not answer or cannot lock, which is not fatal."""

    doing: str
    reason: str
    unlocked: bool


class GoOn(Struct, eq=False):
    """No other event is pending: decide ready nodes and submit what there is room for."""

    capacity: Mapping[str, float] | None
    """The engine's present capacity; None before it is opened."""


class Answered(Struct, eq=False):
    """The answer to the core's question."""

    answer: Any


class Refused(Struct, eq=False):
    """The error instead of an answer to the core's question."""

    error: BaseException


class Broken(Struct, eq=False):
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
