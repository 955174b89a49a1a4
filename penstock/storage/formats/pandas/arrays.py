"""A pandas array as an Arrow array and a *kind*, which describes in typed JSON how to restore the array.

The kind holds what Arrow does not: the pandas type, the form of missing values, the categories, the package of the time
zone, cells that no column type supports. Every later pandas can read it, whatever types are registered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from penstock.storage.formats.arrow.schemas import unknown_extensions
from penstock.storage.formats.pandas.objects import decode_objects, encode_objects
from penstock.storage.formats.pandas.zones import decode_zone, encode_zone
from penstock.storage.formats.typed.json import Unkept
from penstock.storage.formats.typed.nodes import from_node, to_node

Kind = list[Any]
"""A tag and its data, as JSON."""
Encoder = Callable[[Any, Any], tuple[Any, Kind]]
"""Encodes an array of a dtype."""
Decoder = Callable[[Any, Kind], Any]

_DENSE = frozenset("iufb")
_MASKED = frozenset(
    {pd.BooleanDtype, pd.Float32Dtype, pd.Float64Dtype, pd.Int8Dtype, pd.Int16Dtype, pd.Int32Dtype, pd.Int64Dtype}
    | {pd.UInt8Dtype, pd.UInt16Dtype, pd.UInt32Dtype, pd.UInt64Dtype}
)


def encode_array(values: Any) -> tuple[Any, Kind]:
    """Return the Arrow array and kind of a pandas Series, Index or array.

    The array is None if pyarrow's own conversion of `values` is to be used. Raises `Unkept`, and pyarrow's errors.
    """
    dtype = values.dtype
    if isinstance(dtype, np.dtype):
        return _encode_numpy(values, dtype)
    encoder = _ENCODERS.get(type(dtype))
    if type(dtype) in _MASKED:
        return None, ["masked", dtype.name]
    if encoder is None:
        raise Unkept(values, "", f"a column of {dtype}")
    return encoder(getattr(values, "array", values), dtype)


def decode_array(array: Any, kind: Kind) -> Any:
    """Restore the pandas or numpy array from an Arrow array with any chunks. Raises any exception if that fails."""
    own = kind[0] == "arrow"  # only these dtypes have Arrow's extension types as their own
    return _DECODERS[kind[0]](array if own else _storage(array), kind)


def _storage(array: Any) -> Any:
    """Return the array without its extension type, which this process may not know."""
    if not isinstance(array.type, pa.BaseExtensionType):
        return array
    if isinstance(array, pa.ChunkedArray):
        return pa.chunked_array([chunk.storage for chunk in array.chunks], type=array.type.storage_type)
    return array.storage


# -- numpy


def _encode_numpy(values: Any, dtype: np.dtype[Any]) -> tuple[Any, Kind]:
    if dtype.kind == "O":
        return encode_objects(np.asarray(values, dtype=object))
    if dtype.kind in _DENSE and dtype.itemsize <= 8:
        native = None if dtype.isnative else pa.array(np.asarray(values, dtype.newbyteorder("=")), from_pandas=True)
        return native, ["np", dtype.str]
    if dtype.kind in "mM":
        return None, [dtype.str[1:3], np.datetime_data(dtype)[0]]
    if dtype.kind == "c" and dtype.itemsize <= 16:
        plain = np.asarray(values)
        parts = [pa.array(plain.real), pa.array(plain.imag)]
        return pa.StructArray.from_arrays(parts, names=["real", "imag"]), ["complex", dtype.str]
    raise Unkept(values, "", f"a column of {dtype}")


def _decode_np(array: Any, kind: Kind) -> Any:
    dtype = np.dtype(kind[1])
    values = array.to_numpy(zero_copy_only=False) if isinstance(array, pa.Array) else array.to_numpy()
    if values.dtype.newbyteorder("=") != dtype.newbyteorder("=") and len(values):
        raise TypeError(f"a column of {dtype} was read as {values.dtype}")
    return values.astype(dtype, copy=not values.flags.writeable)


def _decode_times(array: Any, kind: Kind) -> Any:
    unit = kind[1]
    made = pa.timestamp(unit) if kind[0] == "M8" else pa.duration(unit)
    whole = array.cast(made)
    return np.array(whole.to_numpy(zero_copy_only=False) if isinstance(whole, pa.Array) else whole.to_numpy())


def _decode_complex(array: Any, kind: Kind) -> Any:
    whole = _whole(array)
    made = np.empty(len(whole), np.dtype(kind[1]))
    made.real, made.imag = (whole.field(i).to_numpy(zero_copy_only=False) for i in (0, 1))
    return made


def _whole(array: Any) -> Any:
    if isinstance(array, pa.ChunkedArray):
        return array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)
    return array


# -- pandas


def _encode_zoned(array: Any, dtype: Any) -> tuple[Any, Kind]:
    # Through UTC: Arrow identifies zones by name only, and does not know all names of Python's packages.
    utc = np.asarray(array.tz_convert("UTC").tz_localize(None))
    return pa.array(utc, pa.timestamp(dtype.unit, "UTC"), from_pandas=True), [
        "zoned",
        dtype.unit,
        encode_zone(dtype.tz),
    ]


def _decode_zoned(array: Any, kind: Kind) -> Any:
    utc = _decode_times(array.cast(pa.timestamp(kind[1])), ["M8", kind[1]])
    return pd.DatetimeIndex(utc).tz_localize("UTC").tz_convert(decode_zone(kind[2])).array


def _encode_text(array: Any, dtype: Any) -> tuple[Any, Kind]:
    missing = "nan" if dtype.na_value is not pd.NA else "NA"
    kind = ["text", dtype.storage, missing]
    try:
        return pa.array(array, from_pandas=True), kind
    except UnicodeEncodeError:
        cells, how = encode_objects(array.to_numpy(dtype=object, na_value=None))
        return cells, ["text", dtype.storage, missing, how]


def _decode_text(array: Any, kind: Kind) -> Any:
    storage, missing = kind[1:3]
    if missing == "nan" and _MAJOR < 3:  # there, text is objects
        return np.array(decode_array(array, kind[3]) if len(kind) > 3 else array.to_pandas(), dtype=object)
    if len(kind) > 3:
        cells = decode_array(array, kind[3])
        dtype = pd.StringDtype("python", na_value=np.nan) if missing == "nan" else pd.StringDtype("python")
        return pd.array(cells, dtype=dtype)
    storage = storage.removesuffix("_numpy")
    dtype = pd.StringDtype(storage, na_value=np.nan) if missing == "nan" else pd.StringDtype(storage)
    return dtype.__from_arrow__(array)


_NAT = np.iinfo(np.int64).min
_MAJOR = int(pd.__version__.partition(".")[0])


def _encode_arrow(array: Any, dtype: Any) -> tuple[Any, Kind]:
    made = array.__arrow_array__()
    extension = unknown_extensions(pa.schema([("", made.type)]))
    if extension:
        raise Unkept(array, "", f"a column of the extension type {extension}")
    return made, ["arrow"]


def _decode_arrow(array: Any, kind: Kind) -> Any:
    return pd.arrays.ArrowExtensionArray(array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array]))


def _encode_interval(array: Any, dtype: Any) -> tuple[Any, Kind]:
    sides, kinds = [], []
    for side in (array.left, array.right):
        encoded, kind = encode_array(side)
        sides.append(pa.array(side, from_pandas=True) if encoded is None else encoded)
        kinds.append(kind)
    mask = pa.array(np.asarray(array.isna()))
    struct = pa.StructArray.from_arrays(sides, names=["left", "right"], mask=mask)
    return struct, ["interval", dtype.closed, kinds[0]]


def _decode_interval(array: Any, kind: Kind) -> Any:
    left, right = (decode_array(side, kind[2]) for side in _whole(array).flatten())
    return pd.arrays.IntervalArray.from_arrays(left, right, closed=kind[1])


def _encode_period(array: Any, dtype: Any) -> tuple[Any, Kind]:
    name = dtype.name.removeprefix("period[").removesuffix("]")
    if pd.PeriodDtype(name) != dtype:
        raise Unkept(array, "", f"periods of {dtype.freq!r}")
    return None, ["period", name]


def _decode_period(array: Any, kind: Kind) -> Any:
    ordinals = np.array(_whole(array).fill_null(_NAT), dtype=np.int64)
    return pd.arrays.PeriodArray(ordinals, dtype=pd.PeriodDtype(kind[1]))


def _encode_sparse(array: Any, dtype: Any) -> tuple[Any, Kind]:
    dense = np.asarray(array.to_dense())
    encoded, kind = encode_array(pd.Series(dense, copy=False))
    return (
        pa.array(dense, from_pandas=False) if encoded is None else encoded,
        ["sparse", kind, to_node(dtype.fill_value), _OF_THIS_TYPE],
    )


_OF_THIS_TYPE = "exact"
"""Marks a fill value of its original type. Others, of earlier records, have the type of the cells."""


def _decode_sparse(array: Any, kind: Kind) -> Any:
    dense = decode_array(array, kind[1])
    fill = from_node(kind[2])
    if kind[3:] != [_OF_THIS_TYPE] and dense.dtype.kind in "iufb" and type(fill) in (int, float, bool):
        fill = dense.dtype.type(fill)
    return pd.arrays.SparseArray(dense, fill_value=fill, dtype=pd.SparseDtype(dense.dtype, fill))


def _decode_masked(array: Any, kind: Kind) -> Any:
    # Not `__from_arrow__`, which treats NaN as a missing value.
    whole = _whole(array)
    mask = np.array(whole.is_null().to_numpy(zero_copy_only=False))
    values = np.array(whole.fill_null(False if kind[1] == "boolean" else 0).to_numpy(zero_copy_only=False))
    dtype = pd.api.types.pandas_dtype(kind[1])
    return dtype.construct_array_type()(values.astype(dtype.numpy_dtype, copy=False), mask)


_ENCODERS: dict[type, Encoder] = {
    pd.DatetimeTZDtype: _encode_zoned,
    pd.StringDtype: _encode_text,
    pd.ArrowDtype: _encode_arrow,
    pd.IntervalDtype: _encode_interval,
    pd.PeriodDtype: _encode_period,
    pd.SparseDtype: _encode_sparse,
}
_DECODERS: dict[str, Decoder] = {
    "np": _decode_np,
    "M8": _decode_times,
    "m8": _decode_times,
    "complex": _decode_complex,
    "zoned": _decode_zoned,
    "text": _decode_text,
    "masked": _decode_masked,
    "arrow": _decode_arrow,
    "interval": _decode_interval,
    "period": _decode_period,
    "sparse": _decode_sparse,
    "object": decode_objects,
}


def extend(dtype: type, tag: str, encoder: Encoder, decoder: Decoder) -> None:
    """Register the encoder and decoder of a dtype from a module that depends on this one."""
    _ENCODERS[dtype], _DECODERS[tag] = encoder, decoder
