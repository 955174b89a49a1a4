"""Names what a task's code reads that is something else now, for errors."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Iterator, Sequence
from typing import Any

from penstock.graph.constants.places import values_in_cells, values_of_attributes
from penstock.graph.constants.states import Unchanged, holds
from penstock.objects.places import place_of

_MOST_NAMES = 3


def names_of_changes(found: Sequence[Unchanged]) -> str:
    """Return the names of variables and attributes that changed, or whose content did; empty if none is known."""
    named: dict[str, Any] = {}  # what has a name, as it is now
    changed: list[str] = []
    containers: list[Any] = []  # that hold something else now
    for unchanged in found:
        with contextlib.suppress(Exception):  # a name is gone, or an object can no longer be read
            place: Any = unchanged
            read, values = place.args
            if place.func is not holds:
                continue
            names, now = _names(read), tuple(read())
            named.update(zip(names, now, strict=False))
            changed += [name for name, old, new in zip(names, values, now, strict=False) if old is not new]
            if not names and not unchanged():
                containers.append(read.args[-1])
    for container in containers:
        inside = ((name, place_of(value, functools.partial(operator.is_, container))) for name, value in named.items())
        changed += [f"{name}{path}" for name, path in inside if path is not None][:1]
    shown = list(dict.fromkeys(changed))
    return ", ".join(shown[:_MOST_NAMES]) + (", …" if len(shown) > _MOST_NAMES else "")


def _names(read: Any) -> list[str]:
    """Return what the values are called that a place reads, in their order."""
    return list(_labels(read))


def _labels(read: Any) -> Iterator[str]:
    if type(read.func) is operator.itemgetter:
        (module,) = read.args
        yield from (f"{module['__name__']}.{name}" for name in read.func.__reduce__()[1])
    elif read.func is values_in_cells:
        yield from (f"closure variable {name}" for name in read.args[0])
    elif read.func is values_of_attributes:
        held, assigned, owner = read.args
        kind = owner if isinstance(owner, type) or hasattr(owner, "__qualname__") else type(owner)
        yield from (f"{kind.__qualname__}.{name}" for name in held() if name not in assigned)
