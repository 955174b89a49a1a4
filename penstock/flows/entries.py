"""The entry point of a flow, as the command line and run records write it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from penstock.digests.sources import importable_name


def entry_of(fn: Callable[..., Any]) -> str:
    """Return `module:name` or `/path/to/file.py:name` for a flow function."""
    module, qualname = importable_name(fn)
    source = getattr(sys.modules.get(fn.__module__), "__file__", None)
    if source is not None and (fn.__module__ == "__main__" or "." not in module):
        return f"{os.path.abspath(source)}:{qualname}"
    return f"{module}:{qualname}"
