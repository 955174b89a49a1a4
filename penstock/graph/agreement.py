"""Checks that decisions agree: the inputs from which each hit was computed against what was decided about them.

A hit *states* a digest for each of its inputs. For a decided input, the statement is compared with its digest; for a
pruned one, with the statements of other hits. A part of a result (`future["n"]`) stands for the result: a hit that uses
the part states the digests of both, written `part/result`.
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
    """The part of a planner's step that is checked."""

    @property
    def runs(self) -> bool: ...

    @property
    def digest(self) -> str | None: ...


class Agreement:
    """What all hits of a graph state about their inputs."""

    def __init__(self, graph: Graph, steps: Mapping[int, Decision]) -> None:
        self._graph = graph
        self._steps = steps
        self._new: dict[int, Sequence[str] | None] = {}  # decided, but not yet compared
        self._cohorts: dict[int, str | None] = {}
        self._between = Between(graph, steps, self._cohorts)
        self._statements: dict[int, dict[int, str] | None] = {}  # by hit: input to digest; None if unknown
        self._stating: dict[int, list[int]] = {}  # by input: the hits computed from it
        self._stated: dict[int, str] = {}  # by input: the digest in the first statement
        self._parts: dict[int, tuple[str, tuple[str | None, ...]]] = {}  # by part: its digest, and those of the results
        self._doubted: list[int] = []

    def decided(self, id: int, stated: Sequence[str] | None, cohort: str | None) -> None:
        """Note that a node was decided, or decided again.

        Args:
            id: The node.
            stated: The digests of its deps that a hit states, or None if it states none.
            cohort: The cohort of the result or recipe entry that states them, or None if it is unknown.
        """
        self._cohorts[id] = None if self._steps[id].runs else cohort
        if self._graph[id].deps or id in self._stating or self._between.active:
            self._new[id] = stated

    def part_taken(self, id: int, digest: str) -> None:
        """Note the digest of a part of a result, valid as long as the result does not change."""
        self._parts[id] = digest, self._known_sources(id)

    def withdrawn(self, id: int) -> None:
        """Note that a node is no longer a hit and states nothing."""
        self._statements.pop(id, None)
        self._new.pop(id, None)

    def forgotten(self, id: int) -> None:
        """Forget the statements about a node and those it makes itself."""
        self.withdrawn(id)
        self._stated.pop(id, None)

    def to_look_at(self) -> list[int]:
        """Return the pruned nodes whose inputs must be known before the decisions can be compared."""
        if len(self._steps) == 1:
            return []  # a single result agrees with itself
        new, self._new = self._new, {}
        for id in new:
            self._between.decided(id)
            self._doubted += self._stating.get(id, ())
        for id in sorted(new):
            if self._steps[id].runs:
                self._statements.pop(id, None)
            elif self._graph[id].deps:
                self._register(id, new[id])
        return self._between.take_needed()

    def _register(self, id: int, stated: Sequence[str] | None) -> None:
        statements = self._statements[id] = self._by_source(id, stated)
        self._doubted.append(id)
        for source in self._graph.sources(id):
            self._stating.setdefault(source, []).append(id)
            if statements is not None and self._stated.setdefault(source, statements[source]) != statements[source]:
                self._between.need(source)
        self._between.heard(id, silent=statements is None)

    def _by_source(self, id: int, stated: Sequence[str] | None) -> dict[int, str] | None:
        deps = self._graph[id].deps
        if stated is None or len(stated) != len(deps) or not all(stated):
            return None
        statements: dict[int, str] = {}
        for dep, statement in zip(deps, stated, strict=True):
            if not self._graph[dep].entry.task.derived:
                statements[dep] = statement
                continue
            digest, _, results = statement.partition("/")
            sources, digests = self._graph.sources(dep), tuple(results.split("+"))
            if len(sources) != len(digests):
                return None
            self._parts[dep] = digest, digests
            statements.update(zip(sources, digests, strict=True))
        return statements

    def broken(self) -> Iterator[tuple[int, str]]:
        """Yield hits that disagree with the decisions about their inputs, and the reasons.

        Each must be decided again before the next one is requested, since hits computed from it are then in doubt.
        """
        doubted = list(set(self._doubted))
        self._doubted.clear()
        heapq.heapify(doubted)
        while doubted:
            id = heapq.heappop(doubted)
            reason = self._doubt(id)
            if reason:
                yield id, reason
                self._statements.pop(id, None)
                for hit in self._stating.get(id, ()):
                    heapq.heappush(doubted, hit)

    def _doubt(self, id: int) -> str:
        if id not in self._statements or self._steps[id].runs:
            return ""
        statements = self._statements[id]
        for source in self._graph.sources(id):
            step = self._steps.get(source)
            if step is None:
                continue
            if step.digest is None:
                return _RUNS_AGAIN
            if statements is None or statements[source] != step.digest:
                return _CHANGED
        return ""

    def stated(self, id: int) -> str | None:
        """Return the digest of an undecided node's value, or of a part of a result, that hits state."""
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


def as_statement(part: str, results: Sequence[str]) -> str:
    """Return the statement about a part of a result, with the digests of both; empty if one is unknown."""
    return f"{part}/{'+'.join(results)}" if part and all(results) else ""
