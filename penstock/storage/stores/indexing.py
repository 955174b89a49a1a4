"""Lookup indexes: a fast cache for large batches of records, which may lose entries or be outdated.

The store remains authoritative. An index caches records of results and recipes, which do not change until they are
closed or replaced. Before a writer does that, with or without an index, it writes a *closing* to the store
(`note_closing`): a small object named after the record's key. On every lookup, readers list the closings of the tasks
concerned and read those keys from the store. So an index need not know what was closed, may be filled late by a slow
reader, and may be lost or flushed at any time. An index that several stores share distinguishes them by an id inside
each store (a bucket that was emptied has none or a new one).

    penstock-index.json                  the id, created by the first reader with an index
    closings/results/<task>/<key>        a result of this key was closed, once or more
    closings/recipes/<recipe key>.json   this recipe entry was replaced

Closings are kept; there is at most one for each key.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from penstock.errors import ConfigurationError
from penstock.redis.schemes import REDIS_SCHEMES
from penstock.settings import redacted
from penstock.storage.stores.base import Listed, Store

ID_NAME = "penstock-index.json"
MIN_BATCH = 16
"""Smaller batches of records of one task are read from the store: a listing, the id and the index cost as much."""


class LookupIndex(Protocol):
    """A cache of records by name, in separate spaces. Reads and writes never raise; failures count as misses."""

    def get_many(self, space: str, names: Sequence[str]) -> list[bytes | None]:
        """Return the last record put under each name, or None."""
        ...

    def put_many(self, space: str, records: Mapping[str, bytes]) -> None:
        """Store records, if possible."""
        ...

    def check(self) -> None:
        """Check whether the index answers. Raises a `PenstockError` if it does not."""
        ...


@runtime_checkable
class IndexableStore(Protocol):
    """A store that can use an index."""

    def use_index(self, index: LookupIndex) -> None:
        """Use an index for large batches of records, and add new records to it."""
        ...


class _Store(Protocol):
    def get(self, name: str) -> bytes | None: ...
    def put_if_absent(self, name: str, data: bytes) -> bool: ...
    def read_many(self, names: Sequence[str]) -> list[bytes | None]: ...
    def list(self, prefix: str) -> Iterator[Listed]: ...


class IndexedReads:
    """Reads of one store that try an index first. Safe for use by several threads."""

    def __init__(self, store: _Store, index: LookupIndex) -> None:
        self._store = store
        self._index = index
        self._space: str | None = None

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        """Return what `Store.get_many` returns, with the same guarantees. Raises the store's errors."""
        shards: dict[str, dict[int, str]] = {}
        for i, name in enumerate(names):
            if (place := _closing_of(name)) is not None:
                shards.setdefault(place[0], {})[i] = place[1]
        asked = self._open(names, {shard: keys for shard, keys in shards.items() if len(keys) >= MIN_BATCH})
        if not asked:
            return self._store.read_many(names)
        space = self._read_space()
        found: list[bytes | None] = [None] * len(names)
        for i, data in zip(asked, self._index.get_many(space, [names[i] for i in asked]), strict=True):
            found[i] = data
        missing = [i for i, data in enumerate(found) if data is None]
        for i, data in zip(missing, self._store.read_many([names[i] for i in missing]), strict=True):
            found[i] = data
        learnt = set(missing).intersection(asked)
        self._index.put_many(space, {names[i]: data for i in sorted(learnt) if (data := found[i]) is not None})
        return found

    def wrote(self, name: str, data: bytes) -> None:
        """Add a record to the index that was written under a new name."""
        if _closing_of(name) is not None:
            self._index.put_many(self._space or self._read_space(), {name: data})

    def _open(self, names: Sequence[str], shards: Mapping[str, Mapping[int, str]]) -> list[int]:
        """Return the positions of names that may be read from the index because they are not closed."""
        asked: list[int] = []
        for shard, keys in shards.items():
            closed = {entry.name.removeprefix(shard) for entry in self._store.list(shard)}
            asked += [i for i, key in keys.items() if key not in closed]
        return asked

    def _read_space(self) -> str:
        """Read the store's id every time, since the bucket may have been emptied."""
        data = self._store.get(ID_NAME)
        if data is None:
            made = uuid.uuid4().hex.encode()
            self._store.put_if_absent(ID_NAME, made)
            data = self._store.get(ID_NAME) or made
        self._space = data[:64].decode("ascii", "replace")
        return self._space


def closing_name(record: str) -> str | None:
    """Return the name of the closing that must exist before this record changes; None if it is never cached."""
    place = _closing_of(record)
    return None if place is None else "".join(place)


def _closing_of(name: str) -> tuple[str, str] | None:
    """Return the folder and name of a record's closing."""
    kind, _, rest = name.partition("/")
    if kind == "results" and name.endswith(".record.json"):
        task, _, below = rest.partition("/")
        return f"closings/results/{task}/", below.partition("/")[0]
    if kind == "recipes":
        return "closings/recipes/", rest.rpartition("/")[2]
    return None


def index_from(address: str) -> LookupIndex:
    """Return the index at an address, which is a Redis URL, without connecting yet. Raises `ConfigurationError`."""
    if address.partition("://")[0] not in REDIS_SCHEMES:
        raise ConfigurationError(
            "invalid address of a lookup index",
            where=redacted(address),
            because=f"it must begin with {', '.join(f'{scheme}://' for scheme in REDIS_SCHEMES)}",
            hint="write, for example, redis://host:6379/0",
        )
    from penstock.storage.stores.redis_index import RedisIndex  # needs an optional package

    return RedisIndex.from_url(address)


def with_index(store: Store, index: LookupIndex | None) -> Store:
    """Make a store in a bucket use the index, and return it. Other stores are fast without one."""
    if index is not None and isinstance(store, IndexableStore):
        store.use_index(index)
    return store
