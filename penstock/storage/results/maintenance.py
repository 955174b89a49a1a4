"""Looking after a store: list, show, remove, collect garbage, verify, measure.

All of it may run beside any number of writers and readers, at any time. What is deleted was closed before: a
generation that holds nothing is closed by `put_if_absent`, so a slow writer that comes back learns of it and publishes
in the next one, and a reader that finds a payload gone looks a second time. No rule here rests on a clock but the
grace periods, which only decide how soon.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from penstock.errors import DamagedResult, SignatureRefused, StoreVersionError
from penstock.storage.formats.parts.manifests import all_files
from penstock.storage.records.encoding import decode_slot_at
from penstock.storage.records.names import key_folder, segment, slot_in
from penstock.storage.records.records import RedirectRecord, ResultRecord, Slot
from penstock.storage.results.code_notes import code_digests, unused_notes
from penstock.storage.results.generations import close_absent, read_slot, redirect_seen
from penstock.storage.results.payloads import verify_payload
from penstock.storage.results.store import ResultStore
from penstock.storage.stores.base import DiskStore, Listed, SweepStore

DAY = 24 * 3600.0
_MINIMAL_SWEEP = 3600.0
_BATCH = 256
_SLOT_SUFFIX = ".record.json"


@dataclass(frozen=True, slots=True)
class Summary:
    """One current result, for a listing."""

    task: str
    key: str
    generation: int
    codec: str
    size: int
    """Bytes of the value as stored."""
    created: float
    """Seconds since the epoch."""
    expires: float | None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the store that is not as it was written."""

    name: str
    what: str


@dataclass(slots=True)
class Verified:
    """What `verify` saw."""

    records: int = 0
    problems: list[Problem] = field(default_factory=list)
    orphans: int = 0
    """Payloads that no record leads to, left by killed or slow writers. Not a problem: `gc` removes them."""


@dataclass(slots=True)
class Collected:
    """What `gc` removed, or would remove."""

    payloads: int = 0
    bytes: int = 0
    closed: int = 0
    """Generations closed because their writer is gone or their result expired."""
    leftovers: int = 0
    """Unfinished files of killed writers."""
    notes: int = 0
    """Notes of code that no result here is made by any more."""


@dataclass(slots=True)
class Usage:
    """Bytes and files, of one task or of all."""

    results: int = 0
    bytes: int = 0
    disk: int | None = None
    """What they take on disk, with their folders, where the store knows."""


@dataclass(slots=True)
class Folder:
    """All files of one (task, key)."""

    name: str
    slots: dict[int, Listed]
    payloads: dict[int, list[Listed]]


def ls(results: ResultStore, *, task: str | None = None) -> Iterator[Summary]:
    """The current result of every key, of one task or of all, in order of their names. Expired ones are among them."""
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
    """The current results whose key is `key` or begins so. Only their records are read; the names tell which."""
    whole = segment(key)
    named = ((folder.name.split("/")[2], folder) for folder in folders(results, "results/"))
    found = (folder for name, folder in named if name == whole or name.startswith(key))
    return [_summary(record) for record in _current_of(results, found)]


def tasks(results: ResultStore) -> list[str]:
    """The tasks that have results, from one record of each."""
    found = []
    for _, of_task in itertools.groupby(folders(results, "results/"), key=lambda folder: folder.name.split("/")[1]):
        record = next(_current_of(results, of_task, batch=1), None)
        if record is not None:
            found.append(record.task)
    return sorted(found)


def show(results: ResultStore, task: str, key: str) -> list[Slot]:
    """Every generation of a key that can be read, oldest first."""
    slots = []
    for folder in folders(results, key_folder(task, key)):
        for generation in sorted(folder.slots):
            try:
                slot = read_slot(results.store, slot_in(folder.name, generation))
            except (DamagedResult, StoreVersionError):
                continue
            if slot is not None:
                slots.append(slot)
    return slots


def rm(results: ResultStore, task: str, key: str | None = None) -> int:
    """Invalidate one result, or all of a task, and delete the payloads; returns how many. The closed slots stay."""
    keys = [key] if key is not None else [record.key for record in current_records(results, task=task)]
    removed = 0
    for each in keys:
        removed += results.invalidate(task, each)
        for folder in folders(results, key_folder(task, each)):
            _Collecting(results, grace_seconds=DAY, dry_run=False).collect(folder)
    return removed


def gc(results: ResultStore, *, grace_seconds: float = DAY, dry_run: bool = False) -> Collected:
    """Delete the payloads that no reader can be led to any more, and close what its writer left open.

    Gone are payloads of closed generations and of attempts that lost at once; unpublished payloads, expired results and
    unfinished files after `grace_seconds` (unfinished files after an hour at the least). Safe with a grace of 0:
    a slow writer then publishes again in the next generation.
    """
    collecting = _Collecting(results, grace_seconds=grace_seconds, dry_run=dry_run)
    began = results.clock.now()
    for folder in folders(results, "results/"):
        collecting.collect(folder)
    # A note is written when its first result is under way: what was written since the beginning may be one's.
    collecting.collect_notes(began - grace_seconds)
    report = collecting.report
    if isinstance(results.store, SweepStore) and not dry_run:
        report.leftovers = results.store.sweep(older_than=max(grace_seconds, _MINIMAL_SWEEP))
    return report


def verify(results: ResultStore) -> Verified:
    """Read every record and every byte of every published payload, and say what is not as it was written or signed."""
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
    """Bytes and number of current results by task; bytes are those of all files of the task's folder."""
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
    """The files of each (task, key) below `prefix`; names that are not ours are passed over."""
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
    """The published record of the last generation of each key; damaged ones are passed over."""
    prefix = "results/" if task is None else f"results/{segment(task)}/"
    yield from _current_of(results, folders(results, prefix))


def _current_of(results: ResultStore, found: Iterable[Folder], *, batch: int = _BATCH) -> Iterator[ResultRecord]:
    last = (folder.slots[max(folder.slots)].name for folder in found if folder.slots)
    for names in in_batches(last, batch):
        for name, data in zip(names, results.store.get_many(names), strict=True):
            try:
                slot = None if data is None else decode_slot_at(data, name)
            except (DamagedResult, StoreVersionError):
                continue
            if isinstance(slot, ResultRecord):
                yield slot


def in_batches(names: Iterable[str], most: int = _BATCH) -> Iterator[list[str]]:
    """The names, some at a time, as many as one call of a store should read."""
    remaining = iter(names)
    while batch := list(itertools.islice(remaining, most)):
        yield batch


def _verify_slot(results: ResultStore, name: str) -> set[str]:
    """Check one record and its files; returns their names.

    Raises `DamagedResult`, `SignatureRefused`, `StoreVersionError`.
    """
    slot = read_slot(results.store, name)
    if not isinstance(slot, ResultRecord):
        return set()
    if (refused := results.trust.refusal(slot)) is not None:
        raise refused
    try:
        return verify_payload(results.store, slot)
    except DamagedResult:
        # Closed and collected since we read it?
        if isinstance(read_slot(results.store, name), RedirectRecord):
            return set()
        raise


# -- collecting


class _Collecting:
    """One collection of garbage, and what it has met."""

    def __init__(self, results: ResultStore, *, grace_seconds: float, dry_run: bool) -> None:
        self.report = Collected()
        self._results = results
        self._grace = grace_seconds
        self._dry_run = dry_run
        self._code: set[str] = set()
        """The digests of code that results which stay were made by."""

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

    def collect_notes(self, before: float) -> None:
        for file in unused_notes(self._results.store, self._code, before=before):
            self.report.notes += 1
            self._delete(file)

    def _delete(self, file: Listed) -> None:
        self.report.bytes += file.size
        if not self._dry_run:
            self._results.store.delete(file.name)

    def _kept(self, folder: Folder, generation: int) -> set[str] | None:
        """The files of a generation that stay (empty: none does), after closing the generation if it is time to.

        None: leave all of them alone.
        """
        results, report = self._results, self.report
        now, store = results.clock.now(), results.store
        try:
            # Read after the listing: whatever is published later has a payload that is not in the list.
            slot = read_slot(store, slot_in(folder.name, generation))
        except (DamagedResult, StoreVersionError):
            return None  # `verify` reports it, and the next run that wants the result replaces it
        if slot is None:
            if any(now - file.modified < self._grace for file in folder.payloads[generation]):
                return None
            # Somebody staged these and never published. If he is alive after all, his commit meets the redirect.
            if not self._dry_run and not close_absent(store, folder.name, generation, "gc", clock=results.clock):
                return None
            report.closed += 1
            return set()
        if isinstance(slot, RedirectRecord):
            return set()
        if slot.expires is not None and now - slot.expires >= self._grace:
            if not self._dry_run:
                redirect_seen(store, folder.name, generation, "expired", clock=results.clock)
            report.closed += 1
            return set()
        self._code.update(code_digests(slot))
        return _files_of(results, folder, slot)


def _files_of(results: ResultStore, folder: Folder, record: ResultRecord) -> set[str]:
    """The names of a published value's files."""
    if not record.in_parts:
        return {record.payload_name} if record.payload_name is not None else set()
    try:
        return {file.name for file in all_files(results.store, record)}
    except (DamagedResult, StoreVersionError):
        # Nobody knows which parts it has: `verify` reports it, and whoever wants the result replaces it.
        files = folder.payloads.get(record.generation, [])
        return {file.name for file in files if file.name.startswith(record.files)}
