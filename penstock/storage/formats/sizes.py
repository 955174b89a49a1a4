"""What values say they take in memory."""

from __future__ import annotations

from typing import Any


def nbytes_of(value: Any) -> int:
    """The value's `nbytes`; 0 if it has none or cannot tell, as sparse tensors and classes of numpy."""
    try:
        size = arrow_bytes(value)
    except Exception:  # noqa: BLE001 - it is asked of any object, and may do anything
        return 0
    return size if isinstance(size, int) else 0


def arrow_bytes(value: Any) -> Any:
    """The bytes that Arrow's arrays, batches and tables say they take."""
    try:
        return value.nbytes
    except TypeError:  # of views of text and bytes, before pyarrow 20
        return value.get_total_buffer_size()
