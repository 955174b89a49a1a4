"""Whether decisions agree: what each hit was made from, beside what was decided of its inputs.

A hit *claims* a digest for each of its inputs. Of an input that is decided the claim is compared with its digest, of
one that is pruned with the claims of others. A part of a result (`future["n"]`) stands for the result: whoever uses
the part claims the digests of both, written `part/result`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from penstock.graph.between import Between
from penstock.graph.graphs import Graph

_RUNS_AGAIN = "something upstream runs again: decided by the values of its inputs"
_CHANGED = "an input has another value now"


class Decision(Protocol):
    """What is looked at of a planner's step."""

    @property
    def runs(self) -> bool: ...

    @property
    def digest(self) -> str | None: ...


class Agreement:
    """The claims of all hits of a graph."""

    def __init__(self, graph: Graph, steps: Mapping[int, Decision]) -> None:
        self._graph = graph
        self._steps = steps
        self._new: dict[int, Sequence[str] | None] = {}  # decided, and not compared with anything yet
        self._origins: dict[int, str | None] = {}
        self._between = Between(graph, steps, self._origins)
        self._claims: dict[int, dict[int, str] | None] = {}  # by hit: input to digest; None: it does not say
        self._claimants: dict[int, list[int]] = {}  # by input: the hits that were made from it
        self._stated: dict[int, str] = {}  # of inputs, as the first claim has it
        self._parts: dict[int, tuple[str, tuple[str | None, ...]]] = {}  # of parts: digest, and those of the results
        self._doubted: list[int] = []

    def decided(self, id: int, stated: Sequence[str] | None, origin: str | None) -> None:
        """A node was decided (anew).

        Args:
            stated: What a hit says of its deps; None if it does not.
            origin: Which run said so; None if that is not known.
        """
        self._origins[id] = None if self._steps[id].runs else origin
        if self._graph[id].deps or id in self._claimants or self._between.active:
            self._new[id] = stated

    def part_taken(self, id: int, digest: str) -> None:
        """A part of a result has this digest, as long as the result is what it is now."""
        self._parts[id] = digest, self._known_sources(id)

    def withdrawn(self, id: int) -> None:
        """The node is no hit any more: it claims nothing."""
        self._claims.pop(id, None)
        self._new.pop(id, None)

    def forgotten(self, id: int) -> None:
        """What hits state of the node, and what it claims itself, counts no more."""
        self.withdrawn(id)
        self._stated.pop(id, None)

    def to_look_at(self) -> list[int]:
        """The pruned nodes that have to say what they were made from before the decisions can be compared."""
        if len(self._steps) == 1:
            return []  # a single result agrees with itself: nothing above it has to be walked
        new, self._new = self._new, {}
        for id in new:
            self._between.decided(id)
            self._doubted += self._claimants.get(id, ())
        for id in sorted(new):
            if self._steps[id].runs:
                self._claims.pop(id, None)
            elif self._graph[id].deps:
                self._claim(id, new[id])
        return self._between.take_needed()

    def _claim(self, id: int, stated: Sequence[str] | None) -> None:
        claims = self._claims[id] = self._by_source(id, stated)
        self._doubted.append(id)
        for source in self._graph.sources(id):
            self._claimants.setdefault(source, []).append(id)
            if claims is not None and self._stated.setdefault(source, claims[source]) != claims[source]:
                self._between.need(source)
        self._between.claimed(id, silent=claims is None)

    def _by_source(self, id: int, stated: Sequence[str] | None) -> dict[int, str] | None:
        deps = self._graph[id].deps
        if stated is None or len(stated) != len(deps) or not all(stated):
            return None
        claims: dict[int, str] = {}
        for dep, claim in zip(deps, stated, strict=True):
            if not self._graph[dep].entry.task.derived:
                claims[dep] = claim
                continue
            digest, _, results = claim.partition("/")
            sources, digests = self._graph.sources(dep), tuple(results.split("+"))
            if len(sources) != len(digests):
                return None
            self._parts[dep] = digest, digests
            claims.update(zip(sources, digests, strict=True))
        return claims

    def broken(self) -> Iterator[tuple[int, str]]:
        """Hits that do not agree with what was decided of their inputs, and why.

        Each has to be decided anew before the next is asked for: what was made from it is doubted then.
        """
        doubted = list(set(self._doubted))
        self._doubted.clear()
        heapq.heapify(doubted)
        while doubted:
            id = heapq.heappop(doubted)
            reason = self._doubt(id)
            if reason:
                yield id, reason
                self._claims.pop(id, None)
                for claimant in self._claimants.get(id, ()):
                    heapq.heappush(doubted, claimant)

    def _doubt(self, id: int) -> str:
        if id not in self._claims or self._steps[id].runs:
            return ""
        claims = self._claims[id]
        for source in self._graph.sources(id):
            step = self._steps.get(source)
            if step is None:
                continue
            if step.digest is None:
                return _RUNS_AGAIN
            if claims is None or claims[source] != step.digest:
                return _CHANGED
        return ""

    def stated(self, id: int) -> str | None:
        """The digest of an undecided node's value (or of a part of a result), as hits state it."""
        part = self._parts.get(id)
        if part is None:
            return self._stated.get(id)
        digest, results = part
        return digest if self._known_sources(id) == results else None

    def _known_sources(self, id: int) -> tuple[str | None, ...]:
        return tuple(self._known(source) for source in self._graph.sources(id))

    def _known(self, id: int) -> str | None:
        step = self._steps.get(id)
        return self._stated.get(id) if step is None else step.digest


def as_claim(part: str, results: Sequence[str]) -> str:
    """What is claimed of a part of a result, by the digests of both; empty if one is not known."""
    return f"{part}/{'+'.join(results)}" if part and all(results) else ""
