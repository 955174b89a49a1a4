"""Recipe entries: an index from recipe keys to results."""

from __future__ import annotations

import logging

from penstock.errors import StoreError
from penstock.storage.records.records import RecipeEntry, ResultRecord
from penstock.storage.results.store import ResultStore

MAX_RECIPE_INPUTS = 256
"""The most inputs whose digests a recipe entry states; with more, plans look them up."""


def write_recipe(results: ResultStore, entry: RecipeEntry) -> None:
    """Write a recipe entry. Failures are only logged, since results without an entry are found by their cache key."""
    try:
        results.put_recipe(entry)
    except StoreError as error:
        logging.getLogger("penstock.store").warning("no recipe entry of %s: %s", entry.task, error.what)


def entry_for(
    record: ResultRecord, recipe: str, *, inputs: list[str] | None, expires: float | None, origin: str
) -> RecipeEntry:
    """Return the entry of a recipe whose result is published."""
    return RecipeEntry(
        recipe=recipe,
        key=record.key,
        task=record.task,
        digest=record.digest,
        inputs=inputs,
        expires=expires,
        origin=origin,
    )
