"""Stored tables as pyarrow Datasets: read lazily, and only the columns and rows that are used.

pyarrow reads buckets through the store, and so through its client with its credentials, retries and errors. It reads
local files by itself. Pickling a Dataset keeps the store's address and the file names, never credentials.

**Verification.** Opening a file verifies its size. A partial read cannot verify the checksum of the whole file, so the
checksum of each Parquet page is verified when it is read. This covers neither the footer nor files written by polars,
which have no page checksums. Arrow files have none either: local ones are verified as a whole when they are opened, and
then memory-mapped; for those in a bucket only the size is verified. `load` verifies every byte.
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
    """Return the stored table of a record as a `pyarrow.dataset.Dataset`, reading only its schema.

    Raises `SerializationError` if the value is not a table, `DamagedResult` if a file is missing or has the wrong size,
    and `StoreUnreachable`. Reading a damaged page later raises an `OSError` of pyarrow.
    """
    kind = record.codec.partition("/")[0]
    if record.payload is None or kind not in ("parquet", "arrow"):
        raise SerializationError(
            f"a result of {record.task} cannot be scanned",
            because=f"it is stored as {record.codec!r}, and only tables can be scanned",
            hint="use load(), or return a table from the task; a stream must yield a batch, even if that is empty",
        )
    if not record.in_parts:
        return dataset_of([payload_file(store, record)], "arrow" if kind == "arrow" else "parquet")
    parts = read_parts(store, record)
    check_parts(store, record, parts)
    return dataset_of(parts.files, "parquet", parts.manifest.arrow_schema(), checked=True)


def dataset_of(files: Sequence[StoredFile], kind: FileFormat, schema: Any = None, *, checked: bool = False) -> Any:
    """Return a Dataset over files in order. Their common schema is read from the first file if it is not given.

    `checked` says that the sizes of the files were just verified. Raises the errors of `scan`.
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
            files[0].verify()  # raises DamagedResult if the bytes are the cause
            raise SerializationError(
                f"a stored result of {files[0].task} cannot be read", where=files[0].name, because=str(error)
            ) from error
    return ds.FileSystemDataset(fragments, schema, form, filesystem)


def dataset_of_value(value: Any) -> Any:
    """Return a table in memory as a Dataset. Raises `SerializationError` if the value is not a table."""
    if isinstance(value, ds.Dataset):
        return value
    if isinstance(value, list) and value and all(isinstance(each, pa.RecordBatch) for each in value):
        return ds.dataset(pa.Table.from_batches(value))
    if hasattr(value, "__arrow_c_stream__"):
        return ds.dataset(pa.table(value))
    raise SerializationError(
        f"a {type(value).__qualname__} cannot be scanned",
        because="it is not a table, or not stored as one",
        hint="return a table from the task that computes it, and set a cache policy for that task",
    )


def _reached(files: Sequence[StoredFile], kind: FileFormat, checked: bool) -> tuple[Any, list[str]]:
    """Return the file system by which pyarrow opens the files, and their paths in it."""
    local = [file.store.local_path(file.name) for file in files]
    paths = [path for path in local if path is not None]
    # pyarrow follows links and opens files repeatedly, so it reads untrusted stores through the store.
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
