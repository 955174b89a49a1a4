"""Typed JSON: plain data as they are, and `{"$tag": …}` for what JSON has no word for (docs/values.md has each tag).

`encode(value, part)` and `decode(data, parts)` support containers with values of other formats: a leaf without a form
in typed JSON (a table, an array, an object of an ordinary class) is passed to `part`, which may return a number for it;
`{"$part": number}` then replaces it, and `decode` gets it from `parts`. `part` returns the same number for the same
object, so that shared objects stay shared. A leaf with neither a form nor a part raises `Unkept` with its location.

Decoding never runs code that the data name: classes are looked up among imported ones (`classes`), and instances are
created without constructors.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import msgspec

from penstock.errors import PenstockError, SerializationError
from penstock.storage.formats.base import type_name
from penstock.storage.formats.path_results import facts_of_paths
from penstock.storage.formats.typed import (
    objects as typed_objects,
)
from penstock.storage.formats.typed import (
    packages as typed_packages,
)
from penstock.storage.formats.typed import (
    plain as typed_plain,
)
from penstock.storage.formats.typed.sameness import difference
from penstock.storage.formats.typed.walk import Decoder, Encoder, Form, Maker, Part, Parts, Unkept
from penstock.storage.records.records import About

__all__ = ["Part", "Parts", "TypedSerializer", "Unkept", "decode", "encode", "unkept"]

_MAKERS: dict[str, Maker] = typed_plain.MAKERS | typed_packages.MAKERS | typed_objects.MAKERS


def _form_of(kind: type) -> Form | None:
    return typed_plain.FORMS.get(kind) or typed_packages.form_of(kind) or typed_objects.form_of(kind)


def encode(value: Any, part: Part | None = None, *, paths: list[Any] | None = None) -> bytes:
    """Encode a value as typed JSON. Raises `Unkept` with the location of a part that cannot be encoded.

    Instances of users' classes are decoded again to prove that they are preserved. The paths in the value are added to
    `paths`; `facts_of_paths` creates the record's facts about them.
    """
    parts: list[Any] = []

    def kept(leaf: Any) -> int | None:
        number = part(leaf) if part is not None else None
        if number is not None:
            parts.extend([None] * (number + 1 - len(parts)))
            parts[number] = leaf
        return number

    encoder = Encoder(_form_of, kept)
    if paths is not None:
        encoder.paths = paths
    try:
        data = msgspec.json.encode(encoder.value(value))
        if encoder.unproven:
            found = difference(value, decode(data, parts))
            if found is not None:
                raise Unkept(value, found, "it is read as a different value")
    except (Unkept, MemoryError):
        raise
    except RecursionError:
        raise Unkept(value, "", "it is nested too deeply") from None
    except Exception as error:  # methods of users' classes may raise anything
        raise Unkept(value, "", f"{type(error).__name__}: {error}") from error
    return data


def decode(data: bytes | memoryview, parts: Parts = ()) -> Any:
    """Decode what `encode` wrote. Raises `SerializationError` and `CodecRefused`."""
    document = msgspec.json.decode(data)
    decoder = Decoder(_MAKERS, document, parts, shares=b'"$same"' in bytes(data))
    try:
        return decoder.value(document)
    except PenstockError:
        raise
    except Exception as error:
        raise SerializationError("typed JSON cannot be read", because=f"{type(error).__name__}: {error}") from error


def has_form(kind: type) -> bool:
    """Return whether instances of a class can be encoded, provided that their contents can."""
    return kind in (str, int, float, bool, type(None)) or _form_of(kind) is not None


def unkept(value: Any) -> Unkept | None:
    """Return the first part of a value that typed JSON cannot encode, or None if it can encode all of it."""
    try:
        encode(value)
    except Unkept as found:
        return found
    return None


class TypedSerializer:
    """Values of everyday types, and instances of importable data classes."""

    name = "json/typed"
    suffix = ".json"
    safe = True

    def can(self, value: Any) -> bool:
        return unkept(value) is None

    def prepare(self, value: Any) -> TypedSerializer | None:
        """Encode the value and return a serializer for it, or None if that is impossible."""
        paths: list[Any] = []
        try:
            return _Encoded(encode(value, paths=paths), paths)
        except Unkept:
            return None

    def write(self, value: Any, file: BinaryIO) -> About:
        paths: list[Any] = []
        try:
            file.write(encode(value, paths=paths))
        except Unkept as found:
            raise SerializationError(
                f"typed JSON cannot store this {type_name(value)} without loss",
                where=f"result{found.where}",
                because=found.because or f"it has no form for a {type_name(found.leaf)}",
                hint="omit result_serializer to let Penstock choose",
            ) from None
        return About(type=type_name(value), details=facts_of_paths(paths))

    def read(self, data: memoryview, about: About, *, limit: int) -> Any:
        return decode(data)


class _Encoded(TypedSerializer):
    """Writes a value that is already encoded."""

    def __init__(self, data: bytes, paths: list[Any]) -> None:
        self._data, self._paths = data, paths

    def write(self, value: Any, file: BinaryIO) -> About:
        file.write(self._data)
        return About(type=type_name(value), details=facts_of_paths(self._paths))
