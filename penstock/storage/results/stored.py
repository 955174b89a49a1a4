"""StoredResult: a published result without its value."""

from __future__ import annotations

from typing import Any

from penstock.storage.records.records import ResultRecord
from penstock.storage.results.generations import Found
from penstock.storage.results.store import ResultStore


class StoredResult:
    """A published result: its record, its location, and access to its value.

    `run.stored(...)`, `future.stored()` in a flow and `penstock.stored(task, key)` return these. Pickling keeps the
    address of the store and the record, not the value. As an argument of a task it has the digest of its value.
    """

    __slots__ = ("_results", "record")

    def __init__(self, results: ResultStore, record: ResultRecord) -> None:
        self._results = results
        self.record = record
        """The stored facts: codec, size in bytes, rows, columns, digest, producer, times."""

    @property
    def url(self) -> str | None:
        """The address of its file, or of the manifest of a value in parts; None for a value inside the record."""
        name = self.record.payload_name
        return None if name is None else self._address(name)

    @property
    def path(self) -> str | None:
        """The path of that file if it is on this machine, else None."""
        name = self.record.payload_name
        return None if name is None else self._results.store.local_path(name)

    @property
    def files(self) -> list[str]:
        """The files from which other programs can read the value: paths on this machine, else addresses.

        One file, the parts of a value in parts in order, or none for a value inside the record.

        Raises:
            DamagedResult: The manifest is missing or damaged.
            StoreUnreachable: The store did not answer.
        """
        from penstock.storage.formats.parts.manifests import value_files  # only if files are requested

        store = self._results.store
        return [store.local_path(f.name) or self._address(f.name) for f in value_files(store, self.record)]

    def load(self) -> Any:
        """Read and verify the value. Every call returns a new object.

        Raises:
            DamagedResult: The stored bytes are missing or changed.
            CodecRefused: The reader does not accept the codec, for example a pickle in an untrusted store.
            StoreUnreachable: The store did not answer.
        """
        return self._results.load(self.record)

    def scan(self) -> Any:
        """Open the table lazily, so that only the columns and rows that are used are read.

        Use it with `.to_table(columns=[...], filter=...)`, `.to_batches(...)`, DuckDB or polars
        (`pl.scan_pyarrow_dataset`).

        Unlike `load`, this does not verify the checksum of a whole file. Opening a file verifies its size. Pages of
        Parquet files have checksums that are verified when read, except in tables written by polars. Arrow files are
        verified as a whole and memory-mapped on this machine, and not verified in a bucket.

        Returns:
            A `pyarrow.dataset.Dataset`.

        Raises:
            SerializationError: The value is not stored as Parquet or Arrow.
            DamagedResult: A file is missing or has the wrong size.
            StoreUnreachable: The store did not answer.
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
    """Return the current result of a key, or None.

    Raises the errors of `ResultStore.look_up`, and `SignatureRefused` if the signature is missing or invalid.
    """
    found = results.look_up(task, key)
    if not isinstance(found, Found):
        return None
    if found.refused is not None:
        raise found.refused  # its digest cannot be trusted either
    return StoredResult(results, found.record)
