"""Recipe entries: an index from the graph's keys to results, written where the store lets us."""

from __future__ import annotations

import logging

from penstock.errors import StoreError
from penstock.storage.records.records import RecipeEntry
from penstock.storage.results.store import ResultStore

MAX_RECIPE_INPUTS = 256
"""A recipe entry states the digests of at most so many inputs; with more, a plan looks them up."""


def write_recipe(results: ResultStore, entry: RecipeEntry) -> None:
    """Write a recipe entry if the store lets us: it is only an index, and without it results are found by cache key."""
    try:
        results.put_recipe(entry)
    except StoreError as error:
        logging.getLogger("penstock.store").warning("no recipe entry of %s: %s", entry.task, error.what)
