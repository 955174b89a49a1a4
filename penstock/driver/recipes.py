"""Recipe entries that the driver writes, for results found by the values of their inputs or checked together. Pure."""

from __future__ import annotations

from penstock.driver.state.run_state import RunState
from penstock.graph.graphs import Node
from penstock.graph.steps import Hit
from penstock.storage.records.records import RecipeEntry
from penstock.storage.results.recipes import MAX_RECIPE_INPUTS


def earliest_expiry(run: RunState, node: Node, hit: Hit) -> float | None:
    """Return the earliest expiry of the result and everything it was computed from."""
    results = run.results
    expiries = [e for d in node.deps if d in results and (e := results[d].expires) is not None]
    return min([*expiries, hit.expires] if hit.expires is not None else expiries, default=None)


def recipe_entry(run: RunState, node: Node, hit: Hit, expires: float | None) -> RecipeEntry | None:
    """Return the entry of the node's recipe with its known result, or None if the node has no recipe."""
    if node.recipe_key is None or not node.deps or not run.follows_recipe(node.id):
        return None
    statements = [run.planner.statement(d) for d in node.deps]
    return RecipeEntry(
        recipe=node.recipe_key,
        key=hit.cache_key,
        task=node.entry.task.identity,
        digest=hit.digest,
        inputs=statements if all(statements) and len(statements) <= MAX_RECIPE_INPUTS else None,
        expires=expires,
        origin=run.cohorts.now(),
    )
