"""The state of a run's nodes. All changes of a node's state or progress are methods of this module.

Other parts decide, and report what happened by calling one of these methods; they may read everything. Used by the
driver's thread only, unless stated otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from penstock.driver.state.history import Ages, Cohorts, Durations
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
        """`held(node)` returns whether a future of the node exists, so that its value may still be requested."""
        self.graph = graph
        self.now = Moment(0.0, 0.0)
        """The time of the event that is being handled."""
        self.planner = Planner(graph)
        self.scheduler = Scheduler()
        self.values = Values(graph, held)
        self.results = self.values.results
        self.off_recipe: set[int] = set()
        """Nodes whose values are none of their recipes; see `follows_recipe`."""
        self.progress: dict[int, Progress] = {}
        """The progress of nodes that run, until they have their value."""
        self.outcomes: dict[int, Literal["executed", "hit", "failed"]] = {}
        self.counts = {"contended": 0, "retried": 0}
        self.limited_tags: frozenset[str] = frozenset()
        """The tags with a limit or a rate, as far as is known."""
        self.ages = Ages(graph)
        self.durations = Durations(graph, self.planner)
        self.handed_out: set[int] = set()
        """The nodes whose values the flow has seen. Added by the flow's thread."""
        self.cohorts = Cohorts(graph, run_id)

    # -- reading --------------------------------------------------------------------------------------------------

    def name(self, id: int) -> str:
        """Return the name of the node's task."""
        return self.graph.nodes[id].entry.task.name

    def needs_of(self, id: int) -> tuple[int, ...]:
        """Return the nodes that must be over before this one may run."""
        node = self.graph.nodes[id]
        return node.deps + node.order

    def over(self, id: int) -> bool:
        """Return whether the node was decided and is done, failed or skipped. From any thread."""
        step = self.planner.steps.get(id)
        return step is not None and step.status is not Status.PRUNED and self.scheduler.over(id)

    def error(self, id: int) -> BaseException | None:
        """Return the error of a node that failed or was skipped, else None. From any thread."""
        progress = self.progress.get(id)
        return progress.error if progress is not None else None

    def failed_nodes(self) -> list[int]:
        """Return the nodes whose own call failed, lowest number first. From any thread."""
        state = self.scheduler.state
        return sorted(n for n, p in list(self.progress.items()) if p.error is not None and state(n) is State.FAILED)

    def made_of_others(self, id: int) -> bool:
        """Return whether inputs of the node changed since its attempt was submitted."""
        return self.progress[id].changes != self.ages.changes_of_inputs(id)

    def outdated(self, id: int) -> bool:
        """Return whether inputs of the node were recomputed or changed since its key was computed."""
        progress = self.progress[id]
        return progress.key is not None and progress.key_age != self.ages.of_inputs(id)

    def waited(self, id: int, seconds: float) -> bool:
        """Return whether the node has been parked for this many seconds."""
        since = self.progress[id].parked_since
        return since is not None and self.now.monotonic - since >= seconds

    # -- writing: planning ----------------------------------------------------------------------------------------

    def limits_are(self, tags: Iterable[str]) -> None:
        """Set the tags that have a limit or a rate."""
        self.limited_tags = frozenset(tags)

    def revised(self, changed: Iterable[int]) -> None:
        """Record that values of these nodes changed, so that later results may not belong to earlier ones."""
        self.ages.changed(changed)
        self.cohorts.begin_anew()

    def note_hit(self, id: int, hit: Hit) -> None:
        """Record the stored result that the plan found for a node."""
        self.results[id] = Result(hit.digest, hit.record, None, hit.expires)

    def take_hit_back(self, id: int) -> None:
        """Revoke a node's hit, which does not agree with the run's other values."""
        if self.planner.steps[id].runs and id not in self.scheduler:
            self.results.pop(id, None)

    def needed(self, id: int) -> list[int]:
        """Make a node run. Return the nodes that never will because a dependency failed: at most this one."""
        node = self.graph.nodes[id]
        progress = self._begin(id)
        progress.looked_up = progress.key is not None and not node.entry.refresh
        return self.scheduler.add(id, self.needs_of(id), node.entry.task.identity)

    def follows_recipe(self, id: int) -> bool:
        """Return whether a value is one of the node's recipe: no file above has changed, and no input is refreshed."""
        deps, graph = self.graph.nodes[id].deps, self.graph
        if not self.off_recipe.isdisjoint(deps) or (graph.ambiguous and any(map(graph.is_superseded, deps))):
            return False
        return not graph.depends_on_files(id) or all(d in self.results for d in deps if graph.depends_on_files(d))

    def made_again(self, id: int, reason: str, *, compare: bool) -> list[int]:
        """Make a node run again because its value is unusable. Return the nodes that never will run.

        With `compare`, its progress keeps the earlier value, so that the new one is compared with it.
        """
        before = self.results.pop(id, None)
        self.ages.recomputed(id)
        self.planner.revive(id, reason)
        self._begin(id).before = before if compare else None
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

    # -- writing: admission ---------------------------------------------------------------------------------------

    def take_ready(self) -> list[int]:
        """Take all nodes that may be decided now, lowest number first."""
        return self.scheduler.take_ready()

    def key_found(self, id: int) -> str | None:
        """Compute the key of a node whose inputs are available. Return None if only the worker can."""
        progress = self.progress[id]
        if progress.key is None:
            progress.key = self.planner.content_key(self.graph.nodes[id])
            progress.key_age = self.ages.of_inputs(id)
        return progress.key

    def key_forgotten(self, id: int) -> None:
        """Discard the key of a node whose inputs are recomputed."""
        progress = self.progress[id]
        progress.key, progress.looked_up = self.graph.nodes[id].cache_key, False

    def looked_up(self, id: int) -> None:
        """Record that the node's key was looked up."""
        self.progress[id].looked_up = True

    def must_not_use(self, id: int, generation: int | None) -> None:
        """Record a generation of the node's result that is damaged or must be refreshed."""
        self.progress[id].seen = generation

    def leased(self, id: int, held: bool) -> None:
        """Record whether the node has the lock of its key."""
        self.progress[id].leased = held

    def park(self, id: int) -> None:
        """Park a node that waits for another node of this run or for an answer. Its time does not count."""
        self.scheduler.move(id, Move.PARKED)

    def park_behind(self, id: int) -> bool:
        """Park a node that waits for others. Return whether it was not waiting before."""
        self.scheduler.move(id, Move.PARKED)
        progress = self.progress[id]
        first = progress.parked_since is None
        if first:
            progress.parked_since = self.now.monotonic
        return first

    def told_of(self, id: int, holder: tuple[str, int]) -> bool:
        """Return whether the node's wait for this holder is not reported yet, and count it as reported."""
        progress = self.progress[id]
        news = progress.parked_on != holder
        progress.parked_on = holder
        return news

    def unpark(self, id: int) -> float | None:
        """Let a node continue. Return how long it waited for others, or None."""
        progress = self.progress[id]
        since = progress.parked_since
        if since is None:
            return None
        progress.parked_since, progress.parked_on = None, None
        return self.now.monotonic - since

    def wake(self, id: int, *, look_up: bool = True) -> bool:
        """Make a parked node ready again. Return False if it is not parked."""
        if self.scheduler.state(id) is not State.PARKED:
            return False
        if look_up:
            self.progress[id].looked_up = False
        self.scheduler.move(id, Move.WOKEN)
        return True

    def admit(self, id: int) -> None:
        """Queue a node that may run as soon as there is room."""
        self.scheduler.move(id, Move.ADMITTED)

    def decide_again(self, id: int, needs: Iterable[int]) -> list[int]:
        """Let a node wait for its needs and then be decided again. Return the nodes that never run."""
        return self.scheduler.wait_again(id, needs)

    # -- writing: attempts ----------------------------------------------------------------------------------------

    def join(self, id: int) -> None:
        """Submit a waiting node together with the nodes it waits for, or right behind them."""
        self.scheduler.move(id, Move.JOINED)

    def set_out(self, id: int) -> None:
        """Record the present ages of a node's inputs for an attempt that is being submitted."""
        progress = self.progress[id]
        progress.key_age = self.ages.of_inputs(id)  # whether the key is known now or computed on the worker
        progress.changes = self.ages.changes_of_inputs(id)

    def submitted(self, id: int) -> None:
        """Record that the engine has a node that was queued, or joined nodes that were."""
        if self.scheduler.state(id) is State.QUEUED:
            self.scheduler.move(id, Move.SUBMITTED)

    def travel_alone(self, id: int) -> None:
        """Give the node a bundle of its own in future attempts."""
        self.progress[id].alone = True

    def handed_back(self, id: int, key: str | None) -> list[int]:
        """Decide a node again whose call did not run, once it has its inputs. Return the nodes that never run."""
        progress = self.progress[id]
        progress.key, progress.looked_up = key or progress.key, False
        return self.scheduler.wait_again(id, self.needs_of(id))

    def worker_lost(self, id: int) -> int:
        """Record that the worker of an attempt died. Return how many times this happened."""
        self.progress[id].losses += 1
        return self.progress[id].losses

    def retry(self, id: int, delay: float) -> None:
        """Start another attempt, after a delay if there is one."""
        self.counts["retried"] += 1
        self.progress[id].attempt += 1
        self.scheduler.move(id, Move.DELAYED if delay > 0 else Move.RETRIED)

    def rested(self, id: int) -> None:
        """Make a node ready whose delay is over."""
        if self.scheduler.state(id) is State.RESTING:  # otherwise the run was cancelled
            self.scheduler.move(id, Move.RESTED)

    # -- writing: ends --------------------------------------------------------------------------------------------

    def has_value(self, id: int, result: Result, seconds: float | None) -> None:
        """Record a node's value, with `seconds` if it was just computed. Must be followed by `finished`."""
        self.results[id] = result
        self.planner.finished(id, result.digest)
        self.outcomes[id] = "hit" if seconds is None else "executed"
        self.durations.note(id, seconds)

    def finished(self, id: int) -> None:
        """Finish a node. Nodes that waited only for it become ready."""
        self.scheduler.finished(id)
        del self.progress[id]

    def fail(self, id: int, error: BaseException) -> list[int]:
        """Fail a node. Return the nodes that therefore never run."""
        self.progress[id].error = error
        self.outcomes[id] = "failed"
        return self.scheduler.failed(id)

    def skip(self, id: int, error: BaseException) -> None:
        """Set the error of a node that another method returned as one that never runs."""
        self.progress[id].error = error

    def stop(self, id: int, error: BaseException) -> None:
        """Stop a node of a cancelled run, and the nodes that need it."""
        for stopped in (id, *self.scheduler.failed(id, Move.STOPPED)):
            self.progress[stopped].error = error
