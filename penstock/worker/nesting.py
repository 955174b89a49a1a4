"""Nested work: tracks what is held around a call, so that nested runs do not wait for it.

A task that calls a task or a flow starts a nested run inside its call. That run must not wait for anything that the
call itself holds: its key, the permits of its tags, a key that its run keeps for later, the worker it occupies.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace

from penstock import events
from penstock.locks.base import Holder
from penstock.runtime import own_variable
from penstock.storage.stores.base import Reach

PATIENCE_SECONDS = 60.0
"""How long a nested run waits for other runs if its worker cannot be lent out."""
_REACHES: tuple[Reach, ...] = ("process", "host", "network")

Lend = Callable[[bool], None]
"""Called with True when a nested run waits for others, so that its worker may do other work, and with False when it
continues."""


@dataclass(frozen=True, slots=True)
class Nesting:
    """The calls around some code and their runs, outermost first."""

    runs: tuple[str, ...] = ()
    """The ids of the runs, as lock managers know them."""
    keys: tuple[tuple[str, str], ...] = ()
    """The tasks and cache keys that are being computed."""
    tags: frozenset[str] = frozenset()
    """The tags of which permits are held."""
    reach: Reach = "process"
    """How far the workers of these runs are spread."""
    lend: tuple[Lend, ...] = ()

    def run(self, id: str, reach: Reach) -> Nesting:
        """Return the nesting inside one more run."""
        return replace(self, runs=(*self.runs, id), reach=max(self.reach, reach, key=_REACHES.index))

    def travelling(self) -> Nesting:
        """Return a copy for other processes, without parts that only this process can use."""
        return replace(self, lend=())

    def holds(self, holder: Holder) -> bool:
        """Return whether one of these runs holds the lock."""
        return holder.info.get("run") in self.runs

    @property
    def lends(self) -> bool:
        """Whether the worker does other work while a nested run waits."""
        return bool(self.lend)


class Calls:
    """The call that a worker is running, inside its run. Cheap to change from call to call."""

    __slots__ = ("key", "lend", "node", "run", "tags", "task")

    def __init__(self, run: Nesting) -> None:
        self.run = run
        self.lend: Lend | None = None
        self.node = -1
        self.task = ""
        self.key: str | None = None
        self.tags: frozenset[str] = frozenset()

    def begin(self, node: int, task: str, tags: frozenset[str]) -> None:
        """Set the call that runs now. Its key is added once it is known."""
        self.node, self.task, self.tags, self.key = node, task, tags, None

    def nesting(self) -> Nesting:
        """Return the nesting of code inside the call."""
        run = self.run
        return replace(
            run,
            keys=run.keys if self.key is None else (*run.keys, (self.task, self.key)),
            tags=run.tags | self.tags,
            lend=run.lend if self.lend is None else (*run.lend, self.lend),
        )


_calls: ContextVar[Calls | None] = own_variable("penstock_nesting", None)


def nesting() -> Nesting | None:
    """Return the nesting of the calling code, or None outside of tasks."""
    calls = _calls.get()
    return None if calls is None else calls.nesting()


def computes(key: str) -> None:
    """Record that the current call computes the result of this key."""
    calls = _calls.get()
    if calls is not None:
        calls.key = key


@contextlib.contextmanager
def within(calls: Calls) -> Iterator[None]:
    """Make runs started in the block nested in the current call."""
    token = _calls.set(calls)
    try:
        yield
    finally:
        _calls.reset(token)


class Lending:
    """Lends out the worker of the call around a nested run while nodes of that run wait for others."""

    def __init__(self, around: Nesting) -> None:
        self._lend = around.lend
        self._parked: set[int] = set()

    def note(self, event: events.Event) -> None:
        """Handle an event of the nested run, in order."""
        before = bool(self._parked)
        if isinstance(event, events.NodeParked):
            self._parked.add(event.node)
        elif isinstance(event, events.NodeUnparked | events.NodeFinished | events.NodeFailed):
            self._parked.discard(event.node)
        self._tell(before)

    def close(self) -> None:
        """Take the worker back when the run is over."""
        before = bool(self._parked)
        self._parked.clear()
        self._tell(before)

    def _tell(self, before: bool) -> None:
        if before != bool(self._parked):
            for lend in self._lend:
                lend(not before)
