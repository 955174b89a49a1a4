"""What the driver's core wants done. The loop does it: with the engine, the locks, the store, the clock, the log.

Instructions are carried out in order. A *question* is the last one of its list, and the next thing the core is told is
the answer to it, or why there is none.
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
from penstock.locks.base import Holder, LockManager, Outcome
from penstock.storage.records.records import RecipeEntry
from penstock.worker.messages import Bundle, ShippedTask


class Instruction:
    """Something to be done."""

    __slots__ = ()


@dataclass(slots=True, eq=False)
class Tell(Instruction):
    """Write the event into the log, and show it."""

    event: log.Event


@dataclass(slots=True, eq=False)
class Answer(Instruction):
    """What the waiter waits for is there, or will never be."""

    waiter: Waiter


@dataclass(slots=True, eq=False)
class Later(Instruction):
    """Tell the core this event after so many seconds."""

    seconds: float
    event: Woken | Rested | TimedOut


@dataclass(slots=True, eq=False)
class StopBundle(Instruction):
    """Stop a bundle that is under way."""

    bundle: int


@dataclass(slots=True, eq=False)
class ForgetValues(Instruction):
    """Nobody will ask the engine for these values again."""

    handles: Sequence[Any]


@dataclass(slots=True, eq=False)
class Release(Instruction):
    """Let a lock go. Nothing is to happen if it is not held (any more)."""

    holder: Hashable
    """A node, or a node and the tag it has a permit of."""
    outcome: Outcome


@dataclass(slots=True, eq=False)
class Waive(Instruction):
    """The node runs without the lock of its key."""

    node: int
    key: str


@dataclass(slots=True, eq=False)
class Watch(Instruction):
    """Say when one of these permits may be free."""

    keys: Sequence[str]


@dataclass(slots=True, eq=False)
class NoteRecipe(Instruction):
    """Write down which result a recipe leads to; `told` says whether a refusal is worth a word."""

    store: str | None
    entry: RecipeEntry
    told: bool = True


@dataclass(slots=True, eq=False)
class NoteTask(Instruction):
    """The engine has a first call of the task: note what its code is made of."""

    entry: Entry


@dataclass(slots=True, eq=False)
class Crash(Instruction):
    """The core cannot go on: nothing is decided any more, and this is why."""

    error: BaseException


# -- questions -----------------------------------------------------------------------------------------------------


class Question(Instruction):
    """Something to be done that has an answer."""

    __slots__ = ()


@dataclass(slots=True, eq=False)
class LookUp(Question):
    """What does the store know? Answered by one `planning.Answer` for each query, in order."""

    queries: Sequence[Query]


@dataclass(slots=True, eq=False)
class ReadLimits(Question):
    """Which tags are limited? Answered by `InForce`."""


@dataclass(slots=True, eq=False)
class Acquire(Question):
    """Try for the lock of each holder. Answered by a `Lease`, `Holder` or None (no answer) for each.

    Who has its lock already gets it again. Without a manager it is the one that keeps permits.
    """

    manager: LockManager | None
    wanted: Mapping[Any, str]
    required: bool = True


@dataclass(slots=True, eq=False)
class Borrow(Question):
    """Use the locks of the run around this one, which holds these. Answered as `Acquire`."""

    manager: LockManager
    held: Mapping[int, Holder]


@dataclass(slots=True, eq=False)
class FindFree(Question):
    """Which permits does nobody hold just now? Answered by a list of those for each tag."""

    permits: Mapping[str, Sequence[str]]


@dataclass(slots=True, eq=False)
class TakeStarts(Question):
    """Use a start of each of these rates for each node, or none.

    Answered for each node by the tag that has none left, or by None if one of each was used.
    """

    wanted: Mapping[int, Mapping[str, Rate]]


@dataclass(slots=True, eq=False)
class OpenEngine(Question):
    """There are calls to be made. Answered by `Opened`."""


@dataclass(slots=True, eq=False)
class Submit(Question):
    """Hand a bundle to the engine. Answered by `Submitted`; refused, nothing of it is under way."""

    bundle: Bundle
    shipped_tasks: Sequence[ShippedTask]
    """The tasks of its calls."""


# -- answers that have a type of their own ------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class InForce:
    """The limits as they are now, by tag."""

    at_once: Mapping[str, int]
    rates: Mapping[str, Rate]


@dataclass(slots=True, eq=False)
class Opened:
    """The engine is open."""

    capacity: Mapping[str, float]
    held_back: int = 0
    """So many bundles it takes besides those that could run."""


@dataclass(slots=True, eq=False)
class Submitted:
    """The bundle is under way."""

    size: int = 0
    """Bytes it travels as, where it does."""
    promise: Any = None
    """A handle to what a call will make that was `promised`."""


T = TypeVar("T")
Steps = Generator[Question, Any, T]
"""A decision that needs answers: yields questions, is sent the answers, and comes to a result."""
Out = list[Instruction]
"""Instructions so far, in order."""


def forget(out: Out, handles: Iterable[Any]) -> None:
    """Have the engine forget these values, if there are any."""
    handles = list(handles)
    if handles:
        out.append(ForgetValues(handles))
