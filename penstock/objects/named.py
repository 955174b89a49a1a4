"""What a name means in a loaded module."""

from __future__ import annotations

import inspect
import sys
from typing import Any

MISSING = object()


def found_at(module: str, path: str) -> Any:
    """Return the object at a dotted path in a loaded module, or the module if the path is empty.

    `MISSING` if there is none. Runs no code of users' objects, so that descriptors are returned as they are.
    """
    value: Any = sys.modules.get(module, MISSING)
    for name in path.split(".") if path else ():
        value = inspect.getattr_static(value, name, MISSING)
    return value
