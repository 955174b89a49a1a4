"""Writing Parquet files, and detecting what Parquet would lose."""

from __future__ import annotations

import io
import sys
from typing import Any

from penstock.errors import SerializationError
from penstock.storage.formats.arrow.batches import batches_of
from penstock.storage.formats.arrow.parquet_reading import read_parquet
from penstock.storage.formats.arrow.schemas import unknown_extensions

# Keeps Arrow's names of list items, which differ from Parquet's. Page checksums verify partial reads, which cannot use
# the checksum of the whole file.
_OPTIONS: dict[str, Any] = {"compression": "zstd", "use_compliant_nested_type": False, "write_page_checksum": True}


def write_parquet(table: Any, file: Any) -> None:
    """Write a table as a Parquet file with the common options."""
    import pyarrow.parquet as pq

    pq.write_table(table.unify_dictionaries(), file, **_OPTIONS)


def write_stream(stream: Any, file: Any) -> tuple[Any, int]:
    """Write a stream of any size as a Parquet file with a row group for each batch. Return its schema and rows.

    Raises `SerializationError` if the stream is empty, yields anything but batches, or would lose data in Parquet.
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


def lost_of_schema(schema: Any) -> str:
    """Describe what Parquet would lose of an Arrow schema; empty if nothing."""
    import pyarrow as pa

    extension = unknown_extensions(schema)
    if extension:
        return f"the extension type {extension}"
    try:
        back = through_parquet(schema.empty_table()).schema
    except (pa.ArrowException, SerializationError, NotImplementedError, TypeError) as error:
        return str(error)
    if len(back) != len(schema):
        return "columns"
    for before, after in zip(schema, back, strict=True):
        if not before.equals(after, check_metadata=True):
            return f"the type of column {before.name!r} ({before.type} would become {after.type})"
    return "" if (schema.metadata or {}) == (back.metadata or {}) else "the schema's metadata"


def lost_of_table(table: Any) -> str:
    """Describe what Parquet would lose of a Table or RecordBatch, including dictionaries; empty if nothing."""
    import pyarrow as pa

    if not table.num_columns and table.num_rows:
        return "the number of rows, since there are no columns"
    table = pa.table(table)
    lost = lost_of_schema(table.schema)
    if lost:
        return lost
    for field, column in zip(table.schema, table.columns, strict=True):
        if _has_dictionary(field.type) and not (pa.types.is_dictionary(field.type) and _keeps_dictionary(column)):
            return f"the dictionary of column {field.name!r}"
    return ""


def _has_dictionary(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return True
    if isinstance(kind, pa.BaseExtensionType):
        return _has_dictionary(kind.storage_type)
    return any(_has_dictionary(kind.field(n).type) for n in range(kind.num_fields))


def _keeps_dictionary(column: Any) -> bool:
    """Return whether Parquet preserves the dictionary's values in order: not if it has nulls or there are no rows."""
    import pyarrow as pa

    if len(column) == 0:
        return not any(len(chunk.dictionary) for chunk in column.chunks)
    whole = column.unify_dictionaries()
    dictionary = whole.chunk(0).dictionary
    if dictionary.null_count:
        return False
    back = through_parquet(pa.table({"c": whole.slice(0, 1)})).column(0)
    return bool(back.chunk(0).dictionary.equals(dictionary))


def check_kept(schema: Any) -> None:
    """Raise `SerializationError` if Parquet would lose a part of a stream's schema, since streams cannot be pickled."""
    lost = lost_of_schema(schema)
    if lost:
        raise SerializationError("a stream of record batches cannot be stored", because=f"Parquet would lose {lost}")


def through_parquet(table: Any) -> Any:
    """Return the table after writing and reading it."""
    sink = io.BytesIO()
    write_parquet(table, sink)
    return read_parquet(memoryview(sink.getvalue()), sys.maxsize)


def columns_of(schema: Any) -> dict[str, str]:
    """Return column names and types, for people."""
    return {field.name: str(field.type) for field in schema}
