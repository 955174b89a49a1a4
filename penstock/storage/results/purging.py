"""What a store may forget for good: `gc --purge`. The one place whose safety rests on time.

A generation that was closed is passed over for ever: slot 0 of its key points past it, and never points back. So the
records between can go, and so can what somebody published there who was away while they were closed. Slot 0 itself
stays: it keeps generations from being counted anew, and with that a result that was removed from being brought back by
a writer who began before. What remains of a removed result is that one small file.

Time is what tells a closed generation from one that somebody is still at: a writer who looked a result up before it was
replaced, and publishes after all that lay between was purged, would be believed. So nothing goes that is younger than
`PURGE_SECONDS`, and no task may run for longer than that beside a purge.
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
"""How long ago something must have been written before it is purged."""


@dataclass(slots=True)
class Purged:
    """What was purged, or would be."""

    records: int = 0
    """Of generations that no look-up comes to any more."""
    recipes: int = 0
    """Entries that lead to no result."""
    closings: int = 0
    bytes: int = 0


def purge(results: ResultStore, *, older_than: float = PURGE_SECONDS, dry_run: bool = False) -> Purged:
    """Delete what has led nowhere for so many seconds. Run it after `gc`, beside any number of runs."""
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
        # An index remembers a record for a week after a reader told it, who may have been slow: for far less than this.
        if file.modified < now - older_than:
            report.closings += 1
            _delete(results, [file], report, dry_run=dry_run)
    return report


def _leads_to(results: ResultStore, folder: str) -> int:
    """The generation that slot 0 points to; 0 if it does not point anywhere."""
    try:
        slot = read_slot(results.store, slot_in(folder, 0))
    except (DamagedResult, StoreVersionError):
        return 0
    return slot.next if isinstance(slot, RedirectRecord) else 0


def _purge_recipes(results: ResultStore, live: set[str], before: float, report: Purged, *, dry_run: bool) -> None:
    """Entries of results that are not there any more. Without one a result is found by its cache key."""
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
