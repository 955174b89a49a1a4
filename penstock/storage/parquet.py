"""Parquet files as all of ours are written and read, and what Parquet does not keep."""

from __future__ import annotations

import io
from typing import Any

from penstock.errors import SerializationError
from penstock.storage.batches import batches_of

# Parquet's own name for the items of a list is not Arrow's: keep the one that the value has.
# Whoever reads only some columns cannot check the whole file: each page has a checksum of its own for that.
_OPTIONS: dict[str, Any] = {"compression": "zstd", "use_compliant_nested_type": False, "write_page_checksum": True}


def write_parquet(table: Any, file: Any) -> None:
    """One Parquet file, as all of ours are written."""
    import pyarrow.parquet as pq

    pq.write_table(table, file, **_OPTIONS)


def write_stream(stream: Any, file: Any) -> tuple[Any, int]:
    """One Parquet file of a stream, a row group for each batch, however large the whole is; its schema and rows.

    Raises `SerializationError` for an empty stream, for one of anything else, and where Parquet would lose something.
    """
    import pyarrow.parquet as pq

    schema, batches = batches_of(stream)
    check_kept(schema)
    rows = 0
    with pq.ParquetWriter(file, schema, **_OPTIONS) as writer:
        for batch in batches:
            writer.write(batch)
            rows += batch.num_rows
    return schema, rows


def read_parquet(data: memoryview, limit: int) -> Any:
    """The table in a file, unless it unpacks to more than `limit` bytes: `SerializationError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_expanded(data, limit)
    return pq.read_table(pa.BufferReader(pa.py_buffer(data)))


def check_expanded(data: memoryview, limit: int) -> None:
    """Refuse a file whose own metadata says that it unpacks to more than `limit` bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    footer = pq.read_metadata(pa.BufferReader(pa.py_buffer(data)))
    expanded = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
    if expanded > limit:
        raise SerializationError(
            f"a table of {expanded} bytes is too large to load",
            because=f"the limit is {limit}",
        )


def lost_of_schema(schema: Any) -> str:
    """What Parquet does not keep of an Arrow schema, in words; empty if it keeps all."""
    import pyarrow as pa

    try:
        back = through_parquet(schema.empty_table()).schema
    except (pa.ArrowException, NotImplementedError, TypeError) as error:
        return str(error)
    if len(back) != len(schema):
        return "columns"
    for before, after in zip(schema, back, strict=True):
        if not before.equals(after, check_metadata=False):
            return f"column {before.name!r} comes back as {after.type}, not {before.type}"
    return "" if (schema.metadata or {}) == (back.metadata or {}) else "the schema's metadata"


def check_kept(schema: Any) -> None:
    """Raises `SerializationError` for a stream whose schema Parquet does not keep: it cannot be pickled instead."""
    lost = lost_of_schema(schema)
    if lost:
        raise SerializationError("a stream of record batches cannot be stored", because=f"Parquet would lose {lost}")


def through_parquet(table: Any) -> Any:
    """The table, written and read again."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    write_parquet(table, sink)
    return pq.read_table(pa.BufferReader(sink.getvalue()))


def columns_of(schema: Any) -> dict[str, str]:
    """Names and types, for people to read."""
    return {field.name: str(field.type) for field in schema}
