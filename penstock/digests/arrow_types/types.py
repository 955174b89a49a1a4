"""Canonical digests of Arrow types. What is layout does not count: the type of indices, the name of items."""

from __future__ import annotations

from typing import Any

from penstock.digests.arrow_types.extensions import extension_parameters
from penstock.digests.arrow_types.metadata import kept_metadata
from penstock.digests.walk import Walk, hash_int, hash_leaf, hash_node, hash_str, label


def type_digest(kind: Any, walk: Walk) -> bytes:
    import pyarrow as pa
    from pyarrow import types

    if isinstance(kind, pa.BaseExtensionType):
        parts = [hash_str(kind.extension_name), type_digest(kind.storage_type, walk)]
        parameters = extension_parameters(kind)
        if parameters:
            parts.append(hash_leaf(b"arrow.parameters", parameters))
        return hash_node(b"arrow.extension", parts)
    if types.is_dictionary(kind):  # the index type is layout
        ordered = hash_int(int(kind.ordered))
        return hash_node(b"arrow.dictionary", (type_digest(kind.value_type, walk), ordered))
    if types.is_run_end_encoded(kind):
        return hash_node(b"arrow.run_end_encoded", (type_digest(kind.value_type, walk),))
    if types.is_map(kind):
        found = hash_node(b"arrow.map", (_key(kind.key_field, walk), _nested(kind.item_field, walk)))
        return hash_node(b"arrow.sorted", (found,)) if kind.keys_sorted else found
    if types.is_fixed_size_list(kind):
        return hash_node(b"arrow.fixed_size_list", (hash_int(kind.list_size), _nested(kind.value_field, walk)))
    if is_list(kind):  # the name of the items ("item", "element") is layout
        return hash_node(f"arrow.{str(kind).partition('<')[0]}".encode(), (_nested(kind.value_field, walk),))
    if types.is_struct(kind) or types.is_union(kind):
        fields = [kind.field(number) for number in range(kind.num_fields)]
        tag = f"arrow.{str(kind).partition('<')[0]}".encode()
        found = hash_node(tag, [label(field.name) + _nested(field, walk) for field in fields])
        if types.is_union(kind) and kind.type_codes != list(range(kind.num_fields)):
            return hash_node(b"arrow.type_codes", (found, walk.of(tuple(kind.type_codes))))
        return found
    return hash_leaf(b"arrow.type", str(kind).encode())


def is_named_completely(kind: Any) -> bool:
    """Return whether Arrow's name of a type differs from that of every type with another digest."""
    import pyarrow as pa
    from pyarrow import types

    if isinstance(kind, pa.BaseExtensionType):
        shown = not isinstance(kind, pa.ExtensionType)  # types of C++ show their parameters
        return (shown or not extension_parameters(kind)) and is_named_completely(kind.storage_type)
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return is_named_completely(kind.value_type)
    fields = [kind.field(number) for number in range(kind.num_fields)]
    if types.is_map(kind):
        fields = [kind.key_field, kind.item_field]
        if not kind.item_field.nullable:
            return False
    return all(is_named_completely(field.type) and not kept_metadata(field.metadata) for field in fields)


def _nested(field: Any, walk: Walk) -> bytes:
    """Return the digest of the type of a nested field, with what is unusual about the field: no nulls, metadata."""
    found = type_digest(field.type, walk)
    return _noted(field, found if field.nullable else hash_node(b"arrow.required", (found,)), walk)


def _key(field: Any, walk: Walk) -> bytes:
    """Return the digest of the type of a map's keys, which never are null."""
    return _noted(field, type_digest(field.type, walk), walk)


def _noted(field: Any, found: bytes, walk: Walk) -> bytes:
    kept = kept_metadata(field.metadata)
    return hash_node(b"arrow.noted", (found, walk.of(kept))) if kept else found


def is_list(kind: Any) -> bool:
    from pyarrow import types

    views = [is_view(kind) for is_view in (types.is_list_view, types.is_large_list_view)]
    return bool(types.is_list(kind) or types.is_large_list(kind) or any(views))


def is_binary(kind: Any) -> bool:
    from pyarrow import types

    tests = (types.is_binary, types.is_large_binary, types.is_string, types.is_large_string)
    return any(test(kind) for test in (*tests, types.is_binary_view, types.is_string_view))
