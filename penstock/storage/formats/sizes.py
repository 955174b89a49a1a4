"""Sizes of values in memory, as reported by the values."""

from __future__ import annotations

from typing import Any


def nbytes_of(value: Any) -> int:
    """Return the value's `nbytes`, or 0 if it has none or raises, as sparse tensors and numpy classes do."""
    try:
        size = arrow_bytes(value)
    except Exception:  # noqa: BLE001 - any object may be passed, and its attribute may raise anything
        return 0
    return size if isinstance(size, int) else 0


def arrow_bytes(value: Any) -> Any:
    """Return the size of an Arrow array, batch or table in bytes."""
    try:
        return value.nbytes
    except TypeError:  # views of text and bytes before pyarrow 20
        return value.get_total_buffer_size()
