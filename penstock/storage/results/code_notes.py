"""Where the notes of code lie: `code/<2 hex>/<digest>.json`, one for each digest of code that results here are of.

Only people read them: they may be missing, damaged or a stranger's, and no result is worse for it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable

from penstock.storage.records.records import ResultRecord
from penstock.storage.stores.base import MAX_RECORD_BYTES, Listed, Store

FOLDER = "code/"
COMPONENTS = ("task_code", "task_source")
"""The parts of keys that are digests of code."""
_BATCH = 256
_DIGEST = re.compile(r"[0-9a-f]{40}")


def code_digests(record: ResultRecord) -> list[str]:
    """The digests of code in a record's key, as far as they are some."""
    found = [record.key_parts.get(component) for component in COMPONENTS]
    return [text for text in found if isinstance(text, str) and _DIGEST.fullmatch(text)]


def put_note(store: Store, digest: str, data: bytes) -> None:
    """Write or replace a note. A power cut may take it."""
    store.put(_name(digest), data, durable=False)


def get_note(store: Store, digest: str) -> bytes | None:
    """The bytes under the name of a note, whatever they are."""
    return store.get(_name(digest)) if _DIGEST.fullmatch(digest) else None


def copy_notes(source: Store, target: Store, digests: Iterable[str]) -> None:
    """Copy the notes that `target` does not have."""
    names = map(_name, sorted(set(digests)))
    while batch := list(itertools.islice(names, _BATCH)):
        for name, data, there in zip(batch, source.get_many(batch), target.get_many(batch), strict=True):
            if data is not None and there is None and len(data) <= MAX_RECORD_BYTES:
                target.put(name, data, durable=False)


def unused_notes(store: Store, used: Collection[str], *, before: float) -> list[Listed]:
    """Notes of digests that are not among the used ones, last written before that time."""
    return [
        file
        for file in store.list(FOLDER)
        if file.modified <= before and file.name.rpartition("/")[2].removesuffix(".json") not in used
    ]


def _name(digest: str) -> str:
    return f"{FOLDER}{digest[:2]}/{digest}.json"
