"""Places from which code reads values, as comparisons with the present, and the state that code modifies there."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import Any, NamedTuple

from penstock.graph.constants.modified import ANY, ANYWHERE

ABSENT = object()
Unchanged = Callable[[], bool]
"""Returns whether one place still holds the same objects, or the same content."""
Key = tuple[str, int]
"""What kind of place it is, and the id of the object."""
Place = Key | tuple[Key, str]
"""A place, or one name in it."""


class State(NamedTuple):
    """The places that code modifies."""

    inside: Mapping[Key, Unchanged]
    """Containers."""
    names: Mapping[Key, Callable[[], Mapping[str, Any]]]
    """What has variables and attributes, some of which are assigned."""
    assigned: frozenset[str]
    """Their names."""

    def also_in(self, other: State) -> dict[Key, Unchanged]:
        """Return the places that are part of another state, too."""
        everywhere = ANYWHERE in other.assigned
        found = {
            key: unchanged
            for key, unchanged in self.inside.items()
            if everywhere or key in other.inside or other.assigns_in(key)
        }
        any_name = everywhere or ANY in other.assigned
        both = self.assigned - {ANY, ANYWHERE} if any_name else self.assigned & other.assigned
        if both:
            shared = (key for key in self.names if everywhere or key in other.names)
            found |= {key: names_unchanged(self.names[key], both) for key in shared}
        return found

    def assigns_in(self, key: Key) -> bool:
        """Return whether the code assigns an attribute that an object has."""
        read = self.names.get(key) if key[0] == "attributes" else None
        return read is not None and (ANY in self.assigned or not self.assigned.isdisjoint(read()))


NO_STATE = State({}, {}, frozenset())


def holds(read: Callable[[], Iterable[Any]], values: tuple[Any, ...]) -> bool:
    now = tuple(read())
    return len(now) == len(values) and all(map(operator.is_, now, values))


def names_unchanged(read: Callable[[], Mapping[str, Any]], names: frozenset[str]) -> Unchanged:
    def values() -> list[Any]:
        held = read()
        return [held.get(name, ABSENT) for name in names]

    return functools.partial(holds, values, tuple(values()))


def none_has_others(functions: Iterable[FunctionType], names: frozenset[str]) -> bool:
    """Return whether functions have no attributes but those of these names."""
    return not any(map(vars, functions)) or all(names.issuperset(vars(function)) for function in functions)
