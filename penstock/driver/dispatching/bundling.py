"""Bundling: which nodes travel together. Engines cost far more per task than a small task takes.

A bundle is several ready nodes, each with those that need nothing else: a chain, a small subtree. How many is
decided by how long nodes of each task took so far: a bundle aims at `seconds`, and holds no more than a fair share of
what is left, so that workers finish together; but always as much as an engine takes to carry it. A task nobody has
timed yet travels alone, or as a chain's next link.
"""

from __future__ import annotations

import heapq

from penstock.driver.dispatching.fusion import Fusion
from penstock.driver.state.run_state import RunState
from penstock.driver.state.transitions import State
from penstock.graph.graphs import Entry, Node
from penstock.worker.messages import Bundle

UNTIMED_SECONDS = 0.01
"""What a node of a task that was never timed is taken for at the end of a chain."""
LONG_SHARE = 0.5
"""A node that takes more than this share of a bundle's time travels alone."""
LEAST_SECONDS = 0.005
"""A bundle is filled up to this whatever its share: to carry it costs an engine as much (2 to 5 ms in Dask and Ray)."""
MOST_BYTES = 16 * 2**20
"""Calls join a bundle as long as their arguments and inputs are not more than this when they travel: a driver holds
several bundles at a time, and each is held more than once on its way."""
NEWEST_WEIGHT = 0.3
"""How much the newest timing of a task counts beside what was known."""
CAUTION = 2.0
"""A node is taken to need the task's usual time and so many times its usual deviation: where times vary much, one slow
node must not hold up many others."""


class Bundler:
    """Chooses bundles for one run and learns from what they took."""

    def __init__(self, run: RunState, *, fusion: Fusion, seconds: float, most: int) -> None:
        """`seconds` is what a bundle aims at; 0 puts every node into a bundle of its own. It holds `most` nodes."""
        self._run = run
        self._fusion = fusion
        self._seconds = seconds
        self._most = most
        self._pace: dict[Entry, _Pace] = {}
        self._weights: dict[Entry, float] = {}

    def learn(self, node: Node, seconds: float) -> None:
        """A worker was busy with the node for so long."""
        pace = self._pace.get(node.entry)
        if pace is None:
            self._pace[node.entry] = _Pace(seconds)
        else:
            pace.learn(seconds)

    def weigh(self, bundle: Bundle, size: int) -> None:
        """The bundle was submitted, and travels as so many bytes."""
        if size and len({call.task for call in bundle.calls}) == 1:
            entry = self._run.graph.nodes[bundle.calls[0].node].entry
            self._weights[entry] = size / len(bundle.calls)

    def _most_of(self, id: int) -> int:
        """How many calls like this one may travel together."""
        weight = self._weights.get(self._run.graph.nodes[id].entry, 0.0) if self._weights else 0.0
        return min(self._most, max(1, int(MOST_BYTES / weight))) if weight else self._most

    def choose(self, first: int, waiting: list[int], workers: float) -> list[int]:
        """The bundle that begins with node `first`; the ready nodes that join it are taken from the heap `waiting`.

        Each node comes after those of the bundle that it needs.
        """
        time = self._time(first)
        chosen = [first]
        if self.alone(first) or self._run.remade:
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
        """Whether the node travels by itself in any case."""
        time = self._time(id)
        long = time is not None and time > self._seconds * LONG_SHARE
        return self._seconds <= 0 or long or self._solitary(id)

    def _extend(
        self, chosen: list[int], inside: set[int], own: set[str], start: int, filled: float, workers: float
    ) -> float:
        """Add what needs nothing but nodes of the bundle, as long as there is time; returns the time it fills."""
        scheduler = self._run.scheduler
        position = start
        while position < len(chosen) and len(chosen) < self._most:
            waiting = scheduler.dependents(chosen[position])
            position += 1
            if not waiting:
                continue
            dependents = dict.fromkeys(waiting)
            if len(dependents) > max(1.0, workers):
                continue  # more than one for each worker: better spread over them
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
        # Of a cached node the driver has to know the key, since another may be computing it, or know that none is.
        return not self._run.graph.nodes[id].cached or self._fusion.may_join(id, inside, own, short=short)

    def _needs_only(self, id: int, inside: set[int]) -> bool:
        """Whether the node could run once the bundle's nodes are done."""
        run = self._run
        needs = len(run.graph.nodes[id].deps) + len(run.graph.nodes[id].order)
        if needs > len(inside) and run.scheduler.waits(id) > len(inside):
            return False  # of a thousand inputs not all need be looked at with each of them
        waits_for_none = all(n in inside or run.scheduler.over(n) for n in run.needs_of(id))
        return waits_for_none and all(d in inside or run.values.there(d) for d in run.graph.nodes[id].deps)

    def _solitary(self, id: int) -> bool:
        options = self._run.graph.nodes[id].entry.task.options
        return self._run.progress[id].alone or options.timeout_seconds is not None or options.resources is not None

    def _time(self, id: int) -> float | None:
        pace = self._pace.get(self._run.graph.nodes[id].entry)
        return None if pace is None else pace.seconds + CAUTION * pace.deviation


class _Pace:
    """How long nodes of a task take, the last ones counting most."""

    __slots__ = ("deviation", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.deviation = 0.0

    def learn(self, seconds: float) -> None:
        away = seconds - self.seconds
        self.seconds += NEWEST_WEIGHT * away
        self.deviation += NEWEST_WEIGHT * (abs(away) - self.deviation)
