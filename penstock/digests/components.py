"""How the named components of a key are encoded and hashed (docs/keys.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blake3 import blake3

from penstock.digests.walk import SIZE

Components = dict[str, Any]
"""Component name to string, or for "inputs" a dict of parameter name to digest. JSON-compatible."""


def framed(text: str) -> bytes:
    """Return the text after its length, so that no two sequences of texts have one encoding."""
    encoding = text.encode("utf-8", "surrogatepass")
    return b"%d:" % len(encoding) + encoding


def inputs_head(count: int) -> bytes:
    """Return what stands before the inputs."""
    return b"inputs\0%d:" % count


def encoded(components: Mapping[str, str]) -> bytes:
    """Encode the components without the inputs: their number, then name and value of each, sorted by name."""
    pairs = (framed(name) + framed(value) for name, value in sorted(components.items()))
    return b"%d:" % len(components) + b"".join(pairs)


def hashed(kind: bytes, components: Mapping[str, Any]) -> str:
    """Return the key of this kind, 40 hexadecimal digits."""
    pieces = [kind, encoded({name: value for name, value in components.items() if name != "inputs"})]
    inputs = components.get("inputs")
    if inputs is not None:
        pieces.append(inputs_head(len(inputs)))
        pieces += (framed(name) + bytes.fromhex(value) for name, value in sorted(inputs.items()))
    return blake3(b"".join(pieces)).digest(SIZE).hex()


def keyed(found: bytes, salt: bytes) -> bytes:
    """Return the digest of a secret's digest, which nobody can guess without the salt."""
    return blake3(found, key=salt).digest(SIZE)
