"""What other code of a flow modifies besides a task's own, such as settings that the task completes and others set.

State that only a task's own code modifies (its caches and counters) is no constant. State that other functions modify,
too, may hold what its results depend on, unless the task never reads it.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Sequence
from types import CodeType, FunctionType
from typing import Any

from penstock.graph.constants.modified import Modified, modified_by, read_by
from penstock.graph.constants.places import Finder, Places, names_in
from penstock.graph.constants.states import Key, Place, State, Unchanged


class Other:
    """The code of a flow or task, with all that it uses. It is read once for all tasks of a run."""

    def __init__(self, fn: Any) -> None:
        self.fn = fn

    @functools.cached_property
    def reached(self) -> tuple[Sequence[FunctionType], Sequence[FunctionType]]:
        """The functions that it uses, and those in classes."""
        finder = Finder(Modified(), globals_count=True)
        finder.places_of(self.fn)
        return finder.functions, finder.methods

    @functools.cached_property
    def modifies(self) -> bool:
        """Whether it modifies anything."""
        return any(modified_by(*self.reached))

    @functools.cached_property
    def changes(self) -> frozenset[Place]:
        """The places that it modifies, and the names in them."""
        state = self.modified(frozenset())
        if state is None:
            return frozenset()
        found: set[Place] = set(state.inside)
        for key, read in state.names.items():
            names = state.assigned.intersection(read())
            found.update(((key, name) for name in names) if key[0] == "names" else [key] if names else [])
        for fn in (*self.reached[0], *self.reached[1]):
            code = fn.__code__
            if not state.assigned.isdisjoint(code.co_freevars):
                found.add(("cells", id(fn)))
            if code.co_name in (*code.co_names, *code.co_freevars) and not state.assigned.isdisjoint(code.co_names):
                found.add(("attributes", id(fn)))  # `f.calls += 1` in f, also if it has none yet
        return frozenset(found)

    def attributes(self, without: frozenset[CodeType]) -> frozenset[str]:
        """Return the names of attributes that it modifies, of any objects, except in functions with this code."""
        modified = modified_by(*self.reached, beside=without) if self.modifies else Modified()
        names = modified.assigned | modified.stored | modified.filled
        used = (fn for fns in self.reached for fn in fns if names and fn.__code__ not in without)
        return frozenset(
            name for fn in used for name in names.intersection(names_in(fn.__code__)) if name not in fn.__globals__
        )

    def modified(self, without: frozenset[CodeType]) -> State | None:
        """Return what it modifies, except in functions with this code. None if there is nothing."""
        if not self.modifies:
            return None
        modified = modified_by(*self.reached, beside=without)
        return Finder(Modified(), globals_count=True).behind(self.fn, modified, without) if any(modified) else None


class Beside:
    """The state of a task's code that the code of flows and other tasks modifies, too."""

    def __init__(self, fn: Any, *, globals_count: bool) -> None:
        """`fn` is the task's function; `globals_count` as in `places_of`."""
        self._fn = fn
        self._globals_count = globals_count
        self._own: frozenset[CodeType] | None = None
        self._read: frozenset[str] = frozenset()
        self._attributes: frozenset[str] = frozenset()
        self._seen: set[CodeType] = set()
        self._others: list[tuple[Other, State]] = []
        self.unclear = False
        """Whether other code modifies attributes that the task reads by name, perhaps of objects made later."""

    def add(self, others: Iterable[Other]) -> bool:
        """Take the code of some flows or tasks into account. Return whether it modifies any state."""
        before = len(self._others)
        for other in others:
            if other.fn is self._fn or getattr(other.fn, "__code__", None) in self._seen:
                continue
            self._seen.update(fn.__code__ for fn in other.reached[0])
            self.unclear = self.unclear or not other.attributes(self._code()).isdisjoint(self._attributes)
            if (state := other.modified(self._code())) is not None:
                self._others.append((other, state))
        return len(self._others) > before

    def places(self, found: Places) -> dict[Key, Unchanged]:
        """Return the places of the task's state that other code modifies, too."""
        shared: dict[Key, Unchanged] = {}
        if self._others:
            own = found.state._replace(assigned=found.state.assigned & self._read)
            for other, state in self._others:
                now = other.modified(self._code()) if self.unclear else state  # objects may have been made since
                shared |= own.also_in(now or state)
        if shared:
            shared = {key: shared[key] for key in self._readable(shared)}
        return shared

    def _readable(self, shared: Collection[Key]) -> list[Key]:
        """Return the places that the task reaches by names that it reads."""
        finder = Finder(Modified(), globals_count=self._globals_count)
        finder.places_of(self._fn)
        modified = modified_by(finder.functions, finder.methods)
        _, unread = finder.split(self._fn, modified.without(self._read))
        return [key for key in shared if key not in unread.inside]

    def _code(self) -> frozenset[CodeType]:
        """Return the code of all functions that the task uses: what these modify, they modify for the task as well."""
        if self._own is None:
            finder = Finder(Modified(), globals_count=self._globals_count)
            finder.places_of(self._fn)
            self._read = read_by(finder.functions, finder.methods)
            functions = (*finder.functions, *finder.methods)
            self._attributes = frozenset().union(*(_attributes_in(fn, self._read) for fn in functions))
            self._own = frozenset(fn.__code__ for fn in functions)
        return self._own


def _attributes_in(fn: FunctionType, read: frozenset[str]) -> frozenset[str]:
    """Return the names of attributes that a function may read: of these names, or by a text (`getattr`)."""
    names = names_in(fn.__code__) & read
    texts = (each for each in fn.__code__.co_consts if isinstance(each, str))
    return frozenset(name for name in (*names, *texts) if name not in fn.__globals__)
