"""Finding the most similar of a task's earlier keys, for any number of calls with one pass over the keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

from penstock.explanations.components import flat_differences, flattened
from penstock.graph.explained import Difference
from penstock.storage.records.names import segment
from penstock.storage.records.records import ResultRecord
from penstock.storage.results.code_notes import COMPONENTS
from penstock.storage.results.maintenance import settled
from penstock.storage.results.store import ResultStore
from penstock.storage.stores.base import DiskStore

COMPARED, LISTED = 2_000, 50_000
"""How many earlier results of a task are compared, the latest ones, and how many names are listed for that."""
COMPARED_AFAR, LISTED_AFAR = 256, 10_000
"""The same for stores in which each is a request."""
_LATEST = 8
"""How many records a key is compared with if none is close to it."""
_MAX_INDEXES = 16
_BATCH = 256
_SLOT_SUFFIX = ".record.json"


class Keyed(Protocol):
    """What is compared of a stored result."""

    @property
    def key_parts(self) -> Mapping[str, Any]: ...

    @property
    def created(self) -> float: ...


K = TypeVar("K", bound=Keyed)
_Index = dict[tuple[str, int], int]
"""The index of the latest record by each value that `_ways` returns for the components of its key."""


class Earlier(Generic[K]):
    """The earlier keys of one task."""

    def __init__(self, records: Iterable[K]) -> None:
        self._records = sorted(records, key=lambda record: -record.created)
        self._flat = [flattened(record.key_parts) for record in self._records]
        self._indexes: dict[frozenset[str], _Index] = {}

    def __bool__(self) -> bool:
        return bool(self._records)

    def __iter__(self) -> Iterator[K]:
        """Yield the records, the latest first."""
        return iter(self._records)

    def nearest(self, components: Mapping[str, Any]) -> tuple[K, list[Difference]] | None:
        """Return the record with the most similar key and the differences; None if there are no records.

        The latest of equally similar ones is returned. A record that differs in at most its code and one other
        component is always found; apart from that, only the latest records are compared.
        """
        flat = flattened(components)
        open_ = frozenset(name for name, value in flat.items() if value is None)
        known = {name: value for name, value in flat.items() if value is not None}
        index = self._index(open_)
        found = {index[each] for each in _ways(known) if each in index}
        places = sorted(found) or range(len(self._records))[:_LATEST]
        compared = [(flat_differences(self._flat[place], flat), place) for place in places]
        if not compared:
            return None
        nearest, place = min(compared, key=lambda each: (len(each[0]), each[1]))
        return self._records[place], nearest

    def _index(self, open_: frozenset[str]) -> _Index:
        index = self._indexes.get(open_)
        if index is None:
            index = {}
            if len(self._indexes) < _MAX_INDEXES:
                self._indexes[open_] = index
                for place, flat in enumerate(self._flat):
                    for each in _ways({name: value for name, value in flat.items() if name not in open_}):
                        index.setdefault(each, place)
        return index


def _ways(flat: Mapping[str, str | None]) -> Iterator[tuple[str, int]]:
    """Yield a hash of the components of a key without each one of them in turn, with and without those of code."""
    hashes = {name: hash((name, value)) for name, value in flat.items()}
    code = whole = 0
    for name, each in hashes.items():
        whole ^= each
        if name in COMPONENTS:
            code ^= each
    yield "", whole
    for name, each in hashes.items():
        yield name, whole ^ each
    if code:
        yield "code", whole ^ code
        for name, each in hashes.items():
            if name not in COMPONENTS:
                yield f"code {name}", whole ^ code ^ each


def records_of(results: ResultStore, task: str) -> Iterator[ResultRecord]:
    """Yield the latest published records of a task. Damaged ones are skipped."""
    store = results.store
    compared, most = (COMPARED, LISTED) if isinstance(store, DiskStore) else (COMPARED_AFAR, LISTED_AFAR)
    entries = islice(store.list(f"results/{segment(task)}/"), most)
    listed = [entry for entry in entries if entry.name.endswith(_SLOT_SUFFIX)]
    listed.sort(key=lambda entry: entry.modified, reverse=True)
    names = [entry.name for entry in listed[:compared]]
    for start in range(0, len(names), _BATCH):
        slots = settled(results, names[start : start + _BATCH])
        yield from (slot for slot in slots if isinstance(slot, ResultRecord))
