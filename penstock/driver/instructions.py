"""The instructions of the driver's core. The loop carries them out with the engine, locks, store, clock and log.

Instructions are carried out in order. A *question* is the last one of its list, and the core's next event is the answer
or an error.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from penstock import events as log
from penstock.driver.events import Rested, TimedOut, Waiter, Woken
from penstock.graph.graphs import Entry
from penstock.graph.steps import Query
from penstock.limits.rates import Rate
from penstock.locks.base import Holder, LockManager, LockOutcome
from penstock.storage.records.records import RecipeEntry
from penstock.worker.messages import Bundle, ShippedTask


class Instruction:
    """Something to do."""

    __slots__ = ()


@dataclass(slots=True, eq=False)
class Tell(Instruction):
    """Log the event and show it."""

    event: log.Event


@dataclass(slots=True, eq=False)
class Answer(Instruction):
    """End the wait of a waiter."""

    waiter: Waiter


@dataclass(slots=True, eq=False)
class Later(Instruction):
    """Send the core this event after a number of seconds."""

    seconds: float
    event: Woken | Rested | TimedOut


@dataclass(slots=True, eq=False)
class StopBundle(Instruction):
    """Stop a running bundle."""

    bundle: int


@dataclass(slots=True, eq=False)
class ForgetValues(Instruction):
    """Release values in the engine that are no longer needed."""

    handles: Sequence[Any]


@dataclass(slots=True, eq=False)
class Release(Instruction):
    """Release a lock, if it is still held."""

    holder: Hashable
    """A node, or a node and the tag of its permit."""
    lock_outcome: LockOutcome


@dataclass(slots=True, eq=False)
class Waive(Instruction):
    """Let the node run without the lock of its key."""

    node: int
    key: str


@dataclass(slots=True, eq=False)
class Watch(Instruction):
    """Report when one of these permits may be free."""

    keys: Sequence[str]


@dataclass(slots=True, eq=False)
class NoteRecipe(Instruction):
    """Write a recipe entry. `told` says whether to warn if that fails."""

    store: str | None
    entry: RecipeEntry
    told: bool = True


@dataclass(slots=True, eq=False)
class NoteTask(Instruction):
    """Write a note of a task's code, since the engine has its first call."""

    entry: Entry


@dataclass(slots=True, eq=False)
class Crash(Instruction):
    """Report the error because of which the core cannot continue."""

    error: BaseException


# -- questions -----------------------------------------------------------------------------------------------------


class Question(Instruction):
    """An instruction that has an answer."""

    __slots__ = ()


@dataclass(slots=True, eq=False)
class LookUp(Question):
    """Look up queries in the store. Answered by one `planning.Answer` for each query, in order."""

    queries: Sequence[Query]


@dataclass(slots=True, eq=False)
class ReadLimits(Question):
    """Read the limits of tags. Answered by `InForce`."""


@dataclass(slots=True, eq=False)
class Acquire(Question):
    """Try to acquire a lock for each holder. Answered by a `Lease`, `Holder` or None (no answer) for each.

    A holder that already has its lock gets it again. Without a manager, the one for permits is used.
    """

    manager: LockManager | None
    wanted: Mapping[Any, str]
    required: bool = True


@dataclass(slots=True, eq=False)
class Borrow(Question):
    """Use locks that the run around this one holds. Answered like `Acquire`."""

    manager: LockManager
    held: Mapping[int, Holder]


@dataclass(slots=True, eq=False)
class FindFree(Question):
    """Find free permits. Answered by a list of them for each tag."""

    permits: Mapping[str, Sequence[str]]


@dataclass(slots=True, eq=False)
class TakeStarts(Question):
    """Take one start of each of these rates for each node, or none.

    Answered for each node by the tag without a start left, or by None if all starts were taken.
    """

    wanted: Mapping[int, Mapping[str, Rate]]


@dataclass(slots=True, eq=False)
class OpenEngine(Question):
    """Open the engine. Answered by `Opened`."""


@dataclass(slots=True, eq=False)
class Submit(Question):
    """Submit a bundle to the engine. Answered by `Submitted`. After an error, nothing of it is running."""

    bundle: Bundle
    shipped_tasks: Sequence[ShippedTask]
    """The tasks of its calls."""


# -- answers ------------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class InForce:
    """The present limits, by tag."""

    at_once: Mapping[str, int]
    rates: Mapping[str, Rate]


@dataclass(slots=True, eq=False)
class Opened:
    """The engine is open."""

    capacity: Mapping[str, float]
    held_back: int = 0
    """How many bundles it accepts in addition to those that can run."""


@dataclass(slots=True, eq=False)
class Submitted:
    """The bundle was submitted."""

    size: int = 0
    """Its size in bytes when sent; 0 if it is not serialised."""
    promise: Any = None
    """A handle to the future value of a call that was `promised`."""


T = TypeVar("T")
Steps = Generator[Question, Any, T]
"""A decision that needs answers: yields questions, receives the answers, and returns a result."""
Out = list[Instruction]
"""Instructions so far, in order."""


def forget(out: Out, handles: Iterable[Any]) -> None:
    """Release these values in the engine, if there are any."""
    handles = list(handles)
    if handles:
        out.append(ForgetValues(handles))
