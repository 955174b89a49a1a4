"""The board: what one run knows of its nodes. Touched by the driver's thread only, except where it says otherwise."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from penstock import events
from penstock.clocks import Clock
from penstock.driver.scheduler import Scheduler
from penstock.graph.graphs import Graph
from penstock.graph.large import Large
from penstock.graph.planning import Hit, Planner, Status
from penstock.runners.base import Input, new_origin, origin_of
from penstock.storage.records import ResultRecord

IDLE_BYTES = 256 * 2**20
"""So much of large arguments that no call needs now stays with the workers: the next call may be given them again."""


@dataclass(slots=True, eq=False)
class Result:
    """Where a node's value is."""

    digest: str | None = None
    record: ResultRecord | None = None
    handle: Any = None
    """The value inside the engine, as long as somebody may ask for it."""
    expires: float | None = None
    """The earliest expiry of the value and of all it was made from."""
    part_of: str = ""
    """As `Input.part_of`."""

    @property
    def there(self) -> bool:
        """Whether the value can be had."""
        return self.record is not None or self.handle is not None


@dataclass(slots=True, eq=False)
class Progress:
    """How far a node that runs has come."""

    attempt: int = 1
    losses: int = 0
    """Attempts that ended with the death of the worker."""
    key: str | None = None
    """The cache key, once it is known."""
    key_age: int = 0
    """`Board.age` of the inputs that the key was computed from."""
    inputs_age: int = 0
    """`Board.inputs_age` of the node when the attempt was handed over."""
    looked_up: bool = False
    """The key was looked up since the node became ready."""
    seen: int | None = None
    """A generation that must not be used: damaged, or to be refreshed."""
    parked_since: float | None = None
    """When it was parked, on the clock's `monotonic`; None if it does not wait for anybody."""
    parked_on: tuple[str, int] | None = None
    """The session and token of the holder it was last said to wait for."""
    error: BaseException | None = None
    limited: bool = False
    """Its task has a tag of which only so many may run at once, or begin in a time."""
    has_slot: bool = False
    """It has a slot of each limit."""
    alone: bool = False
    """It was in a bundle whose worker died: from now on it travels by itself."""


class Board:
    """Nodes, their plan, their progress and their values."""

    def __init__(
        self,
        graph: Graph,
        *,
        held: Callable[[int], bool],
        emit: events.Emit,
        clock: Clock,
        limits: Callable[[], Iterable[str]] = tuple,
        run_id: str = "",
    ) -> None:
        """`held(node)`: a future of the node is alive, so its value may still be asked for. `limits()` are the tags
        that have a limit or a rate."""
        self._run_id = run_id
        # Unique among all attempts ever made, without asking the system for chance 10 000 times.
        self._origin = new_origin()
        self._origins = {self._origin}
        self._attempts = itertools.count()
        self.graph = graph
        self.planner = Planner(graph)
        self.scheduler = Scheduler()
        self.results: dict[int, Result] = {}
        self.progress: dict[int, Progress] = {}
        self.outcomes: dict[int, Literal["executed", "hit", "failed"]] = {}
        self.counts = {"contended": 0, "retried": 0}
        self.planned = 0
        """Nodes from this number on were traced, but nothing was decided about them yet."""
        self.emit = emit
        self.clock = clock
        self.held = held
        self.remade: dict[int, int] = {}
        """Nodes whose value was lost and made again, and how often."""
        self.handed_out: set[int] = set()
        """Nodes whose values the flow has seen. Added to by its thread."""
        self.changes: dict[int, int] = {}
        """Nodes whose value became another one after others had used it, and how often."""
        self._limits = limits
        self._uses: dict[int, int] = {}
        self._idle: dict[Large, int] = {}  # sizes of large arguments that workers have and no call needs, oldest first
        self._idle_bytes = 0
        self._took: dict[str, float] | None = None

    def name(self, id: int) -> str:
        return self.graph.nodes[id].entry.task.name

    def needs_of(self, id: int) -> tuple[int, ...]:
        """Everything that has to be over before the node may run."""
        node = self.graph.nodes[id]
        return node.deps + node.order

    def begin(self, id: int) -> Progress:
        """The node has to run (again): its inputs are in use from now on."""
        node = self.graph.nodes[id]
        tags = node.entry.task.options.tags
        limited = bool(tags) and not tags.isdisjoint(self._limits())
        progress = self.progress[id] = Progress(key=node.cache_key, limited=limited, alone=limited)
        for dep in node.deps:
            self._uses[dep] = self._uses.get(dep, 0) + 1
        if self.graph.large:
            self._large_needed(id)
        return progress

    def add(self, id: int) -> list[int]:
        """The node has to run: its place in the order of things. Returns [id] if something it needs has failed."""
        return self.scheduler.add(id, self.needs_of(id), self.graph.nodes[id].entry.task.identity)

    def age(self, id: int) -> int:
        """How often inputs of the node were made again: another age may mean other values, and another key."""
        return sum(self.remade.get(d, 0) for d in self.graph.nodes[id].deps) if self.remade else 0

    def inputs_age(self, id: int) -> int:
        """How often inputs of the node became others: what was made at another age was made from other values."""
        return sum(self.changes.get(d, 0) for d in self.graph.nodes[id].deps) if self.changes else 0

    def begin_anew(self) -> None:
        """Values of the run became others: what it makes from now on need not belong to what it made before."""
        self._origin = new_origin()
        self._origins.add(self._origin)

    def origin(self) -> str:
        """What marks the results that the run makes or finds from now on: those of one origin belong together."""
        if self.graph.ambiguous:
            self.begin_anew()  # two nodes of one recipe may have two results, of which the store keeps one
        return self._origin

    def attempt_id(self) -> str:
        """Unique among all attempts ever made; begins with the origin."""
        return f"{self.origin()}{next(self._attempts):x}"

    def made_earlier(self, record: ResultRecord) -> bool:
        """Whether an earlier attempt of this run made a result: nobody has to refresh it once more."""
        made_now = origin_of(record.attempt) in self._origins
        return bool(self._run_id) and record.producer.run_id == self._run_id and not made_now

    def outdated(self, id: int) -> bool:
        """Whether the node's key was computed from inputs that were made again since."""
        progress = self.progress[id]
        return progress.key is not None and progress.key_age != self.age(id)

    def note_hit(self, id: int) -> None:
        """The plan found the node's result."""
        answer = self.planner.steps[id].answer
        assert isinstance(answer, Hit)
        self.results[id] = Result(answer.digest, answer.record, None, answer.expires)

    def usual_seconds(self, id: int) -> float:
        """How long calls of the node's task took, at the longest, as far as this run has seen: its hits, what it ran,
        and an earlier result of this very node."""
        task = self.graph.nodes[id].entry.task.identity
        if self._took is None:
            self._took = {}
            for other, step in list(self.planner.steps.items()):
                self.took(other, getattr(step.answer, "seconds", None))
        return self._took.get(task, 0.0)

    def took(self, id: int, seconds: float | None) -> None:
        """A call of the node's task took so long."""
        if self._took is not None and seconds is not None:
            task = self.graph.nodes[id].entry.task.identity
            self._took[task] = max(self._took.get(task, 0.0), seconds)

    def there(self, id: int) -> bool:
        """Whether the node's value can be had."""
        result = self.results.get(id)
        return result is not None and result.there

    def absent(self, id: int) -> list[int]:
        """Inputs of the node whose values cannot be had (any more)."""
        return [dep for dep in self.graph.nodes[id].deps if not self.there(dep)]

    def input(self, id: int, consumer: int) -> Input:
        """Where a consumer finds the node's value."""
        result = self.results.get(id) or Result()  # of a node of the same bundle: filled in on the worker
        store, shared = self.graph.nodes[id].entry.task.options.result_storage, self._uses.get(id, 0) > 1
        sole = self._is_sole(id, consumer)
        return Input(result.digest, result.record, store, result.handle, shared, sole, result.part_of)

    def _is_sole(self, id: int, consumer: int) -> bool:
        """Whether one attempt of the consumer is the last that anybody sees of the node's value."""
        if self._uses.get(id, 0) != 1 or self.held(id) or self.graph.used_from(id, self.planned):
            return False  # in this order: only who holds a future of it can use it in a new node
        node = self.graph.nodes[consumer]
        # A cached one may find its generation closed when it has run, and run again.
        return not node.cached and not node.entry.task.options.retries

    def wanted(self, id: int) -> bool:
        """Whether anybody may still ask for the node's value."""
        return bool(self._uses.get(id)) or self.held(id) or self.graph.used_from(id, self.planned)

    def wanted_beyond(self, id: int, inner: int) -> bool:
        """Whether anybody may still ask for the node's value, besides so many nodes of its own bundle."""
        return self._uses.get(id, 0) > inner or self.held(id) or self.graph.used_from(id, self.planned)

    def inputs_used(self, id: int) -> list[Any]:
        """The node is over: handles of inputs that nobody needs any more."""
        deps = self.graph.nodes[id].deps
        for dep in deps:
            self._uses[dep] -= 1
        handles = self.let_go(deps) if deps else []
        return handles + self._large_used(id) if self.graph.large else handles

    def _large_needed(self, id: int) -> None:
        for large in self.graph.large.get(id, ()):
            large.uses += 1
            if large in self._idle:
                self._idle_bytes -= self._idle.pop(large)

    def _large_used(self, id: int) -> list[Any]:
        """Handles of the large arguments that have been idle for longest, if there are many now."""
        for large in self.graph.large.get(id, ()):
            large.uses -= 1
            if not large.uses and large.handle is not None:
                self._idle[large] = large.size
                self._idle_bytes += large.size
        handles = []
        while self._idle_bytes > IDLE_BYTES:
            oldest = next(iter(self._idle))
            self._idle_bytes -= self._idle.pop(oldest)
            handles.append(oldest.handle)
            oldest.handle = None
        return handles

    def let_go(self, ids: Iterable[int]) -> list[Any]:
        """Handles of those values that nobody can ask for any more, forgotten here."""
        handles = []
        for id in ids:
            result = self.results.get(id)
            if result is not None and result.handle is not None and not self.wanted(id):
                handles.append(result.handle)
                result.handle = None
        return handles

    def let_all_go(self) -> list[Any]:
        """The handles of all values, forgotten here: the run is over."""
        handles = [result.handle for result in self.results.values() if result.handle is not None]
        for result in self.results.values():
            result.handle = None
        handles += [large.handle for large in self._idle]
        self._idle.clear()
        return handles

    def over(self, id: int) -> bool:
        """Whether the node was decided and is done, failed or skipped. From any thread."""
        step = self.planner.steps.get(id)
        return step is not None and step.status is not Status.PRUNED and self.scheduler.over(id)

    def error(self, id: int) -> BaseException | None:
        """Why the node has no value, if it failed or was skipped. From any thread."""
        progress = self.progress.get(id)
        return progress.error if progress is not None else None
