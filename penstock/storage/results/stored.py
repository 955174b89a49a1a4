"""StoredResult: what users hold of a published result without having its value."""

from __future__ import annotations

from typing import Any

from penstock.storage.records.records import ResultRecord
from penstock.storage.results.generations import Found
from penstock.storage.results.store import ResultStore


class StoredResult:
    """A published result: its record, where it lies, and its value, whole or lazily.

    From `run.stored(...)`, from `future.stored()` in a flow, or from `penstock.stored(task, key)`. It pickles to the
    address of its store and the record. Passed to a task it counts, in the task's cache key, as the value it is of.
    """

    __slots__ = ("_results", "record")

    def __init__(self, results: ResultStore, record: ResultRecord) -> None:
        self._results = results
        self.record = record
        """What is known about it: codec, size in bytes, rows, columns, digest, producer, times."""

    @property
    def url(self) -> str | None:
        """The address of its file (of a partitioned dataset: of its manifest); None for a value inside the record."""
        name = self.record.payload_name
        return None if name is None else self._address(name)

    @property
    def path(self) -> str | None:
        """The path of that file, if it is on this machine."""
        name = self.record.payload_name
        return None if name is None else self._results.store.local_path(name)

    @property
    def files(self) -> list[str]:
        """The files that other programs read the value from: paths on this machine, else addresses.

        One, the parts of a partitioned dataset in order, or none for a value inside the record. Raises `DamagedResult`,
        `StoreUnreachable`.
        """
        from penstock.storage.formats.parts.manifests import value_files  # not before somebody asks for files

        store = self._results.store
        return [store.local_path(f.name) or self._address(f.name) for f in value_files(store, self.record)]

    def load(self) -> Any:
        """The value, verified: a new object each time. Raises as `ResultStore.load`."""
        return self._results.load(self.record)

    def scan(self) -> Any:
        """The table as a `pyarrow.dataset.Dataset`, of which only the columns and rows that are asked for are read.

        For `.to_table(columns=[...], filter=...)`, `.to_batches(...)`, DuckDB and polars (`pl.scan_pyarrow_dataset`).
        Works for all that is stored as Parquet or Arrow, in one file or in parts; anything else is a
        `SerializationError`. Sizes are verified when a file is opened and checksums page by page as they are read, not
        the checksum of the whole file, as `load` does: damage to what was not read goes unnoticed. Tables from polars
        have no checksums of pages. Arrow files neither: on this machine they are verified as a whole and mapped into
        memory, in a bucket not at all.
        """
        return self._results.scan(self.record)

    def _address(self, name: str) -> str:
        return f"{self._results.store.url.partition('?')[0].rstrip('/')}/{name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredResult, (self._results, self.record)

    def __repr__(self) -> str:
        record = self.record
        return f"StoredResult({record.task}, {record.key[:16]}, {record.codec}, {record.size} bytes)"


def find_stored(results: ResultStore, task: str, key: str) -> StoredResult | None:
    """The current result of a key; None if there is none.

    Raises as `ResultStore.look_up`, and `SignatureRefused` if what is there must not be used.
    """
    found = results.look_up(task, key)
    if not isinstance(found, Found):
        return None
    if found.refused is not None:
        raise found.refused  # its digest, too, is somebody else's word
    return StoredResult(results, found.record)
