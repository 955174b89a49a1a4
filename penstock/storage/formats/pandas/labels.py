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
        return pd.MultiIndex(
            [decode_labels(level) for level in labels["levels"]],
            [np.asarray(codes, np.int64) for codes in labels["codes"]],
            names=[from_node(name) for name in labels["names"]],
        )
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
        values = index.get_level_values(number)
        array, kind = encode_array(values)
        arrays.append(as_arrow(values) if array is None else array)
        level = index.levels[number]
        plain = _is_found_again(level, index.codes[number])
        levels.append(_named(level, {"kind": kind} if plain else {"kind": kind, "level": encode_labels(level)}))
    return arrays, {"rows": levels, "names": [to_node(name) for name in index.names]}


def decode_rows(arrays: Sequence[Any], labels: Labels) -> Any:
    """Restore an index that `encode_rows` encoded."""
    if "rows" not in labels:
        return (
            decode_labels(labels) if "range" in labels else make_index(decode_array(arrays[0], labels["kind"]), labels)
        )
    levels, codes = [], []
    for array, each in zip(arrays, labels["rows"], strict=True):
        values = make_index(decode_array(array, each["kind"]), {})
        if "level" in each:
            level = decode_labels(each["level"])
            places = level.get_indexer(values)
        else:
            places, level = pd.factorize(values, sort=True)
            level = level.rename(from_node(each.get("name")))
        levels.append(level)
        codes.append(places)
    return pd.MultiIndex(levels, codes, names=[from_node(name) for name in labels["names"]])


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
