"""Typed JSON: plain data as they are, and `{"$tag": …}` for what JSON has no word for (docs/values.md has each tag).

`encode(value, part)` and `decode(data, parts)` are for containers that hold values of other formats as well: a leaf
that has no form here (a table, an array, an object of a class like any other) is offered to `part`, which may give it a
number; `{"$part": number}` stands in its place, and `decode` asks `parts` for it. A `part` that sees the same object
twice gives the same number, so that it is one object again. What neither has a form nor a part is `Unkept`, with its
place in the value.

Reading runs no code that the data name: classes are found among those that are imported (`classes`), and made without
their constructors.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import msgspec

from penstock.errors import PenstockError, SerializationError
from penstock.storage.formats.base import type_name
from penstock.storage.formats.path_results import note_of_paths
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
    """`value` as typed JSON. Raises `Unkept`, with the place of what is not kept.

    Whether users' classes come back as they were is only told by a trial, which `encode` makes. To `paths` are added
    those that the value holds: `note_of_paths` makes a note of them for the record's `About.details`.
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
                raise Unkept(value, found, "it comes back as another value")
    except (Unkept, MemoryError):
        raise
    except RecursionError:
        raise Unkept(value, "", "it is nested too deeply") from None
    except Exception as error:  # users' classes may do anything when they are looked at
        raise Unkept(value, "", f"{type(error).__name__}: {error}") from error
    return data


def decode(data: bytes | memoryview, parts: Parts = ()) -> Any:
    """What `encode` wrote. Raises `SerializationError` and `CodecRefused`."""
    document = msgspec.json.decode(data)
    decoder = Decoder(_MAKERS, document, parts, shares=b'"$same"' in bytes(data))
    try:
        return decoder.value(document)
    except PenstockError:
        raise
    except Exception as error:
        raise SerializationError("typed JSON does not read back", because=f"{type(error).__name__}: {error}") from error


def has_form(kind: type) -> bool:
    """Whether instances of a class have a form here, as long as what they hold has one."""
    return kind in (str, int, float, bool, type(None)) or _form_of(kind) is not None


def unkept(value: Any) -> Unkept | None:
    """Where a value holds something that typed JSON does not keep, and what; None if it keeps all of it."""
    try:
        encode(value)
    except Unkept as found:
        return found
    return None


class TypedSerializer:
    """Values of everyday types, and objects of importable classes that are made for data."""

    name = "json/typed"
    suffix = ".json"
    safe = True

    def can(self, value: Any) -> bool:
        return unkept(value) is None

    def prepare(self, value: Any) -> TypedSerializer | None:
        """The serializer for this value, which it has encoded; None if it does not keep it."""
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
                f"a {type_name(value)} does not survive typed JSON",
                where=f"result{found.where}",
                because=found.because or f"a {type_name(found.leaf)} has no form there",
                hint="leave out result_serializer to let Penstock choose",
            ) from None
        return About(type=type_name(value), details=note_of_paths(paths))

    def read(self, data: memoryview, about: About, *, limit: int) -> Any:
        return decode(data)


class _Encoded(TypedSerializer):
    """Writes the one value that it was made for."""

    def __init__(self, data: bytes, paths: list[Any]) -> None:
        self._data, self._paths = data, paths

    def write(self, value: Any, file: BinaryIO) -> About:
        file.write(self._data)
        return About(type=type_name(value), details=note_of_paths(self._paths))
