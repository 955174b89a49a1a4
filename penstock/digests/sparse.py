"""Canonical digests of SciPy's sparse arrays, based on format, shape, dtype and entries, not on their order."""

from __future__ import annotations

from typing import Any

from penstock.digests import numpy as arrays
from penstock.digests.walk import Walk, hash_node, hash_type


def sparse_array(value: Any, walk: Walk) -> bytes:
    """Return the digest of the stored entries, sorted by position, with duplicates summed."""
    import numpy as np

    entries = value.tocoo(copy=True)
    entries.sum_duplicates()
    places = [np.asarray(index, "<i8") for index in getattr(entries, "coords", None) or (entries.row, entries.col)]
    order = np.lexsort(places[::-1])
    parts = [arrays.ndarray(part[order], walk) for part in (*places, entries.data)]
    return hash_node(b"scipy.sparse", (hash_type(type(value)), walk.of(tuple(map(int, value.shape))), *parts))
