"""pandas categories: a dictionary of texts for other programs, and the categories themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from penstock.storage.formats.pandas.arrays import Kind, extend
from penstock.storage.formats.pandas.labels import decode_labels, encode_labels


def _encode_category(array: Any, dtype: Any) -> tuple[Any, Kind]:
    categories = array.categories
    labels = _labels(categories)
    indices = pa.array(np.where(array.codes < 0, 0, array.codes), pa.int32(), mask=array.codes < 0)
    column = pa.DictionaryArray.from_arrays(indices, pa.array(labels, pa.string()))
    kept = encode_labels(categories)
    # Categories that are text are their own labels and need not be stored twice.
    return column, ["category", bool(array.ordered), kept, None if kept.get("values") == labels else labels]


def _labels(categories: Any) -> list[str]:
    """Return a text for each category, for other programs: its string form, or its number."""
    if categories.dtype == object and all(type(each) is str and _is_text(each) for each in categories):
        return list(categories)
    try:
        labels = [str(each) for each in categories]
    except Exception:  # noqa: BLE001  # a user's __str__ may raise anything
        labels = []
    if len(set(labels)) == len(categories) and all(map(_is_text, labels)):
        return labels
    return [str(number) for number in range(len(categories))]


def _is_text(value: str) -> bool:
    try:
        return bool(value.encode()) or not value
    except UnicodeEncodeError:
        return False


def _decode_category(array: Any, kind: Kind) -> Any:
    categories = decode_labels(kind[2])
    labels = pa.array(kind[2]["values"] if kind[3] is None else kind[3], pa.string())
    codes = np.full(len(array), -1, np.int64)
    at = 0
    for chunk in array.chunks if isinstance(array, pa.ChunkedArray) else [array]:
        if not pa.types.is_dictionary(chunk.type):
            chunk = chunk.dictionary_encode()
        places = pc.index_in(chunk.dictionary, value_set=labels).to_numpy(zero_copy_only=False)
        indices = chunk.indices.to_numpy(zero_copy_only=False)
        present = ~np.asarray(chunk.is_null())
        found = places[indices[present].astype(np.int64)] if len(places) else np.empty(0, np.int64)
        if found.dtype.kind == "f" and np.isnan(found).any():
            raise ValueError("there is a category that was not written")
        codes[at : at + len(chunk)][present] = found
        at += len(chunk)
    return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(categories, ordered=kind[1]))


extend(pd.CategoricalDtype, "category", _encode_category, _decode_category)
