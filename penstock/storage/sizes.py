"""What values say they take in memory."""

from __future__ import annotations

from typing import Any


def nbytes_of(value: Any) -> int:
    """The value's `nbytes`; 0 if it has none or cannot tell, as sparse tensors and classes of numpy."""
    try:
        size = value.nbytes
    except Exception:  # noqa: BLE001 - it is asked of any object, and may do anything
        return 0
    return size if isinstance(size, int) else 0
