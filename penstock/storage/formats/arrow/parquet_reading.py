"""Reading untrusted Parquet files: checked before they are parsed, and unpacked only up to a limit.

A few hundred bytes may unpack to gigabytes. The sizes in the footer are checked first, but cannot be relied on.
Therefore files are read in batches, and dictionary-encoded text is measured before it is expanded.
"""

from __future__ import annotations

from typing import Any

from penstock.errors import SerializationError
from penstock.storage.formats.arrow.schemas import check_parquet
from penstock.storage.formats.sizes import arrow_bytes

_BATCH_ROWS = 1 << 16
_BELIEVED_BATCH_ROWS = 1 << 20
"""As many as pyarrow writes into a row group. Smaller batches take a tenth longer to read."""
_SLACK = 1 << 28
"""The bytes that a batch may exceed the limit by, at worst."""


def read_parquet(data: memoryview, limit: int, *, believed: bool = True) -> Any:
    """Read the table in a file. Raises `SerializationError` if it unpacks to more than `limit` bytes.

    Validates all values of files that are not `believed`.
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
    rows = _BELIEVED_BATCH_ROWS if believed else _BATCH_ROWS
    for batch in file.iter_batches(batch_size=rows) if file.num_row_groups else ():
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
    """Return the table with the types and metadata it was written with, if Parquet or this pyarrow changed them.

    Raises `SerializationError` if that is impossible.
    """
    import pyarrow as pa

    try:
        schema = pa.ipc.read_schema(pa.py_buffer(message))
        return table if table.schema.equals(schema, check_metadata=True) else _as_schema(table, schema)
    except (pa.ArrowException, ValueError) as error:
        raise SerializationError(
            "a stored table cannot be read with its original types",
            because=str(error),
            hint="it was written with another version of pyarrow: use that version, or refresh the result",
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
    """Raise `SerializationError` if a file for another reader unpacks to more than `limit` bytes."""
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
        return 1  # for text and nested types only the values tell


def check_footer(metadata: Any, limit: int) -> None:
    """Raise `SerializationError` if a file's metadata says that it unpacks to more than `limit` bytes."""
    expanded = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    if expanded > limit:
        raise SerializationError(
            f"a table of {expanded} bytes is too large to load", because=f"the limit is {limit} bytes"
        )


def _spread_columns(metadata: Any, schema: Any) -> list[str]:
    """Return the text columns of which a batch could be too large if all values had the maximum length."""
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
    """Return a table with rows but without columns."""
    import pyarrow as pa

    return pa.table({"": pa.nulls(rows)}).select([]).replace_schema_metadata(schema.metadata)


def _too_large(limit: int) -> SerializationError:
    return SerializationError(
        "a table is too large to load",
        because=f"it unpacks to more than {limit} bytes",
        hint="scan it instead, or load it on a machine with more memory",
    )
