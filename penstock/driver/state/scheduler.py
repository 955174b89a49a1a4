"""The scheduler: the state of each node, and the nodes it waits for. Pure: events in, node numbers out.

`transitions.py` defines the states and moves; this module determines which nodes become ready and which never run.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from penstock.driver.state.transitions import OVER, Move, State


class _Work:
    """A node's state. Invariant: `waits` is the number of times the node is among the `dependents` of others."""

    __slots__ = ("dependents", "kind", "state", "waits")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.state = State.WAITING
        self.waits = 0
        self.dependents: list[int] | tuple[()] = ()  # most nodes have none, and a list for each would take memory


class Scheduler:
    """Nodes that must run, and the nodes they wait for. Nodes never added (hits, pruned) count as done."""

    def __init__(self) -> None:
        self._work: dict[int, _Work] = {}
        self._ready: list[int] = []
        self._unfinished = 0
        self._unfinished_of: dict[str, int] = {}

    def __contains__(self, node: int) -> bool:
        return node in self._work

    @property
    def idle(self) -> bool:
        """Whether all added nodes are over."""
        return self._unfinished == 0

    @property
    def has_ready(self) -> bool:
        """Whether `take_ready` may return nodes."""
        return bool(self._ready)

    def state(self, node: int) -> State:
        """Return the state of a node. Raises `KeyError` if it was never added."""
        return self._work[node].state

    def over(self, node: int) -> bool:
        """Return whether the node is done, failed or skipped, or never had to run."""
        work = self._work.get(node)
        return work is None or work.state in OVER

    def dependents(self, node: int) -> Sequence[int]:
        """Return the nodes that wait for this one now."""
        return self._work[node].dependents

    def waits(self, node: int) -> int:
        """Return how many nodes this one waits for, each counted as many times as it is needed."""
        return self._work[node].waits

    def unfinished(self) -> list[int]:
        """Return the nodes that are not over, in the order of their numbers."""
        return sorted(n for n, w in self._work.items() if w.state not in OVER)

    def unfinished_of(self, kind: str) -> int:
        """Return how many nodes of a kind are not over."""
        return self._unfinished_of.get(kind, 0)

    # -- events ---------------------------------------------------------------------------------------------------

    def add(self, node: int, needs: Iterable[int], kind: str = "") -> list[int]:
        """Add a node that must run once all of `needs` are done. Return [node] if one of them failed, else []."""
        work = self._work[node] = _Work(kind)
        self._count(work, 1)
        return self._wait_for(node, work, needs)

    def take_ready(self) -> list[int]:
        """Take all nodes that may be decided now, lowest number first."""
        taken = []
        while self._ready:
            node = heapq.heappop(self._ready)
            work = self._work[node]
            if work.state is State.READY:  # otherwise it was skipped or stopped meanwhile
                self._move(node, work, Move.TAKEN)
                taken.append(node)
        return taken

    def move(self, node: int, move: Move) -> None:
        """Apply a move that affects no other node."""
        self._move(node, self._work[node], move)

    def finished(self, node: int) -> None:
        """Finish a node. Nodes that waited only for it become ready."""
        work = self._work[node]
        self._move(node, work, Move.FINISHED)
        for dependent in work.dependents:
            waiting = self._work[dependent]
            waiting.waits -= 1
            if waiting.waits == 0 and waiting.state is State.WAITING:
                self._move(dependent, waiting, Move.INPUTS_THERE)
        work.dependents = ()

    def failed(self, node: int, move: Move = Move.FAILED) -> list[int]:
        """Fail a node. Return the nodes that therefore never run, which are now SKIPPED."""
        self._move(node, self._work[node], move)
        return self._skip_dependents(node)

    def wait_again(self, node: int, needs: Iterable[int]) -> list[int]:
        """Let a node wait again for inputs that are recomputed. Returns what `add` does."""
        work = self._work[node]
        self._move(node, work, Move.DECIDED_AGAIN)
        return self._wait_for(node, work, needs)

    def reopen(self, node: int, needs: Iterable[int]) -> list[int]:
        """Make a node that was done run again. Returns what `add` does."""
        work = self._work[node]
        self._move(node, work, Move.MADE_AGAIN)
        return self._wait_for(node, work, needs)

    # -- inside ---------------------------------------------------------------------------------------------------

    def _move(self, node: int, work: _Work, move: Move) -> None:
        if work.state not in move.sources:
            raise move.refused(node, work.state)
        work.state = move.target
        if move.readies:
            heapq.heappush(self._ready, node)
        elif move.ends:
            self._count(work, -1)
        elif move.reopens:
            self._count(work, 1)

    def _wait_for(self, node: int, work: _Work, needs: Iterable[int]) -> list[int]:
        for needed in needs:
            other = self._work.get(needed)
            if other is None or other.state is State.DONE:
                continue
            if other.state in (State.FAILED, State.SKIPPED):
                self._move(node, work, Move.SKIPPED)
                return [node, *self._skip_dependents(node)]
            if isinstance(other.dependents, tuple):
                other.dependents = []
            other.dependents.append(node)
            work.waits += 1
        if work.waits == 0:
            self._move(node, work, Move.INPUTS_THERE)
        return []

    def _count(self, work: _Work, change: int) -> None:
        self._unfinished += change
        self._unfinished_of[work.kind] = self._unfinished_of.get(work.kind, 0) + change

    def _skip_dependents(self, node: int) -> list[int]:
        skipped = []
        stack = [node]
        while stack:
            work = self._work[stack.pop()]
            for dependent in work.dependents:
                waiting = self._work[dependent]
                waiting.waits -= 1
                if waiting.state not in OVER:
                    self._move(dependent, waiting, Move.SKIPPED)
                    skipped.append(dependent)
                    stack.append(dependent)
            work.dependents = ()
        return sorted(skipped)
