"""Typed JSON as a part of a larger document."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.storage.formats.typed.json import decode, encode


def to_node(value: Any) -> Any:
    """`value` as typed JSON that is parsed already. Raises `Unkept`."""
    if value is None or type(value) in (bool, int):
        return value
    return msgspec.json.decode(encode(value))


def from_node(node: Any) -> Any:
    """What `to_node` was given."""
    return node if node is None or type(node) in (bool, int) else decode(msgspec.json.encode(node))
