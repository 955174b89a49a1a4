"""Finds objects that clean up when they are collected, so that a copy of them would end what the original uses."""

from __future__ import annotations

import gc
import io
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from penstock.objects.questions import has

_ATOMIC = (type, ModuleType, FunctionType, BuiltinFunctionType)
"""What `copy.deepcopy` does not copy."""
_HARMLESS = frozenset({io.StringIO, io.BytesIO})


def holds_finalizer(value: Any) -> bool:
    """Return whether an object, or one inside of it at any depth, has a `__del__`: a client, a file, an event loop."""
    stack, seen = [value], {id(value)}
    while stack:
        item = stack.pop()
        if type(item) not in _HARMLESS and has(type(item), "__del__"):
            return True
        for part in gc.get_referents(item):
            if id(part) not in seen and not isinstance(part, _ATOMIC):
                seen.add(id(part))
                stack.append(part)
    return False
