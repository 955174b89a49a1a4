"""Cells that are Python objects: as an Arrow type that preserves all of them, else each as typed JSON."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa

from penstock.storage.formats.typed.json import Unkept
from penstock.storage.formats.typed.nodes import from_node, to_node

_MISSING: dict[type, tuple[str, Any]] = {
    type(None): ("None", None),
    type(pd.NA): ("NA", pd.NA),
    type(pd.NaT): ("NaT", pd.NaT),
}
_NAN = ("nan", float("nan"))
_VALUES = dict([*_MISSING.values(), _NAN])
_NATIVE: dict[type, tuple[str, Any]] = {
    str: ("str", pa.string()),
    bytes: ("bytes", pa.binary()),
    bool: ("bool", pa.bool_()),
    int: ("int", pa.int64()),
    float: ("float", pa.float64()),
    dt.date: ("date", pa.date32()),
    decimal.Decimal: ("decimal", None),
    np.ndarray: ("array", None),
}
Kind = list[Any]


def encode_objects(cells: Any) -> tuple[Any, Kind]:
    """Return the Arrow array and kind of an array of objects. Raises `Unkept` if typed JSON cannot store a cell."""
    kinds = set(map(type, cells))
    missing = [_MISSING[kind] for kind in kinds if kind in _MISSING]
    rest = [kind for kind in kinds if kind not in _MISSING]
    nans = float in kinds and (len(rest) > 1 or missing == [])
    if len(missing) <= 1 and len(rest) <= 1:
        if not rest:
            return pa.nulls(len(cells)), ["object", "null", missing[0][0] if missing else "None"]
        encoded = _encode_alike(cells, rest[0], missing[0] if missing else ("None", None))
        if encoded is not None:
            return encoded
    elif nans and not missing and len(rest) == 2 and _only_nan(cells):
        # Text with missing values, as pandas traditionally stores it.
        other = next(kind for kind in rest if kind is not float)
        encoded = _encode_alike(cells, other, _NAN)
        if encoded is not None:
            return encoded
    return _encode_json(cells)


def _only_nan(cells: Any) -> bool:
    return all(cell != cell for cell in cells if type(cell) is float)


def _encode_alike(cells: Any, kind: type, missing: tuple[str, Any]) -> tuple[Any, Kind] | None:
    if kind not in _NATIVE:
        return None
    name, made = _NATIVE[kind]
    mask = np.fromiter((type(cell) is not kind for cell in cells), bool, len(cells))
    try:
        if kind is decimal.Decimal:
            return _encode_decimals(cells, mask, missing)
        if kind is np.ndarray:
            return _encode_arrays(cells, mask, missing)
        array = pa.array(cells, made, mask=mask, from_pandas=False)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return None  # a number that is too large, or text with surrogates
    return array, ["object", name, missing[0]]


def _encode_decimals(cells: Any, mask: Any, missing: tuple[str, Any]) -> tuple[Any, Kind] | None:
    """Encode decimals with the same number of digits after the point and without a negative zero."""
    held = [cell.as_tuple() for cell in cells[~mask]]
    scales = {each.exponent for each in held}
    scale = next(iter(scales))
    if len(scales) > 1 or not isinstance(scale, int) or scale > 0:
        return None
    if any(each.sign and not any(each.digits) for each in held):
        return None
    precision = max(1, -scale, *(len(each.digits) for each in held))
    if precision > 38:
        return None
    return pa.array(cells, pa.decimal128(precision, -scale), mask=mask), ["object", "decimal", missing[0]]


def _encode_arrays(cells: Any, mask: Any, missing: tuple[str, Any]) -> tuple[Any, Kind] | None:
    """Encode vectors of numbers of one type, such as embeddings."""
    dtypes = {(cell.dtype, cell.ndim) for cell in cells[~mask]}
    dtype, ndim = next(iter(dtypes))
    if len(dtypes) > 1 or ndim != 1 or dtype.kind not in "iuf" or dtype.itemsize > 8 or not dtype.isnative:
        return None
    lengths = np.fromiter((0 if gone else len(cell) for cell, gone in zip(cells, mask, strict=True)), np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    flat = np.concatenate([*cells[~mask], np.empty(0, dtype)])
    array = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat), mask=pa.array(mask))
    return array, ["object", "array", missing[0], dtype.str]


def _encode_json(cells: Any) -> tuple[Any, Kind]:
    texts = []
    for number, cell in enumerate(cells):
        try:
            texts.append(msgspec.json.encode(to_node(cell)).decode())
        except Unkept as unkept:
            raise Unkept(unkept.leaf, f"[{number}]{unkept.where}", unkept.because) from None
    return pa.array(texts, pa.string()), ["object", "json"]


def decode_objects(array: Any, kind: Kind) -> Any:
    """Restore an array of objects."""
    how = kind[1]
    if how == "json":
        decoder = msgspec.json.Decoder()
        return _listed([from_node(decoder.decode(text)) for text in array.to_pylist()])
    missing = _VALUES[kind[2]]
    if how == "null":
        return _listed([missing] * len(array))
    if how == "array":
        return _listed(_vectors(array, np.dtype(kind[3]), missing))
    if how in ("str", "bytes"):
        cells = np.array(array.to_numpy(zero_copy_only=False) if isinstance(array, pa.Array) else array.to_numpy())
    else:
        cells = _listed(array.to_pylist())
    cells = cells.astype(object, copy=False)
    if missing is not None and array.null_count:
        cells[array.is_null().to_numpy(**({"zero_copy_only": False} if isinstance(array, pa.Array) else {}))] = missing
    return cells


def _listed(cells: list[Any]) -> Any:
    """Return any cells as a one-dimensional array of objects."""
    made = np.empty(len(cells), dtype=object)
    for number, cell in enumerate(cells):
        made[number] = cell
    return made


def _vectors(array: Any, dtype: np.dtype[Any], missing: Any) -> list[Any]:
    vectors: list[Any] = []
    for chunk in array.chunks if isinstance(array, pa.ChunkedArray) else [array]:
        flat = chunk.values.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
        offsets = chunk.offsets.to_pylist()
        there = chunk.is_valid().to_pylist()
        vectors += [flat[offsets[n] : offsets[n + 1]].copy() if there[n] else missing for n in range(len(chunk))]
    return vectors
