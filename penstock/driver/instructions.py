"""The instructions of the driver's core. The loop carries them out with the engine, locks, store, clock and log.

Instructions are carried out in order. A *question* is the last one of its list, and the core's next event is the answer
or an error.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from msgspec import Struct

from penstock import events as log
from penstock.driver.events import Rested, TimedOut, Waiter, Woken
from penstock.graph.graphs import Entry
from penstock.graph.steps import Query
from penstock.limits.rates import Rate
from penstock.locks.base import Holder, LockManager, LockOutcome
from penstock.storage.records.records import RecipeEntry
from penstock.worker.messages import Bundle, ShippedTask


class Instruction(Struct, eq=False):
    """Something to do."""


class Tell(Instruction, eq=False):
    """Log the event and show it."""

    event: log.Event


class Answer(Instruction, eq=False):
    """End the wait of a waiter."""

    waiter: Waiter


class Later(Instruction, eq=False):
    """Send the core this event after a number of seconds."""

    seconds: float
    event: Woken | Rested | TimedOut


class StopBundle(Instruction, eq=False):
    """Stop a running bundle."""

    bundle: int


class ForgetValues(Instruction, eq=False):
    """Release values in the engine that are no longer needed."""

    handles: Sequence[Any]


class Release(Instruction, eq=False):
    """Release a lock, if it is still held."""

    holder: Hashable
    """A node, or a node and the tag of its permit."""
    lock_outcome: LockOutcome


class Waive(Instruction, eq=False):
    """Let the node run without the lock of its key."""

    node: int
    key: str


class Watch(Instruction, eq=False):
    """Report when one of these permits may be free."""

    keys: Sequence[str]


class NoteRecipe(Instruction, eq=False):
    """Write a recipe entry. `told` says whether to warn if that fails."""

    store: str | None
    entry: RecipeEntry
    told: bool = True


class NoteTask(Instruction, eq=False):
    """Write a note of a task's code, since the engine has its first call."""

    entry: Entry


class Crash(Instruction, eq=False):
    """Report the error because of which the core cannot continue."""

    error: BaseException


# -- questions -----------------------------------------------------------------------------------------------------


class Question(Instruction, eq=False):
    """An instruction that has an answer."""


class LookUp(Question, eq=False):
    """Look up queries in the store. Answered by one `planning.Answer` for each query, in order."""

    queries: Sequence[Query]


class ReadLimits(Question, eq=False):
    """Read the limits of tags. Answered by `InForce`."""


class Acquire(Question, eq=False):
    """Try to acquire a lock for each holder. Answered by a `Lease`, `Holder` or None (no answer) for each.

    A holder that already has its lock gets it again. Without a manager, the one for permits is used.
    """

    manager: LockManager | None
    wanted: Mapping[Any, str]
    required: bool = True


class Borrow(Question, eq=False):
    """Use locks that the run around this one holds. Answered like `Acquire`."""

    manager: LockManager
    held: Mapping[int, Holder]


class FindFree(Question, eq=False):
    """Find free permits. Answered by a list of them for each tag."""

    permits: Mapping[str, Sequence[str]]


class TakeStarts(Question, eq=False):
    """Take one start of each of these rates for each node, or none.

    Answered for each node by the tag without a start left, or by None if all starts were taken.
    """

    wanted: Mapping[int, Mapping[str, Rate]]


class OpenEngine(Question, eq=False):
    """Open the engine. Answered by `Opened`."""


class Submit(Question, eq=False):
    """Submit a bundle to the engine. Answered by `Submitted`. After an error, nothing of it is running."""

    bundle: Bundle
    shipped_tasks: Sequence[ShippedTask]
    """The tasks of its calls."""


# -- answers ------------------------------------------------------------------------------------------------------


class InForce(Struct, eq=False):
    """The present limits, by tag."""

    at_once: Mapping[str, int]
    rates: Mapping[str, Rate]


class Opened(Struct, eq=False):
    """The engine is open."""

    capacity: Mapping[str, float]
    held_back: int = 0
    """How many bundles it accepts in addition to those that can run."""


class Submitted(Struct, eq=False):
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
