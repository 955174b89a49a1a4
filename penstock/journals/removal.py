"""Removing the records and logs of runs from a store, and parameters that no run needs any more.

Results are not affected: they do not belong to runs, see `penstock.storage.results.maintenance`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from penstock.errors import StoreError
from penstock.journals.journal import RunRecord, read_record
from penstock.journals.parameters import SHARED
from penstock.storage.stores.base import Listed, Store

RECORD = "run.json"


@dataclass(slots=True)
class Removed:
    """What was removed, or would be removed in a dry run."""

    runs: int = 0
    files: int = 0
    bytes: int = 0
    going_on: int = 0
    """The number of old runs that were kept because they may still be running."""


def remove_runs(store: Store, ids: Iterable[str], *, dry_run: bool = False) -> Removed:
    """Remove runs, whatever their state, and the parameters that only they used."""
    removed = Removed()
    found = _runs(store)
    for run_id in ids:
        removed.runs += 1
        _remove(store, found.pop(run_id, []), removed, dry_run=dry_run)
    _remove_unused(store, found, removed, before=None, dry_run=dry_run)
    return removed


def collect_runs(
    store: Store, *, before: float, goes_on: Callable[[RunRecord], bool], dry_run: bool = False
) -> Removed:
    """Remove the runs that ended or were killed before a time, and old files of runs without a record.

    Args:
        store: The store.
        before: The time in seconds since the epoch.
        goes_on: Returns whether a run whose end was never recorded may still be running. Such runs are kept.
        dry_run: Whether to only report what would be removed.
    """
    removed = Removed()
    found = _runs(store)
    for run_id, files in list(found.items()):
        if any(file.modified >= before for file in files):
            continue
        try:
            record = read_record(store, run_id)
        except StoreError:
            record = None  # missing or damaged
        if record is not None and record.state == "running" and goes_on(record):
            removed.going_on += 1
            continue
        removed.runs += 1
        _remove(store, found.pop(run_id), removed, dry_run=dry_run)
    _remove_unused(store, found, removed, before=before, dry_run=dry_run)
    return removed


def _runs(store: Store) -> dict[str, list[Listed]]:
    """Return the files of each run, by its id."""
    found: dict[str, list[Listed]] = {}
    for file in store.list("runs/"):
        found.setdefault(file.name.split("/")[1], []).append(file)
    return found


def _remove(store: Store, files: Iterable[Listed], removed: Removed, *, dry_run: bool) -> None:
    # The record last, so that a partly removed run is still listed and can be removed again.
    for file in sorted(files, key=lambda file: file.name.endswith(f"/{RECORD}")):
        removed.files += 1
        removed.bytes += file.size
        if not dry_run:
            store.delete(file.name)


def _remove_unused(store: Store, left: Iterable[str], removed: Removed, *, before: float | None, dry_run: bool) -> None:
    """Remove shared parameters that no remaining or just started run uses."""
    shared = [file for file in store.list(SHARED) if before is None or file.modified < before]
    if not shared:
        return
    used = {_checksum(store, run_id) for run_id in left}
    if not dry_run:
        # A run that started meanwhile may use parameters that were already there.
        used |= {_checksum(store, run_id) for run_id in _runs(store).keys() - set(left)}
    for file in shared:
        if file.name.rpartition("/")[2].removesuffix(".pkl") not in used:
            _remove(store, [file], removed, dry_run=dry_run)


def _checksum(store: Store, run_id: str) -> str:
    try:
        return read_record(store, run_id).parameters_checksum
    except StoreError:
        return ""
