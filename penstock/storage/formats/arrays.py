"""numpy arrays as .npy files."""

from __future__ import annotations

import ast
import contextlib
import math
import struct
from typing import Any, BinaryIO

import msgspec

from penstock.errors import SerializationError
from penstock.imported import loaded
from penstock.storage.formats.dtypes import dtype_of, layout_of
from penstock.storage.records.records import About

_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 4 << 20
"""In bytes. numpy's own limit is exceeded by structured arrays of a few hundred fields."""
_MAX_FIRST = 60_000
"""The number of characters for which the first version of the format has room, besides the shape."""
_KINDS = ("ndarray", "memmap", "matrix", "recarray")
_SHOWN = 200
_READ_ONLY = "read_only"
_LAYOUT = "layout"
_MAX_LAYOUT = 8 << 10
"""In bytes. Descriptions of dtypes are stored in records, which are small."""


class NumpySerializer:
    """Arrays of numpy's own classes without objects. Shape, dtype and memory order are preserved."""

    name = "npy"
    suffix = ".npy"
    safe = True
    owns_data = True

    def can(self, value: Any) -> bool:
        numpy = loaded("numpy")
        if numpy is None or not isinstance(value, numpy.ndarray) or type(value).__name__ not in _KINDS:
            return False
        if type(value).__module__.partition(".")[0] != "numpy" or value.dtype.hasobject or value.dtype.metadata:
            return False
        # numpy pickles arrays of other types, such as its variable-length strings.
        if value.dtype.kind == "T":
            return False
        found = _in_file(value.dtype)
        return found is not None and len(repr(_descr(found[0]))) < _MAX_HEADER // 2

    def write(self, value: Any, file: BinaryIO) -> About:
        import numpy

        dtype, layout = _in_file(value.dtype) or (value.dtype, "")
        array = numpy.asarray(value)
        array = array if dtype == value.dtype else array.view(dtype)
        numpy.lib.format.write_array(file, array, _version(dtype), allow_pickle=False)
        kind = type(value).__name__
        details = {"dtype": str(value.dtype)[:_SHOWN], **facts_of_flags(value)}
        if layout:
            details[_LAYOUT] = layout
        if _has_long_floats(value.dtype):
            details["longdouble"] = _long_float()
        return About(type="" if kind == "ndarray" else kind, rows=len(value) if value.ndim else None, details=details)

    def read(self, data: memoryview, about: About, *, limit: int) -> Any:
        import numpy

        if about.details.get("longdouble", _long_float()) != _long_float():
            raise SerializationError(
                "an array of long doubles cannot be read on this machine",
                because=f"it was written with {about.details['longdouble']}, and this machine has {_long_float()}",
                hint="return float64 from the task",
            )
        start, shape, order, dtype = _header(data)
        # Checked before any byte of the array is read.
        if math.prod(shape) * dtype.itemsize > len(data) - start:
            raise SerializationError(
                "a stored array has fewer elements than its header says",
                because=f"its shape should be {shape}, of {dtype}",
            )
        fixed = is_read_only(about)
        array = numpy.ndarray(shape, dtype, buffer=data.toreadonly() if fixed else data, offset=start, order=order)
        if data.readonly and not fixed:
            array = array.copy(order=order)
        if _LAYOUT in about.details:
            array = array.view(_dtype_said(about.details[_LAYOUT], dtype.itemsize))
        return array if not about.type else _of_class(array, about.type)


def _in_file(dtype: Any) -> tuple[Any, str] | None:
    """Return the dtype for the header of a file, and the layout if the header does not describe it completely.

    A dtype that a header cannot describe at all becomes plain bytes. Returns None if it cannot be preserved.
    """
    import numpy

    said = layout_of(dtype)
    back = None
    with contextlib.suppress(ValueError, TypeError):  # fields out of order, overlapping, of arrays with titles
        back = numpy.lib.format.descr_to_dtype(_descr(dtype))
    if back == dtype and layout_of(back) == said:
        return dtype, ""
    try:
        layout = msgspec.json.encode(said)
        kept = layout_of(dtype_of(msgspec.json.decode(layout))) == said
    except (TypeError, ValueError, msgspec.MsgspecError):  # titles may be any objects
        return None
    if not kept or not dtype.itemsize or len(layout) > _MAX_LAYOUT:
        return None
    return (dtype if back == dtype else numpy.dtype(f"V{dtype.itemsize}")), layout.decode()


def _dtype_said(layout: str, itemsize: int) -> Any:
    try:
        dtype = dtype_of(msgspec.json.decode(layout))
    except (ValueError, TypeError, KeyError, msgspec.MsgspecError, RecursionError, MemoryError) as error:
        raise SerializationError("a stored array cannot be read", because=f"its layout is damaged: {error}") from error
    if dtype.hasobject or dtype.kind == "T" or dtype.itemsize != itemsize:
        raise SerializationError("a stored array cannot be read", because="its layout is not that of its bytes")
    return dtype


def facts_of_flags(array: Any) -> dict[str, str]:
    """Return what a record says about a read-only array, which is read-only for its consumers, too."""
    return {} if array.flags.writeable else {_READ_ONLY: "yes"}


def is_read_only(about: About) -> bool:
    return _READ_ONLY in about.details


def _of_class(array: Any, name: str) -> Any:
    import numpy

    if name not in _KINDS:
        raise SerializationError(f"numpy has no array class {name!r}")
    if name == "recarray":
        return array.view(numpy.recarray)
    return array.view(getattr(numpy, name))


def _header(data: memoryview) -> tuple[int, tuple[int, ...], Any, Any]:
    """Return the start, shape, order and dtype of the array. Raises `SerializationError` for an invalid header."""
    import numpy

    try:
        version = data[6]
        start = 10 if version == 1 else 12
        (size,) = struct.unpack_from("<H" if version == 1 else "<I", data, 8)
        text = bytes(data[start : start + size])
        if bytes(data[:6]) != _MAGIC or version not in (1, 2, 3) or size > _MAX_HEADER or len(text) != size:
            raise SerializationError("a stored array cannot be read", because="it has no numpy header")
        said = ast.literal_eval(text.decode("utf-8" if version == 3 else "latin-1"))
        shape, order, descr = said["shape"], "F" if said["fortran_order"] is True else "C", said["descr"]
        dtype = numpy.lib.format.descr_to_dtype(descr)
        if dtype.hasobject or not all(type(length) is int and length >= 0 for length in shape):
            raise SerializationError("a stored array cannot be read", because="its header is not that of a plain array")
    except (
        ValueError,
        SyntaxError,
        KeyError,
        TypeError,
        IndexError,
        struct.error,
        RecursionError,
        MemoryError,
    ) as error:
        raise SerializationError("a stored array cannot be read", because=f"its header is damaged: {error}") from error
    return start + size, tuple(shape), order, dtype


def _descr(dtype: Any) -> Any:
    import numpy

    return numpy.lib.format.dtype_to_descr(dtype)


def _version(dtype: Any) -> tuple[int, int]:
    """Return the version of the format. numpy warns of all but the first unless it is given."""
    said = repr(_descr(dtype))
    if not said.isascii():
        return (3, 0)
    return (2, 0) if len(said) > _MAX_FIRST else (1, 0)


def _has_long_floats(dtype: Any) -> bool:
    if dtype.subdtype is not None:
        return _has_long_floats(dtype.subdtype[0])
    if dtype.names:
        return any(_has_long_floats(dtype[name]) for name in dtype.names)
    return bool(dtype.kind in "fc" and dtype.itemsize > (8 if dtype.kind == "f" else 16))


def _long_float() -> str:
    """Describe long doubles of this machine, since their representation differs between machines."""
    import numpy

    info = numpy.finfo(numpy.longdouble)
    return f"{info.bits} bits with {info.nmant} of mantissa"
