"""Canonical digests of polars values, based on names, dtypes and content, not on chunks and physical categories."""

from __future__ import annotations

import re
from typing import Any

from penstock.digests.arrow import column_digest
from penstock.digests.numpy import object_digests
from penstock.digests.walk import UndigestibleError, Walk, hash_int, hash_leaf, hash_node, hash_str, label


def series(value: Any, walk: Walk) -> bytes:
    return hash_node(b"polars.series", (hash_str(value.name), _values(value, walk)))


def frame(value: Any, walk: Walk) -> bytes:
    columns = [walk.at(f"[{column.name!r}]", column) for column in value.get_columns()]
    return hash_node(b"polars.dataframe", (hash_int(value.height), *columns))


def dtype(value: Any, _: Walk) -> bytes:
    return hash_node(b"polars.dtypeobject", (dtype_digest(value),))


def expression(value: Any, _: Walk) -> bytes:
    import polars as pl

    try:
        data = value.meta.serialize()
    except Exception as error:  # noqa: BLE001 (a Rust function inside, and whatever pickling a Python object raises)
        raise UndigestibleError(_OPAQUE, because=f"{type(error).__name__}: {error}") from None
    except pl.exceptions.PanicException as error:
        raise UndigestibleError(_OPAQUE, because=f"polars cannot serialise it: {error}") from None
    if _PICKLE.search(data):
        raise UndigestibleError("a polars expression with a Python function in it has no stable digest")
    if b"DtypeColumn" in data:
        raise UndigestibleError(_OPAQUE, because="this version of polars writes the types of a selector in any order")
    return hash_node(b"polars.expression", (hash_str(type(value).__name__), hash_leaf(b"polars.serialised", data)))


_OPAQUE = "a polars expression has no stable digest"
_PICKLE = re.compile(rb"\x80[\x04\x05]\xcc?\x95(?:\xcc?.){4}\x00{4}", re.DOTALL)
"""The beginning of a pickle of less than 4 GB, as bytes or as a list of numbers in msgpack."""


def dtype_digest(value: Any) -> bytes:
    """Return the digest of a dtype, including nested ones. The internal numbers of categories do not count."""
    kind = value.base_type().__name__
    tag = f"polars.{kind.lower()}".encode()
    if not hasattr(value, "__dict__") or isinstance(value, type):
        return hash_leaf(b"polars.dtype", kind.encode())
    if hasattr(value, "ext_storage"):
        named = hash_str(value.ext_name()), hash_str(value.ext_metadata() or "")
        return hash_node(b"polars.extension", (*named, dtype_digest(value.ext_storage())))
    if kind == "List":
        return hash_node(tag, (dtype_digest(value.inner),))
    if kind == "Array":
        return hash_node(tag, (dtype_digest(value.inner), hash_int(value.size)))
    if kind == "Struct":
        return hash_node(tag, [label(field.name) + dtype_digest(field.dtype) for field in value.fields])
    if kind == "Enum":
        return hash_node(tag, map(hash_str, value.categories))
    if kind == "Decimal":
        return hash_node(tag, (hash_int(value.precision or 38), hash_int(value.scale)))
    if kind == "Categorical" and _named(value):
        named = value.categories
        physical = dtype_digest(named.physical())
        return hash_node(tag, (hash_str(named.name()), hash_str(named.namespace()), physical))
    if kind in ("Datetime", "Duration"):
        zone = getattr(value, "time_zone", None)
        return hash_node(tag, (hash_str(value.time_unit), hash_str(zone or "")))
    return hash_leaf(b"polars.dtype", kind.encode())


def _named(value: Any) -> bool:
    """Return whether a categorical dtype has named categories. Those of polars before 1.32 have no names."""
    named: Any = getattr(value, "categories", None)
    return hasattr(named, "is_global") and not named.is_global()


def _values(value: Any, walk: Walk) -> bytes:
    import polars as pl
    import pyarrow as pa

    if value.dtype == pl.Object:
        return hash_node(b"polars.objects", object_digests(value.to_list(), walk))
    try:
        plain = _without_categories(value.dtype)
        texts = value if plain == value.dtype else value.cast(plain)
        column = texts.to_arrow(compat_level=pl.CompatLevel.oldest())
    except (pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise UndigestibleError(f"a polars column of type {value.dtype} has no stable digest") from error
    chunks = getattr(column, "chunks", [column])
    return hash_node(b"polars.values", (dtype_digest(value.dtype), column_digest(column.type, chunks, walk)))


def _without_categories(value: Any) -> Any:
    """Return the dtype with categories replaced by text."""
    import polars as pl

    kind = value.base_type()
    if kind in (pl.Categorical, pl.Enum):
        return pl.String
    if isinstance(value, type):
        return value
    if kind == pl.List:
        return pl.List(_without_categories(value.inner))
    if kind == pl.Array:
        return pl.Array(_without_categories(value.inner), value.size)
    if kind == pl.Struct:
        return pl.Struct({field.name: _without_categories(field.dtype) for field in value.fields})
    return value
