"""What other code of a flow modifies besides a task's own, such as settings that the task completes and others set.

State that only a task's own code modifies (its caches and counters) is no constant. State that other functions modify,
too, may hold what its results depend on, unless the task never reads it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from types import CodeType
from typing import Any

from penstock.graph.constants.modified import Modified, modified_by, read_by
from penstock.graph.constants.places import Finder, Key, Places, State, Unchanged


class Beside:
    """The state of a task's code that the code of flows and other tasks modifies, too."""

    def __init__(self, fn: Any, *, globals_count: bool) -> None:
        """`fn` is the task's function; `globals_count` as in `places_of`."""
        self._fn = fn
        self._globals_count = globals_count
        self._own: frozenset[CodeType] | None = None
        self._read: frozenset[str] = frozenset()
        self._seen: set[CodeType] = set()
        self._others: list[State] = []

    def add(self, others: Iterable[Any]) -> bool:
        """Take the code of some flows or tasks into account, and all that they use. Return whether it modifies any."""
        before = len(self._others)
        for other in others:
            code = getattr(other, "__code__", None)
            if other is not self._fn and code not in self._seen and (state := self._state_of(other)) is not None:
                self._others.append(state)
        return len(self._others) > before

    def places(self, found: Places) -> list[Unchanged]:
        """Return the places of the task's state that other code modifies, too."""
        shared: dict[Key, Unchanged] = {}
        if self._others:
            own = found.state._replace(assigned=found.state.assigned & self._read)
            for other in self._others:
                shared |= own.also_in(other)
        if shared:
            shared = {key: shared[key] for key in self._readable(shared)}
        return list(shared.values())

    def _readable(self, shared: Collection[Key]) -> list[Key]:
        """Return the places that the task reaches by names that it reads."""
        finder = Finder(Modified(), globals_count=self._globals_count)
        finder.places_of(self._fn)
        modified = modified_by(finder.functions, finder.methods)
        _, unread = finder.split(self._fn, modified.without(self._read))
        return [key for key in shared if key not in unread.inside]

    def _state_of(self, other: Any) -> State | None:
        finder = Finder(Modified(), globals_count=True)
        finder.places_of(other)
        self._seen.update(fn.__code__ for fn in finder.functions)
        modified = modified_by(finder.functions, finder.methods, beside=self._code())
        return finder.behind(other, modified) if any(modified) else None

    def _code(self) -> frozenset[CodeType]:
        """Return the code of all functions that the task uses: what these modify, they modify for the task as well."""
        if self._own is None:
            finder = Finder(Modified(), globals_count=self._globals_count)
            finder.places_of(self._fn)
            self._read = read_by(finder.functions, finder.methods)
            self._own = frozenset(fn.__code__ for fn in (*finder.functions, *finder.methods))
        return self._own
