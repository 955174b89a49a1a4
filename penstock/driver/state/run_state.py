"""What one run knows of its nodes. Everything that changes a node's state or progress is a method here, and only here.

Others decide, and say what happened by one of these methods; they read whatever they like. Touched by the driver's
thread only, except where it says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from penstock.driver.state.history import Durations, Origins
from penstock.driver.state.progress import Moment, Progress
from penstock.driver.state.scheduler import Scheduler
from penstock.driver.state.transitions import Move, State
from penstock.driver.state.values import Result, Values
from penstock.graph.graphs import Graph
from penstock.graph.planning import Planner
from penstock.graph.steps import Hit, Status


class RunState:
    """Nodes, their plan, their states, their progress and their values."""

    def __init__(self, graph: Graph, *, held: Callable[[int], bool], run_id: str = "") -> None:
        """`held(node)`: a future of the node is alive, so its value may still be asked for."""
        self.graph = graph
        self.now = Moment(0.0, 0.0)
        """When the event happened that is being handled."""
        self.planner = Planner(graph)
        self.scheduler = Scheduler()
        self.values = Values(graph, held)
        self.results = self.values.results
        self.progress: dict[int, Progress] = {}
        """Of nodes that run, until they have their value."""
        self.outcomes: dict[int, Literal["executed", "hit", "failed"]] = {}
        self.counts = {"contended": 0, "retried": 0}
        self.limited_tags: frozenset[str] = frozenset()
        """Tags of which only so many may run at once, or begin in a time, as far as is known."""
        self.remade: dict[int, int] = {}
        """Nodes whose value was lost and made again, and how often."""
        self.changes: dict[int, int] = {}
        """Nodes whose value became another one after others had used it, and how often."""
        self.durations = Durations(graph, self.planner)
        self.handed_out: set[int] = set()
        """Nodes whose values the flow has seen. Added to by its thread."""
        self.origins = Origins(graph, run_id)

    # -- what is known --------------------------------------------------------------------------------------------

    def name(self, id: int) -> str:
        """The name of the node's task."""
        return self.graph.nodes[id].entry.task.name

    def needs_of(self, id: int) -> tuple[int, ...]:
        """Everything that has to be over before the node may run."""
        node = self.graph.nodes[id]
        return node.deps + node.order

    def over(self, id: int) -> bool:
        """Whether the node was decided and is done, failed or skipped. From any thread."""
        step = self.planner.steps.get(id)
        return step is not None and step.status is not Status.PRUNED and self.scheduler.over(id)

    def error(self, id: int) -> BaseException | None:
        """Why the node has no value, if it failed or was skipped. From any thread."""
        progress = self.progress.get(id)
        return progress.error if progress is not None else None

    def failed_nodes(self) -> list[int]:
        """Nodes whose own call failed, lowest number first. From any thread, after the run."""
        state = self.scheduler.state
        return sorted(n for n, p in self.progress.items() if p.error is not None and state(n) is State.FAILED)

    def age(self, id: int) -> int:
        """How often inputs of the node were made again: another age may mean other values, and another key."""
        return sum(self.remade.get(d, 0) for d in self.graph.nodes[id].deps) if self.remade else 0

    def inputs_age(self, id: int) -> int:
        """How often inputs of the node became others: what was made at another age was made from other values."""
        return sum(self.changes.get(d, 0) for d in self.graph.nodes[id].deps) if self.changes else 0

    def made_of_others(self, id: int) -> bool:
        """Whether inputs of the node became others since its attempt was handed over."""
        return bool(self.changes) and self.progress[id].inputs_age != self.inputs_age(id)

    def outdated(self, id: int) -> bool:
        """Whether the node's key was computed from inputs that were made again since."""
        progress = self.progress[id]
        return progress.key is not None and progress.key_age != self.age(id)

    def waited(self, id: int, seconds: float) -> bool:
        """Whether the node has been parked for so long."""
        since = self.progress[id].parked_since
        return since is not None and self.now.monotonic - since >= seconds

    # -- what happened to a node: its result is planned -----------------------------------------------------------

    def limits_are(self, tags: Iterable[str]) -> None:
        """These tags are limited now."""
        self.limited_tags = frozenset(tags)

    def revised(self, changed: Iterable[int]) -> None:
        """Values of these nodes became others: what is made from now on need not belong to what was made before."""
        for id in changed:
            self.changes[id] = self.changes.get(id, 0) + 1
        self.origins.begin_anew()

    def note_hit(self, id: int, hit: Hit) -> None:
        """The plan found the node's result."""
        self.results[id] = Result(hit.digest, hit.record, None, hit.expires)

    def take_hit_back(self, id: int) -> None:
        """The node's hit does not belong to what else the run has."""
        if self.planner.steps[id].runs and id not in self.scheduler:
            self.results.pop(id, None)

    def needed(self, id: int) -> list[int]:
        """The node has to run. Returns what never will, as something it needs has failed: itself at most."""
        node = self.graph.nodes[id]
        progress = self._begin(id)
        progress.looked_up = progress.key is not None and not node.entry.refresh
        return self.scheduler.add(id, self.needs_of(id), node.entry.task.identity)

    def made_again(self, id: int, reason: str) -> list[int]:
        """The node's value is of no use: it has to run (again). Returns what never will."""
        self.results.pop(id, None)
        self.remade[id] = self.remade.get(id, 0) + 1
        self.planner.revive(id, reason)
        self._begin(id)
        if id in self.scheduler:
            return self.scheduler.reopen(id, self.needs_of(id))
        return self.scheduler.add(id, self.needs_of(id), self.graph.nodes[id].entry.task.identity)

    def _begin(self, id: int) -> Progress:
        node = self.graph.nodes[id]
        tags = node.entry.task.options.tags
        limited = bool(tags) and not tags.isdisjoint(self.limited_tags)
        progress = self.progress[id] = Progress(key=node.cache_key, limited=limited, alone=limited)
        self.values.use_inputs(id)
        return progress

    # -- it is being decided --------------------------------------------------------------------------------------

    def take_ready(self) -> list[int]:
        """All nodes that may be decided now, lowest number first."""
        return self.scheduler.take_ready()

    def key_found(self, id: int) -> str | None:
        """The node's inputs are there: its key, if that can be known here."""
        progress = self.progress[id]
        if progress.key is None:
            progress.key, progress.key_age = self.planner.content_key(self.graph.nodes[id]), self.age(id)
        return progress.key

    def key_forgotten(self, id: int) -> None:
        """The node's key may be another one once its inputs are made again."""
        progress = self.progress[id]
        progress.key, progress.looked_up = self.graph.nodes[id].cache_key, False

    def looked_up(self, id: int) -> None:
        """The store has said what it knows of the node's key."""
        self.progress[id].looked_up = True

    def must_not_use(self, id: int, generation: int | None) -> None:
        """A stored result of the node is damaged, or is to be refreshed."""
        self.progress[id].seen = generation

    def leased(self, id: int, held: bool) -> None:
        """The node has the lock of its key now, or lets it go."""
        self.progress[id].leased = held

    def park(self, id: int) -> None:
        """The node waits for somebody in this run, or for an answer: no time is counted."""
        self.scheduler.move(id, Move.PARKED)

    def park_behind(self, id: int) -> bool:
        """The node waits for others; True if it did not do so before."""
        self.scheduler.move(id, Move.PARKED)
        progress = self.progress[id]
        first = progress.parked_since is None
        if first:
            progress.parked_since = self.now.monotonic
        return first

    def told_of(self, id: int, holder: tuple[str, int]) -> bool:
        """Whether it is news that the node waits for this holder."""
        progress = self.progress[id]
        news = progress.parked_on != holder
        progress.parked_on = holder
        return news

    def unpark(self, id: int) -> float | None:
        """The node goes on: for how long it waited for others, if it did."""
        progress = self.progress[id]
        since = progress.parked_since
        if since is None:
            return None
        progress.parked_since, progress.parked_on = None, None
        return self.now.monotonic - since

    def wake(self, id: int, *, look_up: bool = True) -> bool:
        """Whoever the node waits for is done, or may be; False if it does not wait (any more)."""
        if self.scheduler.state(id) is not State.PARKED:
            return False
        if look_up:
            self.progress[id].looked_up = False
        self.scheduler.move(id, Move.WOKEN)
        return True

    def admit(self, id: int) -> None:
        """Nothing is in the node's way but room."""
        self.scheduler.move(id, Move.ADMITTED)

    def decide_again(self, id: int, needs: Iterable[int]) -> list[int]:
        """The node waits for what it needs, and is decided anew then. Returns what never runs."""
        return self.scheduler.wait_again(id, needs)

    # -- it is under way ------------------------------------------------------------------------------------------

    def join(self, id: int) -> None:
        """The node, which waits, travels with what it waits for, or right behind."""
        self.scheduler.move(id, Move.JOINED)

    def set_out(self, id: int) -> None:
        """An attempt of the node is being handed over: what its inputs are now."""
        progress = self.progress[id]
        progress.key_age = self.age(id)  # of the key, whether it is known now or computed on the worker
        progress.inputs_age = self.inputs_age(id)

    def submitted(self, id: int) -> None:
        """The engine has the node, which was queued (or joined those that were)."""
        if self.scheduler.state(id) is State.QUEUED:
            self.scheduler.move(id, Move.SUBMITTED)

    def travel_alone(self, id: int) -> None:
        """From now on the node is in a bundle of its own."""
        self.progress[id].alone = True

    def handed_back(self, id: int, key: str | None) -> list[int]:
        """The call did not run: decided again once its inputs are there. Returns what never runs."""
        progress = self.progress[id]
        progress.key, progress.looked_up = key or progress.key, False
        return self.scheduler.wait_again(id, self.needs_of(id))

    def worker_lost(self, id: int) -> int:
        """The worker died under the node's attempt; how often that happened by now."""
        self.progress[id].losses += 1
        return self.progress[id].losses

    def retry(self, id: int, delay: float) -> None:
        """The attempt did not succeed: there is another one."""
        self.counts["retried"] += 1
        self.progress[id].attempt += 1
        self.scheduler.move(id, Move.DELAYED if delay > 0 else Move.RETRIED)

    def rested(self, id: int) -> None:
        """The delay before the next attempt is over."""
        if self.scheduler.state(id) is State.RESTING:  # else the run was cancelled
            self.scheduler.move(id, Move.RESTED)

    # -- it is over -----------------------------------------------------------------------------------------------

    def has_value(self, id: int, result: Result, seconds: float | None) -> None:
        """The node's value can be had; `seconds` if it was computed just now. To be followed by `finished`."""
        self.results[id] = result
        self.planner.finished(id, result.digest)
        self.outcomes[id] = "hit" if seconds is None else "executed"
        self.durations.note(id, seconds)

    def finished(self, id: int) -> None:
        """The node is done: what waited only for it becomes ready."""
        self.scheduler.finished(id)
        del self.progress[id]

    def fail(self, id: int, error: BaseException) -> list[int]:
        """The node has no value and will not get one. Returns what therefore never runs."""
        self.progress[id].error = error
        self.outcomes[id] = "failed"
        return self.scheduler.failed(id)

    def skip(self, id: int, error: BaseException) -> None:
        """The node, of which a method here said that it never runs: why."""
        self.progress[id].error = error

    def stop(self, id: int, error: BaseException) -> None:
        """The run is cancelled: the node, and what needs it, are over."""
        for stopped in (id, *self.scheduler.failed(id, Move.STOPPED)):
            self.progress[stopped].error = error
