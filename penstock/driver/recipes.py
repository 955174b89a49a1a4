"""Recipe entries that the driver writes: of results found by what went into them, or looked at together. Pure."""

from __future__ import annotations

from penstock.driver.state.run_state import RunState
from penstock.graph.graphs import Node
from penstock.graph.steps import Hit
from penstock.storage.records.records import RecipeEntry
from penstock.storage.results.recipes import MAX_RECIPE_INPUTS


def earliest_expiry(run: RunState, node: Node, hit: Hit) -> float | None:
    """When the result, or anything it was made from, expires first."""
    results = run.results
    expiries = [e for d in node.deps if d in results and (e := results[d].expires) is not None]
    return min([*expiries, hit.expires] if hit.expires is not None else expiries, default=None)


def recipe_entry(run: RunState, node: Node, hit: Hit, expires: float | None) -> RecipeEntry | None:
    """What is to be noted for the node's recipe, now that its result is known; None if it has none."""
    if node.recipe_key is None or not node.deps:
        return None
    claims = [run.planner.claim(d) for d in node.deps]
    return RecipeEntry(
        recipe=node.recipe_key,
        key=hit.cache_key,
        task=node.entry.task.identity,
        digest=hit.digest,
        inputs=claims if all(claims) and len(claims) <= MAX_RECIPE_INPUTS else None,
        expires=expires,
        origin=run.origins.now(),
    )
