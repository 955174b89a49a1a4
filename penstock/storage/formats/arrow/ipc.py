"""Tables as Arrow files, on request: stored as in memory, so that local files are memory-mapped instead of read."""

from __future__ import annotations

from typing import Any, BinaryIO

from penstock.errors import SerializationError
from penstock.storage.formats.arrow.batches import batches_of, is_reader, is_stream
from penstock.storage.formats.arrow.parquet import columns_of
from penstock.storage.formats.arrow.schemas import check_file, unknown_extensions
from penstock.storage.formats.classes import is_believed
from penstock.storage.formats.sizes import arrow_bytes
from penstock.storage.records.records import About


class ArrowFileSerializer:
    """pyarrow Tables, RecordBatches and streams of them in the Arrow IPC file format, uncompressed.

    Files are several times as large as Parquet and support every Arrow type. A table read from a local folder is the
    verified, memory-mapped file: nothing is copied, and the system loads and drops pages on demand. Stores never change
    files; if another program truncates a mapped file, the reading process crashes.
    """

    name = "arrow"
    suffix = ".arrow"
    safe = True

    def can(self, value: Any) -> bool:
        if is_reader(value) or is_stream(value):
            return True
        kind = type(value)
        if kind.__module__.partition(".")[0] != "pyarrow" or kind.__name__ not in ("Table", "RecordBatch"):
            return False
        return not unknown_extensions(value.schema)

    def write(self, value: Any, file: BinaryIO) -> About:
        import pyarrow as pa

        kind = type(value).__name__ if isinstance(value, pa.Table | pa.RecordBatch) else "Table"
        schema, batches = batches_of(value if is_reader(value) or is_stream(value) else iter([value]))
        rows = 0
        options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True, unify_dictionaries=True)
        with pa.ipc.new_file(file, schema, options=options) as writer:
            for batch in batches:
                writer.write(batch)
                rows += batch.num_rows
        return About(type=kind, rows=rows, columns=columns_of(schema))

    def read(self, data: memoryview, about: About, *, limit: int) -> Any:
        table = read_arrow(data, limit, believed=is_believed())
        if about.type != "RecordBatch":
            return table
        return table.combine_chunks().to_batches()[0] if len(table) else _empty_batch(table.schema)


def write_arrow(table: Any, file: BinaryIO) -> None:
    """Write a table as one compressed Arrow file, for tables without a requested format."""
    import pyarrow as pa

    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True, unify_dictionaries=True, compression="zstd")
    with pa.ipc.new_file(file, table.schema, options=options) as writer:
        writer.write_table(table)


def read_arrow(data: memoryview, limit: int, *, believed: bool = True) -> Any:
    """Read the table in an Arrow file, without copying it if it is memory-mapped and not compressed.

    Raises `SerializationError` if it unpacks to more than `limit` bytes. Validates the offsets in files that are not
    `believed`, since other users may have written them.
    """
    import pyarrow as pa

    check_file(data)
    reader = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(data)))
    batches, size = [], 0
    for number in range(reader.num_record_batches):
        batch = reader.get_batch(number)
        if not believed:
            batch.validate(full=True)
        batches.append(batch)
        size += arrow_bytes(batch)
        if size > limit:
            raise SerializationError("a table is too large to load", because=f"the limit is {limit} bytes")
    return pa.Table.from_batches(batches, schema=reader.schema)


def _empty_batch(schema: Any) -> Any:
    import pyarrow as pa

    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
