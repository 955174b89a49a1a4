"""Nested work: what is held around a call, so that runs started inside of it know whom they must not wait for.

A task that calls a task, or a flow, starts a run of its own inside of its call. That run must not wait for what the
call itself holds: its key, the permits of its tags, a key that its run keeps for later, the worker it occupies.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace

from penstock import events
from penstock.locks.base import Holder
from penstock.storage.stores.base import Reach

PATIENCE_SECONDS = 60.0
"""Where a call cannot lend its worker to others, a run inside of it waits so long for what others compute."""
_REACHES: tuple[Reach, ...] = ("process", "host", "network")

Lend = Callable[[bool], None]
"""Called with True when a run inside of a call waits for others, so that its worker may take up something else, and
with False when it goes on."""


@dataclass(frozen=True, slots=True)
class Nesting:
    """The calls around some code, and their runs, outermost first."""

    runs: tuple[str, ...] = ()
    """The runs, by id, as they name themselves to lock managers."""
    keys: tuple[tuple[str, str], ...] = ()
    """What is being computed: task and cache key."""
    tags: frozenset[str] = frozenset()
    """Tags whose limits have permits held."""
    reach: Reach = "process"
    """How far away from each other the workers of these runs are."""
    lend: tuple[Lend, ...] = ()

    def run(self, id: str, reach: Reach) -> Nesting:
        """Inside of one more run."""
        return replace(self, runs=(*self.runs, id), reach=max(self.reach, reach, key=_REACHES.index))

    def travelling(self) -> Nesting:
        """Without what only this process can use."""
        return replace(self, lend=())

    def holds(self, holder: Holder) -> bool:
        """Whether it is one of these runs that holds the lock."""
        return holder.info.get("run") in self.runs

    @property
    def lends(self) -> bool:
        """Whether the worker does something else while a run inside of the call waits."""
        return bool(self.lend)


class Calls:
    """The call that a worker runs just now, as one inside of its run. Cheap to change from call to call."""

    __slots__ = ("key", "lend", "node", "run", "tags", "task")

    def __init__(self, run: Nesting) -> None:
        self.run = run
        self.lend: Lend | None = None
        self.node = -1
        self.task = ""
        self.key: str | None = None
        self.tags: frozenset[str] = frozenset()

    def begin(self, node: int, task: str, tags: frozenset[str]) -> None:
        """This call runs now. Its key is noted where it is known."""
        self.node, self.task, self.tags, self.key = node, task, tags, None

    def nesting(self) -> Nesting:
        """What is around code of the call."""
        run = self.run
        return replace(
            run,
            keys=run.keys if self.key is None else (*run.keys, (self.task, self.key)),
            tags=run.tags | self.tags,
            lend=run.lend if self.lend is None else (*run.lend, self.lend),
        )


_calls: ContextVar[Calls | None] = ContextVar("penstock_nesting", default=None)


def nesting() -> Nesting | None:
    """What is around the code that asks; None outside of tasks."""
    calls = _calls.get()
    return None if calls is None else calls.nesting()


def computes(key: str) -> None:
    """The call that runs here computes the result of this key."""
    calls = _calls.get()
    if calls is not None:
        calls.key = key


@contextlib.contextmanager
def within(calls: Calls) -> Iterator[None]:
    """Runs that are started in this block are inside of the call that runs."""
    token = _calls.set(calls)
    try:
        yield
    finally:
        _calls.reset(token)


class Lending:
    """Lends the worker of the call around a run whenever nodes of the run wait for others."""

    def __init__(self, around: Nesting) -> None:
        self._lend = around.lend
        self._parked: set[int] = set()

    def note(self, event: events.Event) -> None:
        """An event of the run, in order."""
        before = bool(self._parked)
        if isinstance(event, events.NodeParked):
            self._parked.add(event.node)
        elif isinstance(event, events.NodeUnparked | events.NodeFinished | events.NodeFailed):
            self._parked.discard(event.node)
        self._tell(before)

    def close(self) -> None:
        """The run is over."""
        before = bool(self._parked)
        self._parked.clear()
        self._tell(before)

    def _tell(self, before: bool) -> None:
        if before != bool(self._parked):
            for lend in self._lend:
                lend(not before)
