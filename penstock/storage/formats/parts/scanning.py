"""Stored tables as pyarrow Datasets: read lazily, and of a file no more than the columns and rows that are asked for.

pyarrow reads through the store, so that a bucket is reached by the one client there is, with its credentials, retries
and errors; files of this machine it reads by itself. A Dataset pickles to the store's address and the names of the
files, never with credentials.

**What is verified.** Sizes, when a file is opened. A partial read cannot check the checksum of the whole file, so of
Parquet the checksum of each page is checked as it is read. Not covered are the footer, and files that polars wrote,
which have none. Arrow files have none either: on this machine they are verified as a whole when they are opened, and
then mapped into memory; in a bucket only their size is. `load` verifies every byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from penstock.errors import SerializationError
from penstock.storage.formats.arrow.filesystem import filesystem_of, path_of
from penstock.storage.formats.parts.manifests import check_parts, payload_file, read_parts
from penstock.storage.formats.verified_files import StoredFile
from penstock.storage.records.records import ResultRecord
from penstock.storage.stores.base import Store

FileFormat = Literal["parquet", "arrow"]


def scan(store: Store, record: ResultRecord) -> Any:
    """The stored table of a record as a `pyarrow.dataset.Dataset`; reads nothing but what says which columns it has.

    Raises `SerializationError` for a value that is no table, `DamagedResult` if a file is missing or of another size,
    and `StoreUnreachable`. While it is read, a damaged page is an `OSError` of pyarrow's.
    """
    kind = record.codec.partition("/")[0]
    if record.payload is None or kind not in ("parquet", "arrow"):
        raise SerializationError(
            f"a result of {record.task} cannot be scanned",
            because=f"it is stored as {record.codec!r}, and only tables can",
            hint="load it, or have its task return a table",
        )
    if not record.in_parts:
        return dataset_of([payload_file(store, record)], "arrow" if kind == "arrow" else "parquet")
    parts = read_parts(store, record)
    check_parts(store, record, parts)
    return dataset_of(parts.files, "parquet", parts.manifest.arrow_schema(), checked=True)


def dataset_of(files: Sequence[StoredFile], kind: FileFormat, schema: Any = None, *, checked: bool = False) -> Any:
    """One Dataset over files in order; of one schema, which is read from the first file if it is not given.

    Raises as `scan`. With `checked` the files were just there, of the sizes they should have.
    """
    form = _format(kind)
    filesystem, paths = _reached(files, kind, checked)
    fragments = [
        form.make_fragment(path, filesystem, **_size_of(file, kind)) for path, file in zip(paths, files, strict=True)
    ]
    if schema is None:
        try:
            schema = fragments[0].physical_schema
        except (OSError, pa.ArrowException) as error:
            files[0].verify()  # says so if it is because of its bytes
            raise SerializationError(
                f"a stored result of {files[0].task} does not read back", where=files[0].name, because=str(error)
            ) from error
    return ds.FileSystemDataset(fragments, schema, form, filesystem)


def dataset_of_value(value: Any) -> Any:
    """A table that is in memory, as a Dataset, for whoever takes one. Raises `SerializationError` for what is none."""
    if isinstance(value, ds.Dataset):
        return value
    if isinstance(value, list) and value and all(isinstance(each, pa.RecordBatch) for each in value):
        return ds.dataset(pa.Table.from_batches(value))
    if hasattr(value, "__arrow_c_stream__"):
        return ds.dataset(pa.table(value))
    raise SerializationError(
        f"a {type(value).__qualname__} cannot be scanned",
        because="it is no table, or not stored as one",
        hint="have the task that makes it return a table, and give that task a cache policy",
    )


def _reached(files: Sequence[StoredFile], kind: FileFormat, checked: bool) -> tuple[Any, list[str]]:
    """The file system by which pyarrow finds the files, and what it calls them there."""
    local = [file.store.local_path(file.name) for file in files]
    paths = [path for path in local if path is not None]
    # pyarrow follows links and opens a file more than once: where others can write, it reads through the store.
    if len(paths) < len(files) or not files[0].store.trusted:
        return filesystem_of(files[0].store), list(map(path_of, files))
    for file in files:
        if kind == "arrow":
            file.verify()
        elif not checked:
            file.open().close()
    return pafs.LocalFileSystem(use_mmap=kind == "arrow"), paths


def _format(kind: FileFormat) -> Any:
    if kind == "arrow":
        return ds.IpcFileFormat()
    return ds.ParquetFileFormat(
        default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True, pre_buffer=True)
    )


def _size_of(file: StoredFile, kind: FileFormat) -> dict[str, int]:
    return {"file_size": file.size} if kind == "parquet" else {}
