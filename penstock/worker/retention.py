"""Whether a task still holds what it returned: a cache of its own, a global. Then it may change it later."""

from __future__ import annotations

import sys
from typing import Any

from penstock.objects.copies import IMMUTABLE
from penstock.objects.texts import module_of

MOST_LOOKED_AT = 10_000
"""So many parts of a value are looked at; one with more counts as held."""


def retained(made: list[Any]) -> bool:
    """Whether anybody but this list holds its one value, or a part of it that can be changed: a cache of the task's
    own, a global.

    The caller must not hold it itself, by a name of its own.
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
            parts = list(container.values())  # keys can hardly be changed
        elif module_of(kind) == "numpy" and getattr(container, "base", None) is not None:
            parts = [container.base]
        else:
            continue
        looked_at += len(parts)
        if looked_at > MOST_LOOKED_AT and not IMMUTABLE.issuperset(map(type, parts)):
            return True
        for place in range(len(parts)):  # what enumerates holds a part, too
            if type(parts[place]) in IMMUTABLE:
                continue
            if _holders(parts, place) > _ALONE + 1:  # the container
                return True
            stack.append(parts[place])
    return False
