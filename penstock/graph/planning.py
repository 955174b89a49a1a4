"""The planner: decides for each node whether it is a hit, runs, or is not needed. Asks for look-ups, does none itself.

    targets → look up → whatever a miss needs → look up in one batch → prune → check that hits agree with what runs

A **recipe hit** says: this call of this code on that recipe gave this result. It stands only while it is consistent
with the rest of the graph. If something upstream has to run, or was resolved to another digest than the one the
result was made from, the node is decided by its cache key instead, as soon as the digests of its inputs are known. So
a re-run upstream is never mixed with results of its older value, and where its value comes out unchanged, what is
below it is a hit after all (early cutoff).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from penstock.graph.graphs import Graph, Node
from penstock.graph.refs import Ref


class Status(StrEnum):
    """What the plan says of a node."""

    HIT = "hit"
    MISS = "miss"
    PRUNED = "pruned"
    BYPASS = "bypass"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Query:
    """One look-up the planner wants: by cache key where it is known, else by recipe key."""

    node: int
    task: str
    """The task's identity."""
    cache_key: str | None
    recipe_key: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Hit:
    """A stored result for a node."""

    cache_key: str
    digest: str
    """Of the value."""
    record: Any
    """What the store gave; nothing here looks into it."""
    inputs: Sequence[str] | None = None
    """For a recipe hit: the digests of the node's inputs, in the order of its deps, that the result was made from."""
    expires: float | None = None
    """The earliest expiry of the result and of all it was made from, seconds since the epoch."""
    size: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class NoHit:
    """No usable result. `record` is an expired or damaged one that was seen instead."""

    reason: str
    record: Any = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class NoAnswer:
    """The store did not say, or has what must not be used. Never the same as a miss."""

    error: Exception
    generation: int | None = None
    """Of the result that must not be used."""


Answer = Hit | NoHit | NoAnswer


@dataclass(slots=True, eq=False)
class Step:
    """What was decided for one node."""

    status: Status
    reason: str
    answer: Answer | None = None
    digest: str | None = None
    """Of the node's value, once it is known: a hit's, or a finished run's."""

    @property
    def runs(self) -> bool:
        """Whether the node has to be handed to a runner (or decided by its cache key when its inputs are there)."""
        return self.status in (Status.MISS, Status.BYPASS, Status.UNKNOWN)


@dataclass(slots=True)
class Counters:
    """What planning cost."""

    rounds: int = 0
    """Batches of look-ups."""
    lookups: int = 0
    """Nodes asked for."""


Rounds = Generator[list[Query], list[Answer], None]


class Planner:
    """Plans a graph that may still grow: each call of `plan` decides what the given targets need.

    `plan` is a generator that yields batches of queries and is sent their answers in the same order, so the same code
    runs against any store, a scripted one included.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.steps: dict[int, Step] = {}
        self.counters = Counters()
        self._answers: dict[int, Answer] = {}
        self._by_cache_key: set[int] = set()  # nodes whose answer came from the cache key: always consistent
        self._claims: dict[int, str] = {}  # digests of inputs that no look-up was needed for, as recipe hits state them
        self._fresh: list[int] = []  # decided by the plan under way; older decisions have been acted upon
        self._unsure: set[int] = set()  # nodes that run and everything below them, whether it was looked at or not
        self._marked = 0  # nodes below this number were marked as unsure or not

    @property
    def fresh(self) -> list[int]:
        """The nodes that the latest plan decided."""
        return self._fresh

    def found_by_content(self, id: int) -> bool:
        """Whether a hit was found by the values of its inputs, so that its recipe is not known to lead to it yet."""
        return id in self._by_cache_key and bool(self.graph[id].deps)

    # -- planning -------------------------------------------------------------------------------------------------

    def plan(self, targets: Iterable[int]) -> Rounds:
        """Decide the targets and everything they need; afterwards `steps` has an entry for each of those."""
        self._fresh = []
        needed: list[int] | None = [t for t in targets if t not in self.steps]
        yield from self._ask(self._queries(needed or ()))
        while needed is not None:
            undecided = self._descend(needed)
            if undecided:
                batch = undecided | self.graph.ancestors(undecided)
                yield from self._ask(self._queries(sorted(batch)))
                needed = sorted(undecided)
                continue
            # Doubts first: a key may be computed only from digests of hits that stand.
            needed = self._doubtful()
            if needed is None and (yield from self._decide_by_content()):
                needed = []

    def _queries(self, ids: Iterable[int]) -> list[Query]:
        queries = []
        for id in ids:
            node = self.graph[id]
            known = id in self.steps or id in self._answers
            if known or not node.cached or node.entry.refresh or (node.cache_key or node.recipe_key) is None:
                continue
            queries.append(Query(id, node.entry.task.identity, node.cache_key, node.recipe_key))
        return queries

    def _ask(self, queries: list[Query]) -> Rounds:
        if not queries:
            return
        answers = yield queries
        self.counters.rounds += 1
        self.counters.lookups += len(queries)
        for query, answer in zip(queries, answers, strict=True):
            self._answers[query.node] = answer
            if query.cache_key is not None:
                self._by_cache_key.add(query.node)

    def _descend(self, needed: Iterable[int]) -> set[int]:
        """Decide what has an answer, going on to the inputs of what runs; the nodes that still lack an answer."""
        undecided: set[int] = set()
        stack = list(needed)
        while stack:
            id = stack.pop()
            if id in self.steps or id in undecided:
                continue
            node = self.graph[id]
            if id not in self._answers and self._queries([id]):
                undecided.add(id)
                continue
            step = self.steps[id] = self._judge(node)
            self._fresh.append(id)
            if step.runs:
                stack.extend(node.deps)
        return undecided

    def _judge(self, node: Node) -> Step:
        if not node.cached:
            return Step(Status.BYPASS, "takes a part of a result" if node.entry.task.derived else "no cache policy")
        answer = self._answers.get(node.id)
        if node.entry.refresh:
            return Step(Status.MISS, "refresh_cache is set")
        if isinstance(answer, Hit):
            return Step(Status.HIT, "same inputs and code", answer, answer.digest)
        if isinstance(answer, NoAnswer):
            return _unknown(answer)
        if answer is not None:
            return Step(Status.MISS, answer.reason, answer)
        return Step(Status.MISS, "an input changes with every run: decided by its value")

    # -- consistency of recipe hits ----------------------------------------------------------------------------------

    def _doubtful(self) -> list[int] | None:
        """Turn recipe hits that may not stand into nodes decided by cache key; what has to be looked at for that.

        None when nothing changed, so the plan stands.
        """
        needed = dict.fromkeys(self._conflicting_claims())
        turned = False
        unsure = self._mark_unsure()
        for id in self._fresh:
            step, node = self.steps[id], self.graph[id]
            if step.status is not Status.HIT or id in self._by_cache_key or not node.deps:
                continue
            if any(d in unsure for d in node.deps):
                reason = "something upstream runs again: decided by the values of its inputs"
            elif self._disagrees(node, step):
                reason = "an input has another value now"
            else:
                continue
            self.steps[id] = Step(Status.MISS, reason, step.answer)
            turned = True
            self._add_needed_for_key(node, step.answer, needed)
        undecided = [id for id in needed if id not in self.steps]
        return undecided if undecided or turned else None

    def _mark_unsure(self) -> set[int]:
        unsure = self._unsure
        if not self._fresh:
            return unsure
        steps, first = self.steps, min(self._marked, *self._fresh)
        nodes = self.graph.nodes[first:]
        self._marked = first + len(nodes)
        for node in nodes:
            step = steps.get(node.id)
            # A hit by cache key is what its inputs' values say, whatever ran to find those.
            if (step is not None and step.runs) or (
                node.id not in self._by_cache_key and any(d in unsure for d in node.deps)
            ):
                unsure.add(node.id)
            else:
                unsure.discard(node.id)
        return unsure

    def _disagrees(self, node: Node, step: Step) -> bool:
        claims = step.answer.inputs if isinstance(step.answer, Hit) else None
        for index, dep in enumerate(node.deps):
            digest = self.steps[dep].digest if dep in self.steps else None
            if digest is not None and (claims is None or claims[index] != digest):
                return True
        return False

    def _conflicting_claims(self) -> list[int]:
        """Inputs of which two hits state different values: looked up, so that one of them is found out."""
        conflicting = []
        for id in self._fresh:
            step = self.steps[id]
            if step.status is not Status.HIT or not isinstance(step.answer, Hit) or id in self._by_cache_key:
                continue
            for dep, claim in zip(self.graph[id].deps, step.answer.inputs or (), strict=False):
                if self._claims.setdefault(dep, claim) != claim:
                    conflicting.append(dep)
        return conflicting

    def _add_needed_for_key(self, node: Node, answer: Answer | None, needed: dict[int, None]) -> None:
        """Add whatever has to be decided before the node's input digests are known, all levels at once.

        That is everything unsure above it; and its own inputs, if the recipe hit does not state their digests.
        """
        stated = isinstance(answer, Hit) and answer.inputs is not None
        stack = [d for d in node.deps if d in self._unsure or not stated]
        while stack:
            id = stack.pop()
            if id not in needed:
                needed[id] = None
                stack.extend(d for d in self.graph[id].deps if d in self._unsure)

    # -- deciding by cache key before anything runs
    # ---------------------------------------------------------------------

    def digest_of(self, id: int) -> str | None:
        """The digest of a node's value, if it is known without running anything."""
        step = self.steps.get(id)
        if step is not None:
            return step.digest
        return None if id in self._unsure else self._claims.get(id)

    def content_key(self, node: Node) -> str | None:
        """The node's cache key, if the digests of all its inputs are known."""
        if node.cache_key is not None:
            return node.cache_key
        template = node.entry.template
        if template is None or template.needs_values:
            return None
        digests = {}
        for dep in node.deps:
            digest = self.digest_of(dep)
            if digest is None:
                return None
            digests[dep] = digest

        def resolve(ref: Ref) -> str:
            return digests[ref.node]

        return template.cache_key(node.arguments, resolve)

    def _decide_by_content(self) -> Generator[list[Query], list[Answer], bool]:
        """Ask by cache key, one wavefront after the other, for what would run but whose inputs are all known.

        Returns whether any of it is a hit after all.
        """
        open_nodes = [i for i in self._fresh if self._open(i)]
        turned = False
        below: dict[int, list[int]] = {}
        for id in open_nodes:
            for dep in self.graph[id].deps:
                below.setdefault(dep, []).append(id)
        while queries := self._content_queries(open_nodes):
            yield from self._ask(queries)
            found = [q.node for q in queries if self._settle_content(q)]
            turned = turned or bool(found)
            open_nodes = sorted({id for f in found for id in below.get(f, ()) if self._open(id)})
        return turned

    def _open(self, id: int) -> bool:
        node = self.graph[id]
        asked = id in self._by_cache_key or node.entry.refresh or not node.deps
        return self.steps[id].status is Status.MISS and not asked

    def _content_queries(self, ids: Iterable[int]) -> list[Query]:
        queries = []
        for id in ids:
            node = self.graph[id]
            key = self.content_key(node)
            if key is not None:
                queries.append(Query(id, node.entry.task.identity, key, None))
        return queries

    def _settle_content(self, query: Query) -> bool:
        answer = self._answers[query.node]
        step = self.steps[query.node]
        if isinstance(answer, Hit):
            self.steps[query.node] = Step(Status.HIT, "same input values and code", answer, answer.digest)
            return True
        if isinstance(answer, NoAnswer):
            self.steps[query.node] = _unknown(answer)
        else:
            step.answer = answer
        return False

    # -- what happens later ---------------------------------------------------------------------------------------

    def finished(self, id: int, digest: str | None) -> None:
        """A node that ran has a value now."""
        self.steps[id].digest = digest

    def revive(self, id: int, reason: str) -> None:
        """A node's stored value turned out to be unusable: forget what was decided, so that it is planned again."""
        self.steps[id] = Step(Status.MISS, reason, NoHit(reason))
        self._answers[id] = NoHit(reason)
        self._by_cache_key.discard(id)


def _unknown(answer: NoAnswer) -> Step:
    refused = answer.generation is not None
    return Step(Status.UNKNOWN, "what is there must not be used" if refused else "the store did not answer", answer)
