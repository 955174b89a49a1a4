"""The planner: decides for each node whether it is a hit, runs, or is not needed. Requests lookups, but performs none.

    targets → look up → inputs of misses → look up in one batch → prune → check that all decisions agree

A **recipe hit** means that a call with this recipe gave this result. It is valid only while it is consistent with every
other decision. If something upstream must run, or has another digest than the one from which the result was computed,
the node is decided by its cache key instead, as soon as the digests of its inputs are known. So new values are never
mixed with results computed from older ones, and if a value is recomputed without a change, the nodes below it are hits
after all (early cutoff). Nodes between two decisions are looked up for this check only (between.py).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable

from penstock.digests.refs import Ref
from penstock.graph.agreement import Agreement, as_statement
from penstock.graph.graphs import Graph, Node
from penstock.graph.steps import Answer, Counters, Hit, NoAnswer, NoHit, Query, Rounds, Status, Step

# Objects that exist for each node are not frozen, which would make creating them four times as expensive.


_STATING = (Hit, NoHit)  # evaluating a union for each node would be slow


class Planner:
    """Plans a graph that may still grow: each call of `plan` decides what the given targets need.

    `plan` is a generator that yields batches of queries and receives their answers in the same order, so that the same
    code works with any store, including a simulated one.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.steps: dict[int, Step] = {}
        self.counters = Counters()
        self._answers: dict[int, Answer] = {}
        self._by_cache_key: set[int] = set()  # nodes that were looked up by cache key
        self._agreement = Agreement(graph, self.steps)
        self._fresh: dict[int, None] = {}  # decided by the current plan, in order
        self._revised: list[int] = []
        self._compared = False

    @property
    def fresh(self) -> list[int]:
        """Return the nodes that the latest plan decided."""
        return list(self._fresh)

    @property
    def revised(self) -> list[int]:
        """Return hits of earlier plans that the latest plan revoked because they disagree with its findings."""
        return self._revised

    def reconciled(self) -> list[int]:
        """Return recipe hits of the latest plan that were written by several runs and agree with each other."""
        if not self._compared:
            return []
        hits = (i for i in self._fresh if self.steps[i].status is Status.HIT and i not in self._by_cache_key)
        return [i for i in hits if self.graph[i].deps]

    def found_by_content(self, id: int) -> bool:
        """Return whether a hit was found by the values of its inputs, so that no recipe entry leads to it yet."""
        return id in self._by_cache_key and bool(self.graph[id].deps)

    # -- planning -------------------------------------------------------------------------------------------------

    def plan(self, targets: Iterable[int]) -> Rounds:
        """Decide the targets and everything they need. Afterwards `steps` has an entry for each of these nodes."""
        self._fresh, self._revised, self._compared = {}, [], False
        needed: list[int] | None = [t for t in dict.fromkeys(targets) if self.lacks_value(t)]
        yield from self._ask(self._queries(needed or ()))
        while needed is not None:
            undecided = self._descend(needed)
            if undecided:
                yield from self._ask(self._queries(self._with_undecided_inputs(undecided)))
                needed = sorted(undecided)
                continue
            to_compare = self._agreement.to_look_at()
            if to_compare:
                self._compared = True
                yield from self._ask(self._queries(to_compare))
                needed = self._compare(to_compare)
                continue
            # First, because keys may only be computed from digests of valid hits.
            needed = self._doubtful()
            if needed is None and (yield from self._decide_by_content()):
                needed = []

    def lacks_value(self, id: int) -> bool:
        """Return whether it is still undecided where the node's value comes from."""
        step = self.steps.get(id)
        return step is None or step.status is Status.PRUNED

    def _queries(self, ids: Iterable[int]) -> list[Query]:
        nodes = (self.graph[id] for id in ids)
        return [
            Query(node.id, node.entry.task.identity, node.cache_key, node.recipe_key)
            for node in nodes
            if node.id not in self.steps and self._to_be_asked(node)
        ]

    def _to_be_asked(self, node: Node) -> bool:
        return (
            node.id not in self._answers
            and node.entry.template is not None
            and (node.cache_key is not None or (node.recipe_key is not None and bool(node.deps)))
            and not node.entry.refresh
            and not (node.order and self.graph.follows_refresh(node))
        )

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

    def _with_undecided_inputs(self, ids: Iterable[int]) -> list[int]:
        """Return the nodes and all undecided nodes above them, so that one round looks up all possible inputs."""
        found = set(ids)
        stack = list(found)
        while stack:
            for dep in self.graph[stack.pop()].deps:
                if dep not in found and dep not in self.steps:
                    found.add(dep)
                    stack.append(dep)
        return sorted(found)

    def _descend(self, needed: Iterable[int]) -> set[int]:
        """Decide nodes that have an answer and the inputs of those that run. Return the nodes without an answer."""
        undecided: set[int] = set()
        steps, nodes = self.steps, self.graph.nodes
        stack = list(needed)
        while stack:
            id = stack.pop()
            step = steps.get(id)
            if id in undecided or (step is not None and step.status is not Status.PRUNED):
                continue
            node = nodes[id]
            if step is None and id not in self._answers and self._to_be_asked(node):
                undecided.add(id)
                continue
            decided = self._judge(node)
            self._decide(id, decided)
            if decided.runs:
                stack.extend(node.deps)
        return undecided

    def _decide(self, id: int, step: Step) -> None:
        self.steps[id] = step
        self._fresh[id] = None
        answer = step.answer
        if isinstance(answer, _STATING):
            self._agreement.decided(id, answer.inputs, answer.cohort)
        else:
            self._agreement.decided(id, None, None)

    def _judge(self, node: Node) -> Step:
        answer = self._answers.get(node.id)
        if isinstance(answer, Hit) and not node.entry.refresh:
            return Step(Status.HIT, "same inputs and code", answer, answer.digest)
        if not node.cached:
            return Step(Status.BYPASS, "takes a part of a result" if node.entry.task.derived else "no cache policy")
        if node.entry.refresh:
            return Step(Status.MISS, "refresh_cache is set")
        if isinstance(answer, NoAnswer):
            return _unknown(answer)
        if isinstance(answer, NoHit):
            return Step(Status.MISS, answer.reason, answer)
        if node.reads_later:
            return Step(Status.MISS, "its files are read after the calls that it waits for")
        if node.order and self.graph.follows_refresh(node):
            return Step(Status.MISS, "this run refreshes it first")
        return Step(Status.MISS, "an input changes with every run: decided by its value")

    # -- agreement of hits --------------------------------------------------------------------------------------------

    def _compare(self, ids: Iterable[int]) -> list[int]:
        """Decide nodes whose values are not needed, to learn their inputs. Return those that must run."""
        needed = []
        for id in ids:
            answer = self._answers.get(id)
            if isinstance(answer, Hit) or (isinstance(answer, NoHit) and answer.digest is not None):
                # Its result is not needed and may be gone: its digest and inputs are enough.
                self._decide(id, Step(Status.PRUNED, "only results computed from it are needed", answer, answer.digest))
            else:
                needed.append(id)
        return needed

    def _doubtful(self) -> list[int] | None:
        """Revoke hits that may be invalid, so that they are decided by cache key.

        Returns the nodes to look up for that, or None if nothing changed and the plan is complete.
        """
        needed: dict[int, None] = {}
        turned = False
        for id, reason in self._agreement.broken():
            turned = True
            before = self.steps[id]
            if before.status is Status.HIT and id not in self._fresh:
                self._revised.append(id)
            self._by_cache_key.discard(id)
            self._decide(id, Step(Status.MISS, reason, before.answer))
            for dep in self.graph[id].deps:
                if dep not in self.steps and self.digest_of(dep) is None:
                    needed[dep] = None
        undecided = [id for id in needed if id not in self.steps]
        return undecided if undecided or turned else None

    # -- deciding by cache key before anything runs
    # ---------------------------------------------------------------------

    def digest_of(self, id: int) -> str | None:
        """Return the digest of a node's value if it is known without running anything, else None."""
        step = self.steps.get(id)
        if step is None or self.graph[id].entry.task.derived:
            return self._agreement.stated(id)
        return step.digest

    def statement(self, id: int) -> str:
        """Return what a consumer's recipe entry states about this input; empty if it is unknown.

        This is the digest of its value. For a part of a result, the digests of the results follow, so that later plans
        can compare it without a lookup.
        """
        digest = self.digest_of(id)
        if digest is None or not self.graph[id].entry.task.derived:
            return digest or ""
        return as_statement(digest, [self.digest_of(source) or "" for source in self.graph.sources(id)])

    def content_key(self, node: Node) -> str | None:
        """Return the node's cache key if the digests of all its inputs are known, else None."""
        if node.cache_key is not None:
            return node.cache_key
        template = node.entry.template
        if template is None or template.needs_values or (template.reads_files and self._runs_above(node)):
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

    def _runs_above(self, node: Node) -> bool:
        """Return whether calls run before this one, which may write the files that are part of its key."""
        found = {*node.deps, *node.order}
        stack = list(found)
        while stack:
            id = stack.pop()
            step, above = self.steps.get(id), self.graph[id]
            if step is not None and step.runs and not above.entry.task.derived:
                return True
            more = {*above.deps, *above.order} - found
            found |= more
            stack += more
        return False

    def _decide_by_content(self) -> Generator[list[Query], list[Answer], bool]:
        """Look up, by cache key, the nodes that would run but whose inputs are all known, wave by wave.

        Returns whether any of them is a hit after all.
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
            statements = [self.statement(dep) for dep in self.graph[query.node].deps]
            if all(statements):
                self._agreement.decided(query.node, statements, None)
            else:
                self._agreement.withdrawn(query.node)  # its inputs are parts of plain values, which are never revoked
            return True
        if isinstance(answer, NoAnswer):
            self.steps[query.node] = _unknown(answer)
        else:
            step.answer = answer
        return False

    # -- during the run -------------------------------------------------------------------------------------------

    def finished(self, id: int, digest: str | None) -> None:
        """Note that a node ran and has a value with this digest."""
        self.steps[id].digest = digest
        if digest is not None and self.graph[id].entry.task.derived:
            self._agreement.part_taken(id, digest)

    def forget(self, id: int) -> None:
        """Discard what was decided, stated and looked up about a node."""
        self.steps.pop(id, None)
        self._answers.pop(id, None)
        self._by_cache_key.discard(id)
        self._agreement.forgotten(id)

    def revive(self, id: int, reason: str) -> None:
        """Discard the decision about a node whose stored value is unusable, so that it is planned again."""
        self.steps[id] = Step(Status.MISS, reason, NoHit(reason))
        self._answers[id] = NoHit(reason)
        self._by_cache_key.discard(id)
        self._agreement.withdrawn(id)
        self._agreement.decided(id, None, None)  # it may no longer belong to the cohort of its earlier result


def _unknown(answer: NoAnswer) -> Step:
    refused = answer.generation is not None
    return Step(Status.UNKNOWN, "what is there must not be used" if refused else "the store did not answer", answer)
