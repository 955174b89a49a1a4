"""Copying results with their records from one store to another, where they become hits."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from penstock.errors import DamagedResult, StoreVersionError
from penstock.storage.records.encoding import decode_recipe_at
from penstock.storage.records.records import RecipeEntry, ResultRecord
from penstock.storage.results.code_notes import code_digests, copy_code_notes
from penstock.storage.results.generations import Found
from penstock.storage.results.maintenance import current_records
from penstock.storage.results.payload_copying import copy_payload
from penstock.storage.results.salts import copy_salt
from penstock.storage.results.store import Published, ResultStore, Undecided, place

_BATCH = 256


@dataclass(slots=True)
class Copied:
    """The result of `copy`."""

    results: int = 0
    bytes: int = 0
    """The total size of the copied values."""
    kept: int = 0
    """Results that the target already had, which are not replaced."""
    damaged: int = 0
    """Damaged results, which are not copied."""
    refused: int = 0
    """Results that must not be used in one of the stores because of their signature, which are not copied."""
    recipes: int = 0


def copy(source: ResultStore, target: ResultStore, *, task: str | None = None) -> Copied:
    """Copy the current results of one task or all tasks, verifying their bytes, together with recipes and code notes.

    Results that `target` already has are kept. Each copy is published like any other result, so this can run
    concurrently with readers and writers of both stores, and be repeated after an interruption.

    If `target` signs results, copies are signed again, since a signature is bound to its place. This only applies to
    results with a valid signature in `source`, or if `source` is trusted. Other copies are not signed.

    Args:
        source: The results to copy.
        target: Where to publish them.
        task: The identity of a task. None copies the results of all tasks.

    Raises:
        StoreError: One of the stores failed.
    """
    done = Copied()
    now = source.clock.now()
    code: set[str] = set()
    for record in current_records(source, task=task):
        if record.expires is not None and record.expires <= now:
            continue
        taken = source.trust.vouches_for(record) or _takes_unsigned(target)
        if not taken or source.trust.refusal(record) is not None:
            done.refused += 1
            continue
        try:
            copied = _copy_one(source, target, record)
        except DamagedResult:
            done.damaged += 1
            continue
        code.update(code_digests(record))
        if copied:
            done.results += 1
            done.bytes += record.size
        else:
            done.kept += 1
    copy_code_notes(source.store, target.store, code)
    copy_salt(source.store, target.store)
    for entry in _recipes(source, task):
        target.put_recipe(entry, sign=source.trust.vouches_for(entry))
        done.recipes += 1
    return done


def _takes_unsigned(target: ResultStore) -> bool:
    return target.trust.signatures is None or not target.trust.signatures.required


def _copy_one(source: ResultStore, target: ResultStore, record: ResultRecord) -> bool:
    """Copy one result. Return False if the target already has it, or another writer published it meanwhile."""
    while True:
        found = target.look_up(record.task, record.key)
        if isinstance(found, Found):
            return False
        generation, closes = place(found)
        copy = msgspec.structs.replace(record, generation=generation, attempt=uuid.uuid4().hex, transaction="")
        copy_payload(source.store, record, target.store, copy)
        published = target.commit(target.commits.staged(copy, closes, sign=source.trust.vouches_for(record)))
        if isinstance(published, Published):
            return published.won
        if isinstance(published, Undecided):
            return False  # a transaction is about to publish it


def _recipes(source: ResultStore, task: str | None) -> Iterator[RecipeEntry]:
    names = [file.name for file in source.store.list("recipes/")]
    for start in range(0, len(names), _BATCH):
        batch = names[start : start + _BATCH]
        for name, data in zip(batch, source.store.get_many(batch), strict=True):
            try:
                entry = None if data is None else decode_recipe_at(data, name)
            except (DamagedResult, StoreVersionError):
                continue
            if entry is not None and task in (None, entry.task):
                yield entry
