"""Looking up packages without importing them: there are no values of a package that was never imported."""

from __future__ import annotations

import sys
from typing import Any


def loaded(name: str) -> Any:
    """Return a module if it is fully imported; None if it is not, or another thread is just importing it.

    `sys.modules` alone is not enough: it contains modules whose import has not finished.
    """
    module = sys.modules.get(name)
    if module is None or getattr(getattr(module, "__spec__", None), "_initializing", False):
        return None
    return module
