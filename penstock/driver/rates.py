"""Rates: a node whose task has a tag with a rate needs one of the period's starts to run.

A start is used when the node is submitted, whatever comes of it; each attempt takes one. If there is none left, the
node is parked until the next period begins and holds no permit meanwhile.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Mapping

from penstock import events as log
from penstock.driver.events import Woken
from penstock.driver.instructions import InForce, Later, Out, Steps, TakeStarts, Tell
from penstock.driver.state.run_state import RunState
from penstock.limits.rates import Rate

_PREFIX = "penstock rate "
_JITTER = 0.05
"""A fraction of the period, so that drivers do not all start at the same time."""


class Rates:
    """The starts that the nodes of one driver use or wait for."""

    def __init__(self, run: RunState, out: Out, *, rng: random.Random) -> None:
        self._run = run
        self._out = out
        self._rng = rng
        self._parked: dict[str, deque[int]] = {}

    def use(self, ids: list[int], in_force: InForce) -> Steps[tuple[list[int], list[int]]]:
        """Return the nodes that may start now, and those that were parked."""
        wanted = {id: rates for id in ids if (rates := self._rates(id, in_force))}
        lacking = (yield TakeStarts(wanted)) if wanted else {}
        parked = {id: tag for id, tag in lacking.items() if tag is not None}
        for id, tag in parked.items():
            self._park(id, tag, in_force.rates[tag])
        return [id for id in ids if id not in parked], list(parked)

    def clear(self) -> None:
        """Forget all waiting nodes."""
        self._parked.clear()

    def knows(self, key: str) -> bool:
        """Return whether a key is that of a rate."""
        return key.startswith(_PREFIX)

    def woken(self, key: str, in_force: InForce) -> None:
        """Wake nodes at the start of a period."""
        tag = key.removeprefix(_PREFIX)
        waiting, rate = self._parked.get(tag, deque()), in_force.rates.get(tag)
        # No more nodes than can start, since there may be ten thousand.
        left = len(waiting) if rate is None else rate.starts
        while waiting and left:
            left -= self._run.wake(waiting.popleft(), look_up=False)
        if waiting and rate is not None:
            self._wake(tag, rate)

    def _park(self, id: int, tag: str, rate: Rate) -> None:
        run = self._run
        waiting = self._parked.setdefault(tag, deque())
        if not waiting:
            self._wake(tag, rate)
        waiting.append(id)
        if run.park_behind(id):
            told = {"limit": f"{tag} ({rate})"}
            event = log.NodeParked(at=run.now.at, node=id, task=run.name(id), key=_PREFIX + tag, holder=told)
            self._out.append(Tell(event))

    def _wake(self, tag: str, rate: Rate) -> None:
        """Wake the nodes that wait for the tag when the next period begins."""
        seconds = rate.seconds_left(self._run.now.at)
        jitter = self._rng.uniform(0.0, _JITTER * min(rate.seconds, 10.0))
        self._out.append(Later(seconds + jitter, Woken(_PREFIX + tag)))

    def _rates(self, id: int, in_force: InForce) -> Mapping[str, Rate]:
        if not self._run.progress[id].limited:
            return {}
        tags: Iterable[str] = sorted(self._run.graph.nodes[id].entry.task.options.tags)
        return {tag: in_force.rates[tag] for tag in tags if tag in in_force.rates}
