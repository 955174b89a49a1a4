"""Finds objects that clean up when they are collected, so that a copy of them would end what the original uses."""

from __future__ import annotations

import gc
import io
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from penstock.objects.questions import has

_ATOMIC = (type, ModuleType, FunctionType, BuiltinFunctionType)
"""What `copy.deepcopy` does not copy."""
_HARMLESS = frozenset({io.StringIO, io.BytesIO})


def is_finalized(value: Any) -> bool:
    """Return whether an object has a `__del__`: a client, a file, an event loop."""
    return type(value) not in _HARMLESS and has(type(value), "__del__")


def reached(value: Any) -> Iterator[Any]:
    """Yield an object, and those inside of it at any depth that `copy.deepcopy` would copy."""
    stack, seen = [value], {id(value)}
    while stack:
        item = stack.pop()
        yield item
        for part in gc.get_referents(item):
            if id(part) not in seen and not isinstance(part, _ATOMIC):
                seen.add(id(part))
                stack.append(part)
