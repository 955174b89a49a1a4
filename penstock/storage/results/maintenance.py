"""Maintenance of a store: listing, showing, removing, garbage collection, verification and disk usage.

Everything may run concurrently with any number of writers and readers. Generations are closed before their files are
deleted: an empty generation is closed by `put_if_absent`, so that a slow writer notices and publishes in the next one,
and a reader that misses a payload looks up again. Correctness does not depend on clocks; grace periods only decide how
soon files are deleted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from penstock.errors import DamagedResult, SignatureRefused, StoreVersionError
from penstock.storage.formats.parts.manifests import all_files
from penstock.storage.records.encoding import decode_slot_at
from penstock.storage.records.names import key_folder, segment, slot_in
from penstock.storage.records.records import IntentRecord, RedirectRecord, ResultRecord, Slot
from penstock.storage.results.code_notes import code_digests, unused_code_notes
from penstock.storage.results.generations import close_absent, read_slot, redirect_seen
from penstock.storage.results.payloads import verify_payload
from penstock.storage.results.store import ResultStore
from penstock.storage.stores.base import DiskStore, Listed, SweepStore

DAY = 24 * 3600.0
_MINIMAL_SWEEP = 3600.0
_BATCH = 256
_SLOT_SUFFIX = ".record.json"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Summary:
    """One current result, for a listing."""

    task: str
    key: str
    generation: int
    codec: str
    size: int
    """The size of the stored value in bytes."""
    created: float
    """The time of publication, in seconds since the epoch."""
    expires: float | None


@dataclass(frozen=True, slots=True)
class Problem:
    """A damaged or forged object in the store."""

    name: str
    what: str


@dataclass(slots=True)
class Verified:
    """The result of `verify`."""

    records: int = 0
    problems: list[Problem] = field(default_factory=list)
    orphans: int = 0
    """Payloads without a record, left by killed or slow writers. Harmless: `gc` removes them."""


@dataclass(slots=True)
class Collected:
    """What `gc` removed, or would remove in a dry run."""

    payloads: int = 0
    bytes: int = 0
    closed: int = 0
    """Generations that were closed because they were never published or their result expired."""
    leftovers: int = 0
    """Unfinished files of killed writers."""
    notes: int = 0
    """Code notes that no result refers to any more."""


@dataclass(slots=True)
class Usage:
    """Bytes and files of one task or of all tasks."""

    results: int = 0
    bytes: int = 0
    disk: int | None = None
    """Their disk usage including folders, if the store knows it."""


@dataclass(slots=True)
class Folder:
    """The files of one (task, key)."""

    name: str
    slots: dict[int, Listed]
    payloads: dict[int, list[Listed]]


def ls(results: ResultStore, *, task: str | None = None) -> Iterator[Summary]:
    """Yield the current result of every key of one task or all tasks, including expired ones, sorted by name."""
    for record in current_records(results, task=task):
        yield _summary(record)


def _summary(record: ResultRecord) -> Summary:
    return Summary(
        task=record.task,
        key=record.key,
        generation=record.generation,
        codec=record.codec,
        size=record.size,
        created=record.created,
        expires=record.expires,
    )


def find(results: ResultStore, key: str) -> list[Summary]:
    """Return the current results whose key is `key` or starts with it. Reads only their records."""
    whole = segment(key)
    named = ((folder.name.split("/")[2], folder) for folder in folders(results, "results/"))
    found = (folder for name, folder in named if name == whole or name.startswith(key))
    return [_summary(record) for record in _current_of(results, found)]


def tasks(results: ResultStore) -> list[str]:
    """Return the tasks that have results, reading one record of each."""
    found = []
    for _, of_task in itertools.groupby(folders(results, "results/"), key=lambda folder: folder.name.split("/")[1]):
        record = next(_current_of(results, of_task, batch=1), None)
        if record is not None:
            found.append(record.task)
    return sorted(found)


def show(results: ResultStore, task: str, key: str) -> list[Slot]:
    """Return every readable generation of a key, oldest first."""
    slots = []
    for folder in folders(results, key_folder(task, key)):
        for generation in sorted(folder.slots):
            try:
                slot = read_slot(results.store, slot_in(folder.name, generation))
            except (DamagedResult, StoreVersionError):
                continue
            if slot is not None:
                slots.append(slot)
    return [slot for slot in results.commits.decisions.all_settled(slots) if slot is not None]


def rm(results: ResultStore, task: str, key: str | None = None) -> int:
    """Invalidate one result, or all results of a task, and delete their payloads. The closed slots stay.

    Args:
        results: The results.
        task: The identity of the task.
        key: The cache key. None removes all results of the task.

    Returns:
        The number of results removed.
    """
    keys = [key] if key is not None else [record.key for record in current_records(results, task=task)]
    removed = 0
    for each in keys:
        removed += results.invalidate(task, each)
        for folder in folders(results, key_folder(task, each)):
            _Collecting(results, grace_seconds=DAY, dry_run=False).collect(folder)
    return removed


def gc(results: ResultStore, *, grace_seconds: float = DAY, dry_run: bool = False) -> Collected:
    """Delete payloads that no reader can reach any more, and close generations that were never published.

    Payloads of closed generations and of attempts that lost a race are deleted at once. Unpublished payloads, expired
    results and unfinished files are deleted after `grace_seconds`.

    Args:
        results: The results.
        grace_seconds: The minimum age of unpublished files, at least an hour for unfinished ones. 0 is safe: a slow
            writer then publishes again in the next generation.
        dry_run: Whether to only report what would be deleted.

    Returns:
        What was deleted.
    """
    collecting = _Collecting(results, grace_seconds=grace_seconds, dry_run=dry_run)
    began = results.clock.now()
    for folder in folders(results, "results/"):
        collecting.collect(folder)
    # A code note is written before its first result, so those written since the start may still be needed.
    collecting.collect_code_notes(began - grace_seconds)
    report = collecting.report
    if isinstance(results.store, SweepStore) and not dry_run:
        report.leftovers = results.store.sweep(older_than=max(grace_seconds, _MINIMAL_SWEEP))
    return report


def verify(results: ResultStore) -> Verified:
    """Verify every record and every byte of every published payload, including signatures."""
    seen = Verified()
    for folder in folders(results, "results/"):
        for generation in sorted(folder.slots.keys() | folder.payloads.keys()):
            payloads = {file.name for file in folder.payloads.get(generation, [])}
            listed = folder.slots.get(generation)
            if listed is not None:
                seen.records += 1
                try:
                    payloads -= _verify_slot(results, listed.name)
                except (DamagedResult, SignatureRefused, StoreVersionError) as error:
                    seen.problems.append(Problem(listed.name, error.because or error.what))
                    continue
            seen.orphans += len(payloads)
    return seen


def du(results: ResultStore) -> dict[str, Usage]:
    """Return the number of current results and the bytes of all files, by task."""
    usage: dict[str, Usage] = {}
    names: dict[str, str] = {}
    for record in current_records(results):
        names[segment(record.task)] = record.task
        usage.setdefault(record.task, Usage()).results += 1
    for file in results.store.list("results/"):
        folder = file.name.split("/")[1]
        usage.setdefault(names.get(folder, folder), Usage()).bytes += file.size
    if isinstance(results.store, DiskStore):
        segments = {task: folder for folder, task in names.items()}
        for task, each in usage.items():
            each.disk = results.store.disk_bytes(f"results/{segments.get(task, task)}/")
    return usage


# -- reading


def folders(results: ResultStore, prefix: str) -> Iterator[Folder]:
    """Yield the files of each (task, key) below `prefix`. Other files are skipped."""
    for name, files in itertools.groupby(results.store.list(prefix), key=lambda file: file.name.rpartition("/")[0]):
        folder = Folder(f"{name}/", {}, {})
        for file in files:
            number, _, rest = file.name.rpartition("/")[2].partition(".")
            if not number.isdecimal():
                continue
            if f".{rest}" == _SLOT_SUFFIX:
                folder.slots[int(number)] = file
            else:
                folder.payloads.setdefault(int(number), []).append(file)
        yield folder


def current_records(results: ResultStore, *, task: str | None = None) -> Iterator[ResultRecord]:
    """Yield the published record of the last generation of each key. Damaged ones are skipped."""
    prefix = "results/" if task is None else f"results/{segment(task)}/"
    yield from _current_of(results, folders(results, prefix))


def _current_of(results: ResultStore, found: Iterable[Folder], *, batch: int = _BATCH) -> Iterator[ResultRecord]:
    for some in in_batches((folder for folder in found if folder.slots), batch):
        names = [folder.slots[max(folder.slots)].name for folder in some]
        for folder, slot in zip(some, settled(results, names), strict=True):
            for earlier in sorted(folder.slots, reverse=True)[1:]:
                # Behind what a transaction has not published, or never will, a result may still be current.
                if isinstance(slot, IntentRecord) or (isinstance(slot, RedirectRecord) and slot.reason == "rollback"):
                    (slot,) = settled(results, [folder.slots[earlier].name])
            if isinstance(slot, ResultRecord):
                yield slot


def settled(results: ResultStore, names: Sequence[str]) -> list[Slot | None]:
    """Read slots, and return what they mean. Damaged ones are None."""
    slots: list[Slot | None] = []
    for name, data in zip(names, results.store.get_many(names), strict=True):
        try:
            slots.append(None if data is None else decode_slot_at(data, name))
        except (DamagedResult, StoreVersionError):
            slots.append(None)
    return results.commits.decisions.all_settled(slots)


def in_batches(items: Iterable[_T], most: int = _BATCH) -> Iterator[list[_T]]:
    """Yield batches of a suitable size for one call of a store."""
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, most)):
        yield batch


def _verify_slot(results: ResultStore, name: str) -> set[str]:
    """Verify a record and its files. Return their names.

    Raises `DamagedResult`, `SignatureRefused` and `StoreVersionError`.
    """
    slot = read_slot(results.store, name)
    if isinstance(slot, IntentRecord):
        slot = slot.result  # its files are there, whatever becomes of it
    if not isinstance(slot, ResultRecord):
        return set()
    if (refused := results.trust.refusal(slot)) is not None:
        raise refused
    try:
        return verify_payload(results.store, slot)
    except DamagedResult:
        # It may have been closed and collected since it was read.
        if isinstance(read_slot(results.store, name), RedirectRecord):
            return set()
        raise


# -- collecting


class _Collecting:
    """The state of one garbage collection."""

    def __init__(self, results: ResultStore, *, grace_seconds: float, dry_run: bool) -> None:
        self.report = Collected()
        self._results = results
        self._grace = grace_seconds
        self._dry_run = dry_run
        self._code: set[str] = set()
        """The digests of code in the keys of results that stay."""

    def collect(self, folder: Folder) -> None:
        for generation in sorted(folder.slots.keys() | folder.payloads.keys()):
            payloads = folder.payloads.get(generation, [])
            kept = self._kept(folder, generation)
            if kept is None:
                continue
            for file in payloads:
                if file.name not in kept:
                    self.report.payloads += 1
                    self._delete(file)

    def collect_code_notes(self, before: float) -> None:
        for file in unused_code_notes(self._results.store, self._code, before=before):
            self.report.notes += 1
            self._delete(file)

    def _delete(self, file: Listed) -> None:
        self.report.bytes += file.size
        if not self._dry_run:
            self._results.store.delete(file.name)

    def _kept(self, folder: Folder, generation: int) -> set[str] | None:
        """Close the generation if it is time to. Return those of its files that stay, or None to leave it alone."""
        results, report = self._results, self.report
        now, store = results.clock.now(), results.store
        try:
            # Read after the listing, so that the payloads of later records are not in the list.
            there = read_slot(store, slot_in(folder.name, generation))
            slot = results.commits.decisions.settled(there)
        except (DamagedResult, StoreVersionError):
            return None  # `verify` reports it, and the next run that needs the result replaces it
        if isinstance(slot, IntentRecord):
            return None  # its transaction goes on, or must be recovered first
        if slot is None:
            if any(now - file.modified < self._grace for file in folder.payloads[generation]):
                return None
            # Staged but never published. If the writer is still alive, its commit will find the redirect.
            if not self._dry_run and not close_absent(store, folder.name, generation, "gc", clock=results.clock):
                return None
            report.closed += 1
            return set()
        if isinstance(slot, RedirectRecord):
            if isinstance(there, IntentRecord):
                if not self._dry_run:
                    redirect_seen(store, folder.name, generation, "rollback", clock=results.clock)
                report.closed += 1
            return set()
        if slot.expires is not None and now - slot.expires >= self._grace:
            if not self._dry_run:
                redirect_seen(store, folder.name, generation, "expired", clock=results.clock)
            report.closed += 1
            return set()
        self._code.update(code_digests(slot))
        return _files_of(results, folder, slot)


def _files_of(results: ResultStore, folder: Folder, record: ResultRecord) -> set[str]:
    """Return the names of the files of a published value."""
    if not record.in_parts:
        return {record.payload_name} if record.payload_name is not None else set()
    try:
        return {file.name for file in all_files(results.store, record)}
    except (DamagedResult, StoreVersionError):
        # Its parts are unknown: `verify` reports it, and the next run that needs the result replaces it.
        files = folder.payloads.get(record.generation, [])
        return {file.name for file in files if file.name.startswith(record.files)}
