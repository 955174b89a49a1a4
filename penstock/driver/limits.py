"""Limits: a node whose task has a limited tag runs only while its driver holds one of the tag's permits.

A permit is a lock like any other: limits apply wherever the locks do, permits of a dead driver become free within its
lease, and a release wakes waiting nodes. A limit of 0 pauses a tag: its nodes are checked again from time to time.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Mapping

from penstock import events as log
from penstock.driver.events import Woken
from penstock.driver.instructions import Acquire, FindFree, InForce, Later, Out, Release, Steps, Tell, Watch
from penstock.driver.state.run_state import RunState
from penstock.locks.base import Lease
from penstock.worker.nesting import Nesting

_PREFIX = "penstock limit "
_PAUSED = "paused"
"""Replaces the permit's number for a paused tag, which has no permit to watch."""
PAUSE_SECONDS = 10.0
"""The interval at which paused tags are checked."""


class Limits:
    """The permits that the nodes of one driver hold or wait for."""

    def __init__(self, run: RunState, out: Out, *, rng: random.Random, around: Nesting | None = None) -> None:
        """`around` are the calls around a nested run, which runs under their permits."""
        self._run = run
        self._out = out
        self._rng = rng
        self._paused: set[str] = set()
        """Tags that will be checked again later."""
        self._around = around
        self._held: dict[int, tuple[str, ...]] = {}
        self._parked: dict[str, deque[int]] = {}

    def acquire(self, ids: Iterable[int], in_force: InForce) -> Steps[list[int]]:
        """Return the nodes that have all permits they need. The others are parked until one is free."""
        run = []
        wanted: dict[int, tuple[str, ...]] = {}
        for id in ids:
            tags = self._tags(id, in_force)
            if not tags or id in self._held:
                run.append(id)
            else:
                wanted[id] = tags
        if not wanted:
            return run
        granted = yield from self._acquire(wanted, in_force.at_once)
        return sorted(run + granted)

    def release(self, id: int) -> None:
        """Release the permits of a node whose attempt is over, and wake other nodes of this driver."""
        if id not in self._held:
            return
        for tag in self._held.pop(id):
            self._out.append(Release((id, tag), "abandoned"))
            self._resume(tag)

    def held(self) -> list[tuple[int, str]]:
        """Return the node and tag of every permit held."""
        return [(id, tag) for id, tags in self._held.items() for tag in tags]

    def clear(self) -> None:
        """Forget all waiting nodes."""
        self._parked.clear()
        self._paused.clear()

    def knows(self, key: str) -> bool:
        """Return whether a key is that of a permit."""
        return key.startswith(_PREFIX)

    def woken(self, key: str, in_force: InForce) -> None:
        """Wake the nodes that wait for a permit."""
        tag, _, permit = key.removeprefix(_PREFIX).rpartition(" ")
        if permit == _PAUSED:
            self._paused.discard(tag)
            self._try_paused(tag, in_force.at_once.get(tag))
        else:
            self._resume(tag)

    def _acquire(self, wanted: Mapping[int, tuple[str, ...]], limits: Mapping[str, int]) -> Steps[list[int]]:
        tags = {tag for tags in wanted.values() for tag in tags}
        free = yield FindFree({tag: _permits(tag, limits[tag]) for tag in sorted(tags) if limits[tag]})
        for keys in free.values():
            self._rng.shuffle(keys)  # so that contenders for the same few permits do not all begin with the first
        tried: dict[tuple[int, str], str] = {}
        for id, tags_of in wanted.items():
            full = next((tag for tag in tags_of if not free.get(tag)), None)
            if full is not None:
                self._park(id, full, limits[full])
            else:
                tried |= {(id, tag): free[tag].pop() for tag in tags_of}
        answers = (yield Acquire(None, tried)) if tried else {}
        granted = []
        for id in dict.fromkeys(id for id, _ in tried):
            refused = next((tag for tag in wanted[id] if not isinstance(answers[id, tag], Lease)), None)
            if refused is None:
                self._held[id] = wanted[id]
                granted.append(id)
                continue
            # All or none, so that a node that holds one kind of permit never waits for another.
            self._out.extend(Release((id, tag), "abandoned") for tag in wanted[id])
            self._park(id, refused, limits[refused])
        return granted

    def _park(self, id: int, tag: str, limit: int) -> None:
        run = self._run
        self._parked.setdefault(tag, deque()).append(id)
        if limit:
            self._out.append(Watch(_permits(tag, limit)))
        else:
            self._pause(tag)
        if run.park_behind(id):
            told = {"limit": f"{tag} ({f'{limit} at once' if limit else 'paused: its limit is 0'})"}
            event = log.NodeParked(at=run.now.at, node=id, task=run.name(id), key=_PREFIX + tag, holder=told)
            self._out.append(Tell(event))

    def _pause(self, tag: str) -> None:
        if tag not in self._paused:
            self._paused.add(tag)
            self._out.append(Later(PAUSE_SECONDS, Woken(f"{_PREFIX}{tag} {_PAUSED}")))

    def _try_paused(self, tag: str, limit: int | None) -> None:
        if limit == 0:
            self._pause(tag)
            return
        for _ in range(len(self._parked.get(tag, ())) if limit is None else limit):
            self._resume(tag)

    def _resume(self, tag: str) -> None:
        waiting = self._parked.get(tag)
        while waiting:
            if self._run.wake(waiting.popleft(), look_up=False):
                return

    def _tags(self, id: int, in_force: InForce) -> tuple[str, ...]:
        if not self._run.progress[id].limited:
            return ()
        tags = self._run.graph.nodes[id].entry.task.options.tags
        if self._around is not None:
            tags -= self._around.tags
        return tuple(sorted(tag for tag in tags if tag in in_force.at_once))


def _permits(tag: str, limit: int) -> list[str]:
    return [f"{_PREFIX}{tag} {number}" for number in range(limit)]
