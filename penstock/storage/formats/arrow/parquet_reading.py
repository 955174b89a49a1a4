"""Reading Parquet files that anyone may have written: checked before they are parsed, unpacked no further than allowed.

A few hundred bytes may stand for gigabytes. What a footer says of that is checked first, but only what is unpacked
tells, so a file is read in batches, and text that is encoded by a dictionary is measured before it is spread out.
"""

from __future__ import annotations

from typing import Any

from penstock.errors import SerializationError
from penstock.storage.formats.arrow.schemas import check_parquet
from penstock.storage.formats.sizes import arrow_bytes

_BATCH_ROWS = 1 << 16
_SLACK = 1 << 28
"""Bytes that a batch may need beyond the limit, at worst."""


def read_parquet(data: memoryview, limit: int, *, believed: bool = True) -> Any:
    """The table in a file, unless it unpacks to more than `limit` bytes: `SerializationError`.

    What is not `believed` is validated as well, value by value.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    message = check_parquet(data)
    source = pa.BufferReader(pa.py_buffer(data))
    file = pq.ParquetFile(source)
    check_footer(file.metadata, limit)
    schema = file.schema_arrow
    spread = [] if believed else _spread_columns(file.metadata, schema)
    if spread:
        file = pq.ParquetFile(source, read_dictionary=spread)
    batches, size = [], 0
    # Before pyarrow 19 a file without rows had no batches to ask for.
    for batch in file.iter_batches(batch_size=_BATCH_ROWS) if file.num_row_groups else ():
        size += sum(map(_unpacked, batch.columns)) if spread else arrow_bytes(batch)
        if size > limit:
            raise _too_large(limit)
        batches.append(_as_schema(batch, schema) if spread else batch)
    table = pa.Table.from_batches(batches, schema=schema)
    if not schema.names:
        table = _of_rows(file.metadata.num_rows, schema)
    if not believed:
        table.validate(full=True)
    return table if message is None else as_written(table, message)


def as_written(table: Any, message: bytes) -> Any:
    """The table with the types and metadata that it was written with, where Parquet or this pyarrow have others.

    Raises `SerializationError` if it cannot have them.
    """
    import pyarrow as pa

    try:
        schema = pa.ipc.read_schema(pa.py_buffer(message))
        return table if table.schema.equals(schema, check_metadata=True) else _as_schema(table, schema)
    except (pa.ArrowException, ValueError) as error:
        raise SerializationError(
            "a table comes back with other types than it was written with",
            because=str(error),
            hint="it was written with another version of pyarrow: use that one here, or refresh the result",
        ) from error


def _as_schema(table: Any, schema: Any) -> Any:
    columns = [
        column if column.type == field.type else _cast(column, field.type)
        for column, field in zip(table.columns, schema, strict=True)
    ]
    return type(table).from_arrays(columns, schema=schema)


def _cast(column: Any, wanted: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_dictionary(wanted) and not pa.types.is_dictionary(column.type):
        return column.dictionary_encode().cast(wanted)
    return column.cast(wanted)


def check_unpacked(data: memoryview, limit: int, *, believed: bool = True) -> None:
    """Raises `SerializationError` for a file that unpacks to more than `limit` bytes, for another reader of it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_parquet(data)
    source = pa.BufferReader(pa.py_buffer(data))
    metadata = pq.ParquetFile(source).metadata
    check_footer(metadata, limit)
    if believed:
        return
    schema = pq.ParquetFile(source).schema_arrow
    size = sum(metadata.num_rows * _width(field.type) for field in schema)
    spread = _spread_columns(metadata, schema)
    if spread and size <= limit:
        for batch in pq.ParquetFile(source, read_dictionary=spread).iter_batches(_BATCH_ROWS, columns=spread):
            size += sum(map(_unpacked, batch.columns))
            if size > limit:
                break
    if size > limit:
        raise _too_large(limit)


def _width(kind: Any) -> int:
    try:
        return int(kind.bit_width) // 8
    except ValueError:
        return 1  # of text and nested types only their values tell


def check_footer(metadata: Any, limit: int) -> None:
    """Refuse a file whose own metadata says that it unpacks to more than `limit` bytes."""
    expanded = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    if expanded > limit:
        raise SerializationError(f"a table of {expanded} bytes is too large to load", because=f"the limit is {limit}")


def _spread_columns(metadata: Any, schema: Any) -> list[str]:
    """The columns of text of which a batch could be too large, if all of its values were the longest there can be."""
    import pyarrow as pa

    texts = {pa.string(), pa.large_string(), pa.binary(), pa.large_binary()}
    names = {field.name for field in schema if field.type in texts and "." not in field.name}
    found = set()
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        rows = min(group.num_rows, _BATCH_ROWS)
        for at in range(group.num_columns):
            column = group.column(at)
            if column.path_in_schema in names and rows * column.total_uncompressed_size > _SLACK:
                found.add(column.path_in_schema)
    return sorted(found)


def _unpacked(array: Any) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(array.type):
        return int(arrow_bytes(array))
    lengths = pc.binary_length(array.dictionary).cast(pa.int64())
    return int(pc.sum(lengths.take(array.indices)).as_py() or 0) + 8 * len(array)


def _of_rows(rows: int, schema: Any) -> Any:
    """A table without columns that has rows."""
    import pyarrow as pa

    return pa.table({"": pa.nulls(rows)}).select([]).replace_schema_metadata(schema.metadata)


def _too_large(limit: int) -> SerializationError:
    return SerializationError(
        "a table is too large to load",
        because=f"it unpacks to more than {limit} bytes",
        hint="that is what this process may use for one value: scan it, or load it where there is more memory",
    )
