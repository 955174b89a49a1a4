"""Telling which packages are there to be used without importing them: of one nobody imported there are no values."""

from __future__ import annotations

import sys
from typing import Any


def loaded(name: str) -> Any:
    """The module, if it was imported; None if nobody did, or another thread is in the middle of it.

    A module stands in `sys.modules` before its classes are there, so a look at that alone fails now and then.
    """
    module = sys.modules.get(name)
    if module is None or getattr(getattr(module, "__spec__", None), "_initializing", False):
        return None
    return module
