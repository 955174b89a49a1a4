"""A look-up index beside a store: large batches of records come from a quick place, which may forget or lag behind.

The store stays the truth. What may be remembered are records of results and recipes, which do not change until they are
closed or replaced. Whoever is about to do that, with an index or without, first leaves a *closing* in the store
(`note_closing`): one small object named after the record's key. A reader lists the closings of the tasks it asks
about, each time, and takes those keys from the store itself. So an index need not know what was closed, may be
filled late by a slow reader, and may be lost or flushed at any moment. One that several stores share tells them apart
by an id that lies in each store (a bucket that was emptied has none, or another one).

    penstock-index.json                  the id, made by the first reader that has an index
    closings/results/<task>/<key>        a result of this key was closed, once or often
    closings/recipes/<recipe key>.json   this recipe entry was replaced

Closings stay, one for each key at the most.
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
"""Fewer records of one task are read from the store: a listing, the id and the index would cost as much."""


class LookupIndex(Protocol):
    """Records by name, in spaces that do not see each other. Reads and writes never raise: what it cannot tell is not
    there."""

    def get_many(self, space: str, names: Sequence[str]) -> list[bytes | None]:
        """What was put last under each name, or nothing."""
        ...

    def put_many(self, space: str, records: Mapping[str, bytes]) -> None:
        """Remember records, or do not."""
        ...

    def check(self) -> None:
        """See whether it answers. The one call that raises if it does not, a `PenstockError`."""
        ...


@runtime_checkable
class IndexableStore(Protocol):
    """A store that can use an index."""

    def use_index(self, index: LookupIndex) -> None:
        """From now on large batches of records are asked of the index first, and new ones are told to it."""
        ...


class _Store(Protocol):
    def get(self, name: str) -> bytes | None: ...
    def put_if_absent(self, name: str, data: bytes) -> bool: ...
    def read_many(self, names: Sequence[str]) -> list[bytes | None]: ...
    def list(self, prefix: str) -> Iterator[Listed]: ...


class IndexedReads:
    """Reads of one store that ask an index first. Safe for threads."""

    def __init__(self, store: _Store, index: LookupIndex) -> None:
        self._store = store
        self._index = index
        self._space: str | None = None

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        """As of a store, and as true. Raises what the store raises: an index alone answers nothing."""
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
        """A record was written where there was none: remember it."""
        if _closing_of(name) is not None:
            self._index.put_many(self._space or self._read_space(), {name: data})

    def _open(self, names: Sequence[str], shards: Mapping[str, Mapping[int, str]]) -> list[int]:
        """The positions of names that the index may be asked for: what nobody has closed."""
        asked: list[int] = []
        for shard, keys in shards.items():
            closed = {entry.name.removeprefix(shard) for entry in self._store.list(shard)}
            asked += [i for i, key in keys.items() if key not in closed]
        return asked

    def _read_space(self) -> str:
        """The store's id, asked for each time: the bucket may have been emptied since."""
        data = self._store.get(ID_NAME)
        if data is None:
            made = uuid.uuid4().hex.encode()
            self._store.put_if_absent(ID_NAME, made)
            data = self._store.get(ID_NAME) or made
        self._space = data[:64].decode("ascii", "replace")
        return self._space


def closing_name(record: str) -> str | None:
    """The name of the closing that has to be there before this record changes; None if nobody remembers such ones."""
    place = _closing_of(record)
    return None if place is None else "".join(place)


def _closing_of(name: str) -> tuple[str, str] | None:
    """The folder of a record's closing, and its name there."""
    kind, _, rest = name.partition("/")
    if kind == "results" and name.endswith(".record.json"):
        task, _, below = rest.partition("/")
        return f"closings/results/{task}/", below.partition("/")[0]
    if kind == "recipes":
        return "closings/recipes/", rest.rpartition("/")[2]
    return None


def index_from(address: str) -> LookupIndex:
    """The index at an address, which is the URL of a Redis. Touches nothing yet; raises `ConfigurationError`."""
    if address.partition("://")[0] not in REDIS_SCHEMES:
        raise ConfigurationError(
            "this is no address of a look-up index",
            where=redacted(address),
            because=f"those begin with {', '.join(f'{scheme}://' for scheme in REDIS_SCHEMES)}",
        )
    from penstock.storage.stores.redis_index import RedisIndex  # on use, as all that needs an extra

    return RedisIndex.from_url(address)


def with_index(store: Store, index: LookupIndex | None) -> Store:
    """The same store, which from now on uses the index if it is one in a bucket; others are as quick by themselves."""
    if index is not None and isinstance(store, IndexableStore):
        store.use_index(index)
    return store
