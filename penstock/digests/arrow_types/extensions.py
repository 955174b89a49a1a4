"""The parameters of Arrow extension types, such as the shape of a tensor, as Arrow itself writes them into schemas."""

from __future__ import annotations

import ctypes
import json
import struct
from typing import Any

from penstock.digests.walk import UndigestibleError

_KEY = b"ARROW:extension:metadata"
_KNOWN = ("arrow.", "pandas.")
"""Prefixes of the types whose parameters are JSON. Its spacing and order of keys depend on the version."""


def extension_parameters(kind: Any) -> bytes:
    """Return the serialised parameters of an extension type, empty if it has none."""
    data = _serialised(kind)
    if not kind.extension_name.startswith(_KNOWN):
        return data
    try:
        said = json.loads(data)
    except ValueError:
        return data
    if not isinstance(said, dict):
        return data
    return json.dumps(said, sort_keys=True, separators=(",", ":")).encode() if said else b""


class _CSchema(ctypes.Structure):
    """The beginning of `ArrowSchema` in Arrow's C data interface."""

    _fields_ = (("format", ctypes.c_char_p), ("name", ctypes.c_char_p), ("metadata", ctypes.c_void_p))


def _serialised(kind: Any) -> bytes:
    """Return what Arrow writes of an extension type. Types of C++ show it only through the C data interface."""
    try:
        capsule = kind.__arrow_c_schema__()  # frees the schema with itself
    except Exception as error:  # noqa: BLE001 (a user's class serialises itself)
        raise UndigestibleError(
            f"the Arrow extension type {kind.extension_name!r} has no stable digest",
            because=f"{type(error).__name__}: {error}",
        ) from None
    address = _pointer(capsule, b"arrow_schema")
    held = _CSchema.from_address(address).metadata
    return _metadata_at(held).get(_KEY, b"") if held else b""


def _pointer(capsule: Any, name: bytes) -> int:
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    found: int = get(capsule, name)
    return found


def _metadata_at(address: int) -> dict[bytes, bytes]:
    """Return metadata in memory: a count, then the length and bytes of each key and value, in native byte order."""

    def number() -> int:
        nonlocal address
        (found,) = struct.unpack("=i", ctypes.string_at(address, 4))
        address += 4
        return int(found)

    def text() -> bytes:
        nonlocal address
        size = number()
        found = ctypes.string_at(address, size)
        address += size
        return found

    return {text(): text() for _ in range(number())}
