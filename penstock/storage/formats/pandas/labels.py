"""pandas Indexes: those without rows (columns, categories, levels), and the index of rows."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from penstock.errors import SerializationError
from penstock.storage.formats.pandas.arrays import decode_array, encode_array
from penstock.storage.formats.typed.json import Unkept
from penstock.storage.formats.typed.nodes import from_node, to_node

Labels = dict[str, Any]


def encode_labels(index: Any) -> Labels:
    """Encode an Index in typed JSON. Raises `Unkept`."""
    if isinstance(index, pd.MultiIndex):
        return {
            "levels": [encode_labels(level) for level in index.levels],
            "codes": [np.asarray(codes).tolist() for codes in index.codes],
            "names": [to_node(name) for name in index.names],
        }
    if isinstance(index, pd.RangeIndex):
        return _named(index, {"range": [index.start, index.stop, index.step]})
    array, kind = encode_array(index)
    array = as_arrow(index) if array is None else array
    if kind[:2] == ["object", "str"] or kind[0] == "text":
        values: Any = array.to_pylist() if len(kind) < 4 else _as_text(array)
    else:
        values = _as_text(array)
    return _named(index, {"kind": kind, "values": values})


def decode_labels(labels: Labels) -> Any:
    """Restore an Index that `encode_labels` encoded."""
    if "levels" in labels:
        levels = [decode_labels(level) for level in labels["levels"]]
        codes = [np.asarray(each, np.int64) for each in labels["codes"]]
        return _multi_index(levels, codes, labels["names"])
    if "range" in labels:
        return pd.RangeIndex(*labels["range"], name=from_node(labels.get("name")))
    values = labels["values"]
    array = _from_text(values) if isinstance(values, str) else pa.array(values, pa.string())
    return make_index(decode_array(array, labels["kind"]), labels)


def encode_rows(index: Any) -> tuple[list[Any], Labels]:
    """Return the Arrow arrays of a frame's index, and how to restore it."""
    if isinstance(index, pd.RangeIndex):
        return [], encode_labels(index)
    if not isinstance(index, pd.MultiIndex):
        array, kind = encode_array(index)
        return [as_arrow(index) if array is None else array], _named(index, {"kind": kind})
    arrays, levels = [], []
    for number in range(index.nlevels):
        array, labels = _encode_level(index, number)
        arrays.append(array)
        levels.append(labels)
    return arrays, {"rows": levels, "names": [to_node(name) for name in index.names]}


def _encode_level(index: Any, number: int) -> tuple[Any, Labels]:
    level, codes = index.levels[number], np.asarray(index.codes[number])
    values = index.get_level_values(number)
    gaps = values.dtype != level.dtype
    if gaps:  # the dtype cannot hold missing labels, so pandas has converted all of them; Arrow need not
        values = level.take(codes[codes >= 0])
    array, kind = encode_array(values)
    array = as_arrow(values) if array is None else array
    labels: Labels = {"kind": kind}
    if gaps:
        labels["gaps"] = True
        array = array.take(pa.array(np.cumsum(codes >= 0) - 1, mask=codes < 0))
        codes = codes[codes >= 0]
    if not _is_found_again(level, codes):
        labels["level"] = encode_labels(level)
        if not _are_found(level, values, codes):
            labels["codes"] = _as_text(pa.array(index.codes[number], pa.int64()))
    return array, _named(level, labels)


def is_of_version_2(rows: Labels) -> bool:
    """Return whether earlier versions cannot restore an index that `encode_rows` encoded."""
    return any("gaps" in each or "codes" in each for each in rows.get("rows", ()))


def decode_rows(arrays: Sequence[Any], labels: Labels) -> Any:
    """Restore an index that `encode_rows` encoded."""
    if "rows" not in labels:
        return (
            decode_labels(labels) if "range" in labels else make_index(decode_array(arrays[0], labels["kind"]), labels)
        )
    levels, codes = [], []
    for array, each in zip(arrays, labels["rows"], strict=True):
        level, places = _decode_level(array, each)
        levels.append(level)
        codes.append(places)
    return _multi_index(levels, codes, labels["names"])


def _decode_level(array: Any, labels: Labels) -> tuple[Any, Any]:
    if "codes" in labels:
        return decode_labels(labels["level"]), np.asarray(_from_text(labels["codes"]), np.int64)
    there = None
    if "gaps" in labels:
        there = np.asarray(array.is_valid(), bool)
        array = array.drop_null()
    values = make_index(decode_array(array, labels["kind"]), {})
    if "level" in labels:
        level = decode_labels(labels["level"])
        places = _places(level, values)
    else:
        places, level = pd.factorize(values, sort=True)
        level = level.rename(from_node(labels.get("name")))
    if there is None:
        return level, places
    codes = np.full(len(there), -1, np.int64)
    codes[there] = places
    return level, codes


def _multi_index(levels: list[Any], codes: list[Any], names: Any) -> Any:
    """Return a MultiIndex with exactly these levels and codes."""
    for level, places in zip(levels, codes, strict=True):
        wrong = len(places) != len(codes[0]) or (len(places) and not -1 <= places.min() <= places.max() < len(level))
        if wrong:
            raise SerializationError("the index of a stored frame cannot be read", because="its codes are wrong")
    # Not verified by pandas, which would change codes of missing values and refuse repeated labels; pandas itself
    # creates both.
    return pd.MultiIndex(levels, codes, names=[from_node(name) for name in names], verify_integrity=False)


def make_index(values: Any, labels: Labels) -> Any:
    """Return an Index of these values with the name and frequency in the labels."""
    made = pd.Index(
        values, dtype=object if values.dtype == object else None, name=from_node(labels.get("name")), copy=False
    )
    if "freq" in labels:
        made.freq = labels["freq"]
    return made


def _is_found_again(level: Any, codes: Any) -> bool:
    """Return whether sorting the used values restores this level: sorted, all values used, without frequency."""
    if getattr(level, "freq", None) is not None or isinstance(level, (pd.CategoricalIndex, pd.RangeIndex)):
        return False
    used = np.zeros(len(level) + 1, bool)
    used[codes] = True  # -1 stands for a missing value and indexes the last entry
    return bool(used[: len(level)].all()) and level.is_monotonic_increasing and level.is_unique and not level.hasnans


def _are_found(level: Any, values: Any, codes: Any) -> bool:
    """Return whether searching the values in their level restores the codes."""
    try:
        return bool(np.array_equal(_places(level, values), codes))
    except (ValueError, TypeError, NotImplementedError, pd.errors.InvalidIndexError):  # repeated or overlapping labels
        return False


def _places(level: Any, values: Any) -> Any:
    """Return the codes of values in a level, -1 for missing ones."""
    found = level.get_indexer(values)
    return np.where(np.asarray(values.isna()), -1, found)


def _named(index: Any, labels: Labels) -> Labels:
    if index.name is not None:
        labels["name"] = to_node(index.name)
    freq = None if isinstance(index, pd.PeriodIndex) else getattr(index, "freq", None)
    if freq is not None:
        if pd.tseries.frequencies.to_offset(freq.freqstr) != freq:
            raise Unkept(index, "", f"the frequency {freq!r}")
        labels["freq"] = freq.freqstr
    return labels


def as_arrow(values: Any) -> Any:
    """Convert values by pyarrow itself, as `encode_array` requests."""
    if not isinstance(values.dtype, np.dtype):
        values = getattr(values, "array", values)
    array = pa.array(values, from_pandas=True)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _as_text(array: Any) -> str:
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    sink = pa.BufferOutputStream()
    batch = pa.record_batch([array], names=["labels"])
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return base64.b64encode(sink.getvalue().to_pybytes()).decode("ascii")


def _from_text(text: str) -> Any:
    from penstock.storage.formats.arrow.schemas import check_stream

    data = base64.b64decode(text, validate=True)
    check_stream(data)
    column = pa.ipc.open_stream(data).read_all().column(0)
    column.validate(full=True)
    if column.num_chunks > 1:
        raise SerializationError("the labels of a stored frame cannot be read", because="they are in several batches")
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)
