"""Lookups: answers the planner's queries from stores, in as few round trips as possible."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from penstock.clocks import Clock
from penstock.errors import StoreError
from penstock.graph.graphs import Graph
from penstock.graph.planning import Planner
from penstock.graph.steps import Answer, Hit, NoAnswer, NoHit, Query
from penstock.storage.records.records import RecipeEntry
from penstock.storage.results.generations import NEVER, Absent, Found, Unknown
from penstock.storage.results.recipes import write_recipe
from penstock.storage.results.store import ResultStore
from penstock.worker.messages import cohort_of

NEVER_COMPUTED = "never computed"
NO_RESULT_FOR_RECIPE = "no result for this recipe"
OpenResults = Callable[[Any], ResultStore]
"""Opens the results of a store by its address; None is the run's own store."""


class Lookups:
    """Answers queries about one graph from metadata only. Payloads are not read."""

    def __init__(self, graph: Graph, open_results: OpenResults, clock: Clock) -> None:
        self._graph = graph
        self._open_results = open_results
        self._clock = clock

    def drive(self, planner: Planner, targets: Sequence[int]) -> None:
        """Plan the targets, answering the planner's queries."""
        rounds = planner.plan(targets)
        try:
            queries = next(rounds)
            while True:
                queries = rounds.send(self.answer(queries))
        except StopIteration:
            return

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Return one answer per query, in order. Takes one batch per store, or two with recipes."""
        answers: dict[int, Answer] = {}
        by_store: dict[tuple[Any, str], list[Query]] = {}
        for query in queries:
            entry = self._graph[query.node].entry
            by_store.setdefault((entry.task.options.result_storage, entry.transaction), []).append(query)
        for (address, transaction), asked in by_store.items():
            self._answer_from(self._open_results(address), transaction, asked, answers)
        return [answers[q.node] for q in queries]

    def _answer_from(
        self, results: ResultStore, transaction: str, queries: list[Query], answers: dict[int, Answer]
    ) -> None:
        wanted: list[tuple[Query, str, RecipeEntry | None]] = []
        by_recipe = [q for q in queries if q.cache_key is None]
        entries = results.get_recipes([q.recipe_key or "" for q in by_recipe]) if by_recipe else []
        for query, entry in zip(by_recipe, entries, strict=True):
            if entry is None:
                answers[query.node] = NoHit(NO_RESULT_FOR_RECIPE)
            elif entry.expires is not None and entry.expires <= self._clock.now():
                answers[query.node] = NoHit("something upstream has expired")
            else:
                wanted.append((query, entry.key, entry))
        wanted.extend((q, q.cache_key, None) for q in queries if q.cache_key is not None)
        found = results.look_up_many([(q.task, key) for q, key, _ in wanted], inside=transaction)
        for (query, key, entry), what in zip(wanted, found, strict=True):
            answers[query.node] = _as_answer(key, what, entry)

    def note(self, store: Any, entry: RecipeEntry, *, told: bool) -> None:
        """Write a recipe entry. It is only an index that saves lookups."""
        results = self._open_results(store)
        if told:
            write_recipe(results, entry)
            return
        with contextlib.suppress(StoreError):  # for example in a read-only store
            results.put_recipe(entry)


def _as_answer(key: str, what: Found | Absent | Unknown, entry: RecipeEntry | None) -> Answer:
    if isinstance(what, Found):
        record = what.record.light(key)
        if what.refused is not None:
            return NoAnswer(what.refused, record.generation)
        # A record newer than the recipe entry was computed from inputs that the entry does not contain.
        stated = entry.inputs if entry is not None and entry.digest == record.digest else None
        limits = [e for e in (record.expires, entry.expires if entry is not None else None) if e is not None]
        expires = min(limits, default=None)
        cohort = cohort_of(record.attempt) if entry is None else entry.origin if stated is not None else None
        return Hit(key, record.digest, record, stated, expires, cohort, record.size, record.seconds)
    if isinstance(what, Unknown):
        return NoAnswer(what.error)
    if what is NEVER and entry is None:
        return _NEVER_COMPUTED
    reason = what.because or _REASONS[what.reason]
    seconds = what.seen.seconds if what.seen is not None else None
    if entry is None:
        return NoHit(reason, what, seconds)
    return NoHit(reason, what, seconds, entry.digest, entry.inputs, entry.origin)


_REASONS = {
    "never": NEVER_COMPUTED,
    "expired": "expired",
    "damaged": "the record is damaged",
    "unfit": "of no use here",
    "redirected": "invalidated",
    "undecided": "the transaction that it belongs to has not ended",
    "rolled back": "the transaction that it belonged to was rolled back",
}
_NEVER_COMPUTED = NoHit(_REASONS[NEVER.reason], NEVER)
"""A single instance for all nodes."""
