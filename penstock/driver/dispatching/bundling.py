"""Bundling: grouping nodes, because an engine's overhead per task far exceeds the duration of small tasks.

A bundle consists of ready nodes and of nodes that need nothing but these: a chain, or a small subtree. Its size depends
on how long nodes of each task took so far: it aims at `seconds`, but takes at most a fair share of the remaining work,
so that workers finish together, and at least as long as the engine's overhead. Tasks without timings travel alone, or
as the next link of a chain.
"""

from __future__ import annotations

import heapq

from penstock.driver.dispatching.fusion import Fusion
from penstock.driver.state.run_state import RunState
from penstock.driver.state.transitions import State
from penstock.graph.graphs import Entry, Node
from penstock.worker.messages import Bundle

UNTIMED_SECONDS = 0.01
"""The assumed duration of a node at the end of a chain whose task was never timed."""
LONG_SHARE = 0.5
"""A node that takes more than this share of a bundle's time travels alone."""
LEAST_SECONDS = 0.005
"""A bundle is filled up to this duration in any case: an engine's overhead is similar (2 to 5 ms in Dask and Ray)."""
MOST_BYTES = 16 * 2**20
"""The most bytes of arguments and inputs in a bundle when it is sent: a driver holds several bundles at a time, and
each exists more than once on its way."""
NEWEST_WEIGHT = 0.3
"""The weight of the newest timing of a task in its average."""
CAUTION = 2.0
"""The estimate for a node is the task's average plus this many times its deviation, so that one slow node does not
delay many others."""


class Bundler:
    """Chooses the bundles of one run and learns from their durations."""

    def __init__(self, run: RunState, *, fusion: Fusion, seconds: float, most: int) -> None:
        """`seconds` is the target duration of a bundle; 0 gives every node its own. `most` limits its nodes."""
        self._run = run
        self._fusion = fusion
        self._seconds = seconds
        self._most = most
        self._pace: dict[Entry, _Pace] = {}
        self._weights: dict[Entry, float] = {}

    def learn(self, node: Node, seconds: float) -> None:
        """Record how long a worker was busy with a node."""
        pace = self._pace.get(node.entry)
        if pace is None:
            self._pace[node.entry] = _Pace(seconds)
        else:
            pace.learn(seconds)

    def weigh(self, bundle: Bundle, size: int) -> None:
        """Record the size of a submitted bundle in bytes."""
        if size and len({call.task for call in bundle.calls}) == 1:
            entry = self._run.graph.nodes[bundle.calls[0].node].entry
            self._weights[entry] = size / len(bundle.calls)

    def _most_of(self, id: int) -> int:
        """Return how many calls like this one may travel together."""
        weight = self._weights.get(self._run.graph.nodes[id].entry, 0.0) if self._weights else 0.0
        return min(self._most, max(1, int(MOST_BYTES / weight))) if weight else self._most

    def choose(self, first: int, waiting: list[int], workers: float) -> list[int]:
        """Return a bundle that starts with node `first`. Ready nodes that join it are removed from the heap `waiting`.

        Nodes are in topological order.
        """
        time = self._time(first)
        chosen = [first]
        if self.alone(first) or self._run.ages.unsettled:
            return chosen
        share = int((len(waiting) + 1) / (2 * workers))
        inside = {first}
        own: set[str] = set()
        filled = self._extend(chosen, inside, own, 0, time or UNTIMED_SECONDS, workers)
        heads, most = 1, self._most_of(first)
        while (
            time is not None
            and waiting
            and filled < self._seconds
            and len(chosen) < most
            and (heads < share or filled < LEAST_SECONDS)
        ):
            following = self._time(waiting[0])
            if following is None or self._solitary(waiting[0]) or filled + following > self._seconds:
                break
            start, most = len(chosen), min(most, self._most_of(waiting[0]))
            if start >= most:
                break
            chosen.append(heapq.heappop(waiting))
            inside.add(chosen[-1])
            filled = self._extend(chosen, inside, own, start, filled + following, workers)
            heads += 1
        return chosen

    def alone(self, id: int) -> bool:
        """Return whether the node must travel by itself."""
        time = self._time(id)
        long = time is not None and time > self._seconds * LONG_SHARE
        return self._seconds <= 0 or long or self._solitary(id)

    def _extend(
        self, chosen: list[int], inside: set[int], own: set[str], start: int, filled: float, workers: float
    ) -> float:
        """Add nodes that need only nodes of the bundle while there is time. Return the bundle's duration."""
        scheduler = self._run.scheduler
        position = start
        while position < len(chosen) and len(chosen) < self._most:
            waiting = scheduler.dependents(chosen[position])
            position += 1
            if not waiting:
                continue
            dependents = dict.fromkeys(waiting)
            if len(dependents) > max(1.0, workers):
                continue  # more than one for each worker: spread them
            for id in dependents:
                time = self._time(id)
                short = time is not None
                if time is None:
                    time = UNTIMED_SECONDS if len(dependents) == 1 else self._seconds
                if filled + time > self._seconds or id in inside:
                    continue
                if scheduler.state(id) is not State.WAITING or self._solitary(id):
                    continue
                if self._needs_only(id, inside) and self._may_join(id, inside, own, short):
                    self._run.join(id)
                    inside.add(id)
                    chosen.append(id)
                    filled += time
        return filled

    def _may_join(self, id: int, inside: set[int], own: set[str], short: bool) -> bool:
        # For a cached node, the driver must know the key, or know that no other node is computing it.
        return not self._run.graph.nodes[id].cached or self._fusion.may_join(id, inside, own, short=short)

    def _needs_only(self, id: int, inside: set[int]) -> bool:
        """Return whether the node could run once the bundle's nodes are done."""
        run = self._run
        if run.scheduler.waits(id) > len(inside):
            return False  # avoids checking all of a thousand inputs with each of them
        waits_for_none = all(n in inside or run.scheduler.over(n) for n in run.needs_of(id))
        return waits_for_none and all(d in inside or run.values.there(d) for d in run.graph.nodes[id].deps)

    def _solitary(self, id: int) -> bool:
        options = self._run.graph.nodes[id].entry.task.options
        return self._run.progress[id].alone or options.timeout_seconds is not None or options.resources is not None

    def _time(self, id: int) -> float | None:
        pace = self._pace.get(self._run.graph.nodes[id].entry)
        return None if pace is None else pace.seconds + CAUTION * pace.deviation


class _Pace:
    """A moving average of the durations of a task's nodes."""

    __slots__ = ("deviation", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.deviation = 0.0

    def learn(self, seconds: float) -> None:
        away = seconds - self.seconds
        self.seconds += NEWEST_WEIGHT * away
        self.deviation += NEWEST_WEIGHT * (abs(away) - self.deviation)
