"""Typed JSON as part of a larger document."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.storage.formats.typed.json import decode, encode


def to_node(value: Any) -> Any:
    """Return a value as parsed typed JSON. Raises `Unkept`."""
    if value is None or type(value) in (bool, int):
        return value
    return msgspec.json.decode(encode(value))


def from_node(node: Any) -> Any:
    """Return the value that `to_node` converted."""
    return node if node is None or type(node) in (bool, int) else decode(msgspec.json.encode(node))
