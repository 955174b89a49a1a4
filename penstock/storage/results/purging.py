"""Purging a store (`gc --purge`): the only maintenance whose safety depends on time.

A closed generation is never read again: slot 0 of its key points past it and never back. So the records in between can
be deleted, and so can results that a suspended writer published there after they were closed. Slot 0 itself stays: it
prevents generations from being counted from 0 again, so that a writer that started earlier cannot restore a removed
result. This small file is all that remains of a removed result.

A writer that looked up a result before it was replaced, and publishes after everything in between was purged, would
succeed. Therefore nothing younger than `PURGE_SECONDS` is purged, and no task may run longer than that concurrently
with a purge.
"""

from __future__ import annotations

from dataclasses import dataclass

from penstock.errors import DamagedResult, StoreVersionError
from penstock.storage.records.encoding import decode_recipe
from penstock.storage.records.names import key_folder, slot_in
from penstock.storage.records.records import RedirectRecord
from penstock.storage.results.generations import read_slot
from penstock.storage.results.maintenance import folders, in_batches
from penstock.storage.results.store import ResultStore
from penstock.storage.stores.base import Listed

PURGE_SECONDS = 30 * 24 * 3600.0
"""The minimum age of purged files."""


@dataclass(slots=True)
class Purged:
    """What was purged, or would be purged in a dry run."""

    records: int = 0
    """Records of generations that no lookup reaches any more."""
    recipes: int = 0
    """Recipe entries without a result."""
    closings: int = 0
    bytes: int = 0


def purge(results: ResultStore, *, older_than: float = PURGE_SECONDS, dry_run: bool = False) -> Purged:
    """Delete records and recipe entries that have been unreachable for a long time.

    Run it after `gc`. It may run concurrently with any number of runs.

    Args:
        results: The results.
        older_than: The minimum age of deleted files in seconds.
        dry_run: Whether to only report what would be deleted.
    """
    report = Purged()
    now = results.clock.now()
    live: set[str] = set()
    for folder in folders(results, "results/"):
        ahead = _leads_to(results, folder.name)
        if any(generation >= ahead for generation in folder.slots):
            live.add(folder.name)
        for generation in sorted(folder.slots.keys() | folder.payloads.keys()):
            if not 0 < generation < ahead:
                continue
            files = [*folder.payloads.get(generation, []), *filter(None, [folder.slots.get(generation)])]
            if all(now - file.modified >= older_than for file in files):
                report.records += generation in folder.slots
                _delete(results, files, report, dry_run=dry_run)
    _purge_recipes(results, live, now - older_than, report, dry_run=dry_run)
    for file in results.store.list("closings/"):
        # A lookup index may keep a record for a week, which is far less than this.
        if file.modified < now - older_than:
            report.closings += 1
            _delete(results, [file], report, dry_run=dry_run)
    return report


def _leads_to(results: ResultStore, folder: str) -> int:
    """Return the generation that slot 0 points to, or 0 if it is not a redirect."""
    try:
        slot = read_slot(results.store, slot_in(folder, 0))
    except (DamagedResult, StoreVersionError):
        return 0
    return slot.next if isinstance(slot, RedirectRecord) else 0


def _purge_recipes(results: ResultStore, live: set[str], before: float, report: Purged, *, dry_run: bool) -> None:
    """Delete recipe entries of results that no longer exist. Results without one are found by their cache key."""
    old = {file.name: file for file in results.store.list("recipes/") if file.modified < before}
    for names in in_batches(old):
        for name, data in zip(names, results.store.get_many(names), strict=True):
            recipe = name.rpartition("/")[2].removesuffix(".json")
            try:
                entry = None if data is None else decode_recipe(data, recipe=recipe)
            except (DamagedResult, StoreVersionError):
                continue
            if entry is not None and key_folder(entry.task, entry.key) not in live:
                report.recipes += 1
                _delete(results, [old[name]], report, dry_run=dry_run)


def _delete(results: ResultStore, files: list[Listed], report: Purged, *, dry_run: bool) -> None:
    for file in files:
        report.bytes += file.size
        if not dry_run:
            results.store.delete(file.name)
