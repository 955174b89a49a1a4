"""Detects whether a task still holds the value it returned, in a cache or a global, and might modify it later."""

from __future__ import annotations

import sys
from typing import Any

from penstock.objects.copies import IMMUTABLE
from penstock.objects.texts import module_of

MOST_LOOKED_AT = 10_000
"""The most parts of a value that are checked; values with more count as held."""


def retained(made: list[Any]) -> bool:
    """Return whether anything but this list refers to its single value or to a mutable part of it.

    The caller must not hold a reference to the value itself.
    """
    return _holders(made, 0) > _ALONE or _parts_retained(made[0])


def _holders(values: list[Any], place: int) -> int:
    return sys.getrefcount(values[place])


_ALONE = _holders([object()], 0)


def _parts_retained(value: Any) -> bool:
    looked_at = 0
    stack = [value]
    del value
    while stack:
        container = stack.pop()
        kind = type(container)
        if kind is list or kind is tuple or kind is set:
            parts = list(container)
        elif kind is dict:
            parts = list(container.values())  # keys are practically immutable
        elif module_of(kind) == "numpy" and getattr(container, "base", None) is not None:
            parts = [container.base]
        else:
            continue
        looked_at += len(parts)
        if looked_at > MOST_LOOKED_AT and not IMMUTABLE.issuperset(map(type, parts)):
            return True
        for place in range(len(parts)):  # enumerate would hold a reference, too
            if type(parts[place]) in IMMUTABLE:
                continue
            if _holders(parts, place) > _ALONE + 1:  # the container
                return True
            stack.append(parts[place])
    return False
