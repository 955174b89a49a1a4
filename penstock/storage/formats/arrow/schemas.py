"""Reads the extension types of an Arrow schema from its bytes, before pyarrow parses them.

pyarrow creates an extension type by calling the class registered for its name, and some packages' classes unpickle
parts of the schema. So this module reads the names directly from the flat buffers and only accepts types that are known
to be harmless.
"""

from __future__ import annotations

import base64
import binascii
import importlib.util
import os
import struct
from typing import Any

from penstock.errors import CodecRefused, SerializationError
from penstock.imported import loaded

_MARK = b"ARROW:extension:name"
_CONTINUATION = b"\xff\xff\xff\xff"
_MAX_FIELDS = 1_000_000
_MAX_DEPTH = 64
KNOWN_EXTENSIONS = frozenset(
    {
        "arrow.json",
        "arrow.uuid",
        "arrow.bool8",
        "arrow.opaque",
        "arrow.fixed_shape_tensor",
        "arrow.variable_shape_tensor",
    }
    | {"pandas.period", "pandas.interval"}
)
"""Extension types whose classes run no code from the schema."""


def check_parquet(data: memoryview) -> bytes | None:
    """Return the Arrow schema in a Parquet file as a message, or None if there is none.

    Raises `CodecRefused` if it names an unknown extension type.
    """
    footer = _parquet_footer(data)
    at = -1
    schema = None
    while (at := footer.find(_PARQUET_KEY, at + 1)) >= 0:
        # The key, the value as the next field, and the end of both. No other order is accepted.
        start = at + len(_PARQUET_KEY)
        if footer[start : start + 1] != b"\x18":
            raise _odd("Parquet")
        size, start = _varint(footer, start + 1)
        value = footer[start : start + size]
        if len(value) != size or footer[start + size : start + size + 1] != b"\0":
            raise _odd("Parquet")
        try:
            schema = base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise _odd("Parquet") from error
        check_message(schema)
    return schema


_PARQUET_KEY = b"ARROW:schema"


def _parquet_footer(data: memoryview) -> bytes:
    if len(data) < 12 or bytes(data[-4:]) != b"PAR1":
        raise _odd("Parquet")
    (size,) = struct.unpack("<I", data[-8:-4])
    if size > len(data) - 12:
        raise _odd("Parquet")
    return bytes(data[-8 - size : -8])


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 35 and at < len(data):
        byte = data[at]
        value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
        if byte < 0x80:
            return value, at
    raise _odd("Parquet")


def check_file(data: memoryview) -> None:
    """Check an Arrow file like `check_parquet`: of its two schemas, the one at the end, which readers use."""
    if len(data) < 18 or bytes(data[-6:]) != b"ARROW1":
        raise _odd("Arrow")
    (size,) = struct.unpack("<i", data[-10:-6])
    if not 0 < size <= len(data) - 18:
        raise _odd("Arrow")
    footer = bytes(data[-10 - size : -10])
    _check(footer, lambda buffer: buffer.table(buffer.root(), 1))


def check_message(data: bytes | memoryview) -> None:
    """Check a schema message, or a stream that begins with one, like `check_parquet`."""
    data = bytes(data)
    start = 8 if data[:4] == _CONTINUATION else 4
    (size,) = struct.unpack("<i", data[start - 4 : start]) if len(data) > start else (-1,)
    if not 0 < size <= len(data) - start:
        raise _odd("Arrow")

    def schema(buffer: _Buffer) -> int | None:
        return buffer.table(buffer.root(), 2)

    _check(data[start : start + size], schema)


check_stream = check_message


def _check(flat: bytes, schema_in: Any) -> None:
    if _MARK not in flat:
        return  # flat buffers contain strings unchanged
    try:
        buffer = _Buffer(flat)
        names = _names(buffer, schema_in(buffer))
    except (struct.error, IndexError, RecursionError) as error:
        raise _odd("Arrow") from error
    unknown = sorted(names - KNOWN_EXTENSIONS - _known_of_ray())
    _have_registered(names)
    if unknown:
        raise CodecRefused(
            f"refused to read a table with columns of the type {unknown[0]!r}",
            because="an extension type may run code when it is read, and this one is not known to be safe",
            hint="store such columns as plain Arrow types, or as an array",
            extension=unknown[0],
        )


def _known_of_ray() -> frozenset[str]:
    """Return Ray's tensor types, if the installed Ray does not unpickle their shapes."""
    ray = loaded("ray")
    if ray is not None:
        early = tuple(map(int, ray.__version__.split(".")[:2])) < (2, 55)
        if early or os.environ.get("RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA", "0") != "0":
            return frozenset()
    return _RAY_TENSORS


_RAY_TENSORS = frozenset({"ray.data.arrow_tensor", "ray.data.arrow_tensor_v2", "ray.data.arrow_variable_shaped_tensor"})


def _have_registered(names: set[str]) -> None:
    """Let pandas register its types with pyarrow; otherwise a column of periods would be read as numbers."""
    if any(name.startswith("pandas.") for name in names) and importlib.util.find_spec("pandas") is not None:
        import pandas as pd
        import pyarrow as pa

        pa.array(pd.PeriodIndex([], freq="D").array)


def unknown_extensions(schema: Any) -> str:
    """Return the first extension type of a schema that reading would refuse; empty if there is none."""
    try:
        check_message(schema.serialize().to_pybytes())
    except CodecRefused as refused:
        return str(refused.data.get("extension", "an extension type"))
    return ""


def _names(buffer: _Buffer, schema: int | None) -> set[str]:
    """Return the extension types of a schema's fields and their children."""
    names: set[str] = set()
    if schema is None:
        return names
    left = [(field, 0) for field in buffer.vector(schema, 1)]
    seen = 0
    while left:
        field, depth = left.pop()
        seen += 1
        if seen > _MAX_FIELDS or depth > _MAX_DEPTH:
            raise _odd("Arrow")
        left += [(child, depth + 1) for child in buffer.vector(field, 5)]
        for pair in buffer.vector(field, 6):
            if buffer.text(pair, 0) == _MARK:
                names.add(buffer.text(pair, 1).decode("utf-8", "replace"))
    return names


class _Buffer:
    """A minimal reader of flat buffers: tables, vectors of tables and strings, by field number."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def root(self) -> int:
        return int(self._read("<I", 0))

    def table(self, table: int, field: int) -> int | None:
        """Return the position of the table in a field."""
        at = self._field(table, field)
        return None if at is None else at + int(self._read("<I", at))

    def vector(self, table: int, field: int) -> list[int]:
        """Return the positions of the tables in a field."""
        start = self.table(table, field)
        if start is None:
            return []
        count = int(self._read("<I", start))
        if count * 4 > len(self._data):
            raise IndexError
        places = range(start + 4, start + 4 + 4 * count, 4)
        return [at + int(self._read("<I", at)) for at in places]

    def text(self, table: int, field: int) -> bytes:
        start = self.table(table, field)
        if start is None:
            return b""
        size = int(self._read("<I", start))
        return self._data[start + 4 : start + 4 + size]

    def _field(self, table: int, field: int) -> int | None:
        layout = table - int(self._read("<i", table))
        at = 4 + 2 * field
        if layout < 0 or at >= int(self._read("<H", layout)):
            return None
        offset = int(self._read("<H", layout + at))
        return table + offset if offset else None

    def _read(self, form: str, at: int) -> Any:
        return struct.unpack_from(form, self._data, at)[0]


def _odd(kind: str) -> SerializationError:
    return SerializationError(f"a stored {kind} file cannot be read", because="its schema is not where it should be")
