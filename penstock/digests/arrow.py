"""Canonical digests of Arrow values. Types, nulls and content count; chunks, offsets and bytes under nulls do not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from penstock.digests.arrow_types.metadata import metadata_digest
from penstock.digests.arrow_types.types import is_binary, is_list, type_digest
from penstock.digests.numpy import object_digests
from penstock.digests.walk import (
    UndigestibleError,
    Walk,
    hash_buffers,
    hash_int,
    hash_leaf,
    hash_node,
    hash_str,
)


def column_digest(kind: Any, chunks: list[Any], walk: Walk) -> bytes:
    """Return the digest of a column: its type, length, nulls, and the content of all other entries."""
    length = sum(map(len, chunks))
    parts = (type_digest(kind, walk), hash_int(length), *_content(kind, [c for c in chunks if len(c)], walk))
    return hash_node(b"arrow.column", parts)


def _content(kind: Any, chunks: list[Any], walk: Walk) -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    if isinstance(kind, pa.BaseExtensionType):
        yield from _content(kind.storage_type, [chunk.storage for chunk in chunks], walk)
        return
    if types.is_dictionary(kind):
        yield from _content(kind.value_type, [chunk.dictionary_decode() for chunk in chunks], walk)
        return
    if types.is_run_end_encoded(kind):
        yield from _content(kind.value_type, [pc.run_end_decode(chunk) for chunk in chunks], walk)
        return
    if types.is_union(kind):
        yield from _union(kind, chunks, walk)
        return
    if types.is_null(kind):
        return
    yield _validity(chunks)
    if is_binary(kind):
        yield from _binary(chunks)
    elif is_list(kind) or types.is_map(kind):
        yield _counts(pc.list_value_length(_as_list(chunk)) for chunk in chunks)
        yield column_digest(_items_type(kind), [_as_list(chunk).drop_null().flatten() for chunk in chunks], walk)
    elif types.is_fixed_size_list(kind):
        yield column_digest(kind.value_type, [chunk.drop_null().flatten() for chunk in chunks], walk)
    elif types.is_struct(kind):
        children = [chunk.flatten() for chunk in chunks]  # applies the parent's nulls to the children
        for number in range(kind.num_fields):
            yield column_digest(kind.field(number).type, [child[number] for child in children], walk)
    else:
        yield _fixed_width(kind, chunks)


def _union(kind: Any, chunks: list[Any], walk: Walk) -> Iterator[bytes]:
    """Yield the digests of the entries as Python objects, and of their type codes if the objects do not show these."""
    import pyarrow as pa

    items = [item for chunk in chunks for item in chunk.to_pylist()]
    yield hash_node(b"arrow.objects", object_digests(items, walk))
    kinds = [_class_in_python(kind.field(number).type) for number in range(kind.num_fields)]
    if len(set(kinds)) < len(kinds) or None in items:
        codes = [pa.array(chunk.type_codes, pa.int8()) for chunk in chunks]
        yield _hash_values(b"arrow.type_codes", codes, 1)


def _class_in_python(kind: Any) -> str:
    """Return a name that differs between two types if their entries are never equal as Python objects."""
    from pyarrow import types

    if types.is_integer(kind):
        return "int"
    if types.is_floating(kind):
        return "float"
    if types.is_boolean(kind):
        return "bool"
    if is_binary(kind):
        return "str" if "string" in str(kind) else "bytes"
    return "other"


def _items_type(kind: Any) -> Any:
    import pyarrow as pa
    from pyarrow import types

    if types.is_map(kind):
        return pa.struct([("key", kind.key_type), ("value", kind.item_type)])
    return kind.value_type


def _as_list(chunk: Any) -> Any:
    import pyarrow as pa
    from pyarrow import types

    if types.is_map(chunk.type):
        return chunk.cast(pa.list_(_items_type(chunk.type)))
    return chunk  # list views are not cast to lists, which loses items in some releases


def _validity(chunks: list[Any]) -> bytes:
    """Return one byte per entry, or nothing if there is no null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not any(chunk.null_count for chunk in chunks):
        return hash_leaf(b"arrow.valid", b"")
    return _hash_values(b"arrow.valid", [pc.is_valid(chunk).cast(pa.uint8()) for chunk in chunks], 1)


def _counts(chunks: Iterable[Any]) -> bytes:
    import pyarrow as pa
    import pyarrow.compute as pc

    return _hash_values(b"arrow.lengths", [pc.fill_null(chunk, 0).cast(pa.int64()) for chunk in chunks], 8)


def _binary(chunks: list[Any]) -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.compute as pc

    whole = [chunk.cast(pa.large_binary()) for chunk in chunks]
    yield _counts(pc.binary_length(chunk) for chunk in whole)
    texts = []
    for chunk in whole:
        present = chunk.drop_null() if chunk.null_count else chunk
        offsets = memoryview(present.buffers()[1]).cast("q")[present.offset : present.offset + len(present) + 1]
        data = present.buffers()[2]
        texts.append(memoryview(data)[offsets[0] : offsets[-1]] if data is not None and len(present) else b"")
    yield hash_buffers(b"arrow.bytes", texts, nbytes=sum(map(len, texts)))


def text_digest(array: Any) -> bytes:
    """Return the digest of text as a large_string column, including lone surrogates, which Arrow refuses."""
    import pyarrow as pa

    kind = pa.large_string()
    try:
        column = pa.array(array, kind)
    except UnicodeEncodeError:
        column = pa.array([_encoded(item) for item in array], pa.large_binary())
    chunks = [chunk for chunk in getattr(column, "chunks", [column]) if len(chunk)]
    content = (_validity(chunks), *_binary(chunks))
    return hash_node(b"arrow.column", (hash_leaf(b"arrow.type", str(kind).encode()), hash_int(len(column)), *content))


def _encoded(item: Any) -> bytes | None:
    return item.encode("utf-8", "surrogatepass") if isinstance(item, str) else None


def _fixed_width(kind: Any, chunks: list[Any]) -> bytes:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    if types.is_boolean(kind):
        return _hash_values(b"arrow.values", [pc.fill_null(c, False).cast(pa.uint8()) for c in chunks], 1)
    width = kind.bit_width // 8
    if types.is_float16(kind):
        chunks = [_one_half_nan(chunk.view(pa.uint16())) for chunk in chunks]
    elif types.is_floating(kind):
        chunks = [_one_nan(chunk) for chunk in chunks]
    raw = {1: pa.uint8(), 2: pa.uint16(), 4: pa.uint32(), 8: pa.uint64()}.get(width, pa.binary(width))
    zero = pa.scalar(bytes(width) if types.is_fixed_size_binary(raw) else 0, raw)
    views = [chunk.view(raw) for chunk in chunks]
    return _hash_values(
        b"arrow.values", [pc.fill_null(view, zero) if view.null_count else view for view in views], width
    )


def _one_nan(chunk: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    is_nan = pc.is_nan(chunk)
    return pc.if_else(is_nan, pa.scalar(float("nan"), chunk.type), chunk) if pc.any(is_nan).as_py() else chunk


def _one_half_nan(bits: Any) -> Any:
    """Do the same as `_one_nan` for half floats given as bits, since not every pyarrow computes with them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    size = pc.bit_wise_and(bits, pa.scalar(0x7FFF, pa.uint16()))
    return pc.if_else(pc.greater(size, pa.scalar(0x7C00, pa.uint16())), pa.scalar(0x7E00, pa.uint16()), bits)


def _hash_values(tag: bytes, chunks: list[Any], width: int) -> bytes:
    views = []
    for chunk in chunks:
        data = chunk.buffers()[1]
        if data is not None and len(chunk):
            views.append(memoryview(data)[chunk.offset * width : (chunk.offset + len(chunk)) * width])
    return hash_buffers(tag, views, nbytes=sum(map(len, views)))


def field_digest(value: Any, walk: Walk) -> bytes:
    parts = (hash_str(value.name), type_digest(value.type, walk), hash_int(int(value.nullable)))
    return hash_node(b"arrow.field", (*parts, metadata_digest(value.metadata, walk)))


def schema_digest(value: Any, walk: Walk) -> bytes:
    fields = [field_digest(field, walk) for field in value]
    return hash_node(b"arrow.schema", (metadata_digest(value.metadata, walk), *fields))


def table_digest(value: Any, walk: Walk) -> bytes:
    """Return the digest of a Table or RecordBatch, which differ by their type."""
    tag = f"arrow.{type(value).__name__.lower()}".encode()
    columns = []
    for number, name in enumerate(value.schema.names):
        column = value.column(number)
        try:
            columns.append(column_digest(column.type, getattr(column, "chunks", [column]), walk))
        except UndigestibleError as problem:
            problem.steps.append(f"[{name!r}]")
            raise
    return hash_node(tag, (schema_digest(value.schema, walk), hash_int(value.num_rows), *columns))


def array_digest(value: Any, walk: Walk) -> bytes:
    return hash_node(b"arrow.array", (column_digest(value.type, [value], walk),))


def chunked_digest(value: Any, walk: Walk) -> bytes:
    return hash_node(b"arrow.chunkedarray", (column_digest(value.type, value.chunks, walk),))


def scalar_digest(value: Any, walk: Walk) -> bytes:
    import pyarrow as pa

    column = pa.nulls(1, value.type) if not value.is_valid else pa.repeat(value, 1)
    return hash_node(b"arrow.scalar", (column_digest(value.type, [column], walk),))


def buffer_digest(value: Any, _: Walk) -> bytes:
    return hash_buffers(b"arrow.buffer", [memoryview(value)], nbytes=value.size)
