"""Serializers of plain values: JSON, models, bytes, pickles, and their compressed forms."""

from __future__ import annotations

import io
import math
import zlib
from typing import Any, BinaryIO

import msgspec

from penstock.errors import CodecRefused, PenstockError, SerializationError
from penstock.imported import loaded
from penstock.objects.live import culprit, said_place, shown_cause, why_not
from penstock.storage.formats import pickles
from penstock.storage.formats.base import Serializer, type_name
from penstock.storage.formats.classes import class_name, find_class
from penstock.storage.formats.typed.sameness import same
from penstock.storage.formats.typed.walk import MAX_DIGITS, is_text
from penstock.storage.records.records import About


class JsonSerializer:
    """Plain values that JSON preserves. Tuples, sets and keys other than strings are not."""

    name = "json"
    suffix = ".json"
    safe = True

    def can(self, value: Any) -> bool:
        try:
            return _is_json(value, set())
        except RecursionError:
            return False

    def write(self, value: Any, file: BinaryIO) -> None:
        if not self.can(value):
            raise SerializationError(
                f"JSON cannot store this {type_name(value)} without loss",
                because="it only supports None, bool, int, finite float, str, and lists and str-keyed dicts of them",
                hint='omit result_serializer, or use result_serializer="pickle"',
            )
        file.write(msgspec.json.encode(value))

    def read(self, data: memoryview, about: About, *, limit: int) -> Any:
        return msgspec.json.decode(data)


def _is_json(value: Any, seen: set[int]) -> bool:
    """Return whether JSON preserves a value. `seen` are the visited containers, since JSON would copy shared ones."""
    kind = type(value)
    if kind is str:
        return is_text(value)
    if kind is bool or value is None:
        return True
    if kind is int:
        return bool(-_LONG_INT < value < _LONG_INT)
    if kind is float:
        return math.isfinite(value)
    if kind is not list and kind is not dict:
        return False
    if id(value) in seen:
        return False
    seen.add(id(value))
    if kind is list:
        return all(_is_json(item, seen) for item in value)
    return all(type(key) is str and is_text(key) and _is_json(item, seen) for key, item in value.items())


_LONG_INT = 10**MAX_DIGITS


class PydanticSerializer:
    """pydantic models in their own JSON: on request, and for results of earlier versions. Each is tried first."""

    name = "json/pydantic"
    suffix = ".json"
    safe = True

    def can(self, value: Any) -> bool:
        pydantic = loaded("pydantic")
        if pydantic is None or not isinstance(value, pydantic.BaseModel) or not class_name(type(value)):
            return False
        try:
            return same(type(value).model_validate_json(value.model_dump_json()), value)
        except (ValueError, TypeError, RecursionError):  # pydantic's own errors are ValueErrors
            return False

    def write(self, value: Any, file: BinaryIO) -> About:
        file.write(value.model_dump_json().encode())
        return About(type=class_name(type(value)))

    def read(self, data: memoryview, about: About, *, limit: int) -> Any:
        import pydantic

        return _model_class(about.type, pydantic.BaseModel).model_validate_json(bytes(data))


class StructSerializer:
    """Dataclasses and msgspec structs in msgspec's JSON: on request, and for results of earlier versions."""

    name = "json/struct"
    suffix = ".json"
    safe = True

    def can(self, value: Any) -> bool:
        kind = type(value)
        if not (hasattr(kind, "__dataclass_fields__") or issubclass(kind, msgspec.Struct)) or not class_name(kind):
            return False
        try:
            return same(msgspec.json.decode(msgspec.json.encode(value), type=kind), value)
        except (msgspec.MsgspecError, ValueError, TypeError, NameError, RecursionError):
            return False

    def write(self, value: Any, file: BinaryIO) -> About:
        file.write(msgspec.json.encode(value))
        return About(type=class_name(type(value)))

    def read(self, data: memoryview, about: About, *, limit: int) -> Any:
        return msgspec.json.decode(data, type=_model_class(about.type, None))


def _model_class(name: str, base: type | None) -> Any:
    """Return the class that a record names if the codec accepts it. Strict, since the name cannot be trusted."""
    found = find_class(name)
    fits = (
        issubclass(found, base) if base else hasattr(found, "__dataclass_fields__") or issubclass(found, msgspec.Struct)
    )
    if not fits:
        raise CodecRefused(f"{name} is not a model", because="the codec of the record only reads models")
    return found


class BytesSerializer:
    """Large bytes, unchanged in a file of their own."""

    name = "bytes"
    suffix = ".bin"
    safe = True

    def can(self, value: Any) -> bool:
        return type(value) is bytes and len(value) >= _MANY_BYTES

    def write(self, value: Any, file: BinaryIO) -> None:
        file.write(value)

    def read(self, data: memoryview, about: About, *, limit: int) -> bytes:
        return bytes(data)


_MANY_BYTES = 64 << 10


class PickleSerializer:
    """Anything that cloudpickle supports. Reading runs code that the bytes name, so it needs a trusted store."""

    name = "pickle"
    suffix = ".pkl"
    safe = False

    def can(self, value: Any) -> bool:
        return True

    def write(self, value: Any, file: BinaryIO) -> About:
        try:
            return About(details=pickles.dump(value, file))
        except PenstockError:
            raise
        except BaseException as error:  # noqa: BLE001 (a __reduce__ may raise anything)
            raise _unserializable(value, error) from shown_cause(error)

    def read(self, data: memoryview, about: About, *, limit: int) -> Any:
        return pickles.load(data)


class CompressedSerializer:
    """Another serializer's bytes compressed with gzip, under the codec `compressed/<its codec>`."""

    def __init__(self, inner: Serializer) -> None:
        self.inner = inner
        self.name = f"compressed/{inner.name}"
        self.suffix = f"{inner.suffix}.gz"
        self.safe = inner.safe

    def can(self, value: Any) -> bool:
        return self.inner.can(value)

    def write(self, value: Any, file: BinaryIO) -> About | None:
        buffer = io.BytesIO()
        about = self.inner.write(value, buffer)
        packer = zlib.compressobj(wbits=31)
        file.write(packer.compress(buffer.getbuffer()))
        file.write(packer.flush())
        return about

    def read(self, data: memoryview, about: About, *, limit: int) -> Any:
        unpacker = zlib.decompressobj(wbits=31)
        plain = unpacker.decompress(data, limit)
        if unpacker.unconsumed_tail:
            raise SerializationError(
                "a compressed result is too large",
                because=f"it unpacks to more than {limit} bytes",
            )
        return self.inner.read(memoryview(plain), about, limit=limit)


def _unserializable(value: Any, error: BaseException) -> SerializationError:
    path, part = culprit(value, error)
    where = f"result{said_place(path)}"
    return SerializationError(
        f"a {type_name(value)} cannot be stored" + (f": {where} is a {type_name(part)}" if path else ""),
        where=where,
        because=why_not(error),
        hint="return plain data instead, or register a serializer for the type",
    )
