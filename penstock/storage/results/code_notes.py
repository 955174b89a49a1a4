"""The names of code notes: `code/<2 hex>/<digest>.json`, one for each digest of code in the keys of a store's results.

They are for people. Missing, damaged or forged ones do not affect results.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable

from penstock.storage.records.records import ResultRecord
from penstock.storage.stores.base import MAX_RECORD_BYTES, Listed, Store

FOLDER = "code/"
COMPONENTS = ("task_code", "task_source")
"""The key components that are digests of code."""
_BATCH = 256
_DIGEST = re.compile(r"[0-9a-f]{40}")


def code_digests(record: ResultRecord) -> list[str]:
    """Return the digests of code in a record's key."""
    found = [record.key_parts.get(component) for component in COMPONENTS]
    return [text for text in found if isinstance(text, str) and _DIGEST.fullmatch(text)]


def put_code_note(store: Store, digest: str, data: bytes) -> None:
    """Write or replace a code note, not durably."""
    store.put(_name(digest), data, durable=False)


def get_code_note(store: Store, digest: str) -> bytes | None:
    """Return the unverified bytes of a code note, or None."""
    return store.get(_name(digest)) if _DIGEST.fullmatch(digest) else None


def copy_code_notes(source: Store, target: Store, digests: Iterable[str]) -> None:
    """Copy the code notes that `target` lacks."""
    names = map(_name, sorted(set(digests)))
    while batch := list(itertools.islice(names, _BATCH)):
        for name, data, there in zip(batch, source.get_many(batch), target.get_many(batch), strict=True):
            if data is not None and there is None and len(data) <= MAX_RECORD_BYTES:
                target.put(name, data, durable=False)


def unused_code_notes(store: Store, used: Collection[str], *, before: float) -> list[Listed]:
    """Return the code notes of unused digests that were last written before a time."""
    return [
        file
        for file in store.list(FOLDER)
        if file.modified <= before and file.name.rpartition("/")[2].removesuffix(".json") not in used
    ]


def _name(digest: str) -> str:
    return f"{FOLDER}{digest[:2]}/{digest}.json"
