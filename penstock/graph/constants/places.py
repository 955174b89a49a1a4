"""The places from which a task's code reads values: closure cells, global names, attributes, and what is inside them.

Follows the functions and classes of the project, as `task_code` does, but reads names in byte code, which is fast and
finds a few too many. What the code itself modifies is left out (see `modified`).
"""

from __future__ import annotations

import collections
import contextlib
import dis
import functools
import operator
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import CodeType, FunctionType, MappingProxyType, MethodType, ModuleType, SimpleNamespace
from typing import Any, NamedTuple

from penstock.digests.code.made_classes import parts
from penstock.digests.code.syntax import function_syntax
from penstock.digests.definitions.aliases import aliased, is_alias
from penstock.digests.definitions.annotated import Annotated
from penstock.digests.definitions.behind import behind, home_of
from penstock.digests.definitions.held import code_of_wrapper
from penstock.digests.definitions.own_class import Read, functions_behind, own_class, reads
from penstock.digests.names import is_project_module
from penstock.digests.walk import LEAVES, attributes
from penstock.errors import DigestError
from penstock.graph.constants.contents import content_of, equals
from penstock.graph.constants.modified import Modified, modified_by
from penstock.graph.constants.states import ABSENT, NO_STATE, Key, Place, State, Unchanged, holds, none_has_others
from penstock.objects.questions import ask, has
from penstock.objects.records import defaults_of, has_held_values, held_values

_MOST_PLACES = 100_000
_MANY_ITEMS = 1000
_MOST_ITEMS = 100_000
"""Of containers with more items, only the number of items is compared."""
_IMMUTABLE = frozenset(LEAVES) - {bytearray}
_ITEMS: dict[type, Callable[[Any], Iterable[Any]]] = {
    collections.OrderedDict: lambda value: (*collections.OrderedDict.keys(value), *dict.values(value)),
    dict: lambda value: (*dict.keys(value), *dict.values(value)),
    list: list.__iter__,
    tuple: tuple.__iter__,
    set: set.__iter__,
    frozenset: frozenset.__iter__,
    collections.deque: collections.deque.__iter__,
    MappingProxyType: lambda value: (*value.keys(), *value.values()),
    collections.ChainMap: lambda value: value.maps,
}


class Places(NamedTuple):
    """The places from which the code of a task reads values."""

    found: list[Unchanged]
    certain: list[Unchanged]
    """Without what the code itself modifies."""
    large: bool
    """Whether comparing them takes much longer than a call."""
    state: State
    """What the code itself modifies."""
    growing: list[Unchanged]
    """The sizes of containers to which reading adds items."""


def places_of(fn: Any, *, globals_count: bool) -> Places:
    """Return the places from which the code of a task reads values, each as a comparison with the present.

    The comparisons raise what objects raise that can no longer be read.

    Args:
        fn: The task's function, or another callable.
        globals_count: Whether global names are part of its digest, and not only closures and defaults.
    """
    finder = Finder(Modified(), globals_count=globals_count)
    found = certain = finder.places_of(fn)
    state = NO_STATE
    if found and any(modified := modified_by(finder.functions, finder.methods)):
        certain, state = finder.split(fn, modified)
    return Places(list(found.values()), list(certain.values()), finder.items > _MANY_ITEMS, state, finder.growing)


class Finder:
    """Finds everything that a function can reach, except through the given names."""

    def __init__(self, without: Modified, *, globals_count: bool, own: Collection[CodeType] = frozenset()) -> None:
        """`own` is the code of functions whose variables are never left out, only attributes."""
        self.functions: list[FunctionType] = []
        self.methods: list[FunctionType] = []
        self.items = 0
        self.growing: list[Unchanged] = []
        self._without = without
        self._own = own
        self._globals_count = globals_count
        self._is_project = functools.cache(is_project_module)
        self.names: dict[Key, Callable[[], Mapping[str, Any]]] = {}
        """What has variables and attributes, some of which may be left out."""
        self._places: dict[Key, Unchanged] = {}
        self._names: dict[tuple[int, bool], tuple[Mapping[str, Any], set[str]]] = {}
        """The global names that are read, by the id of their module's dict, and whether by code of `own`."""
        self._seen: dict[int, Any] = {}
        self._in_classes: set[int] = set()  # the attributes of classes
        self._owners: dict[int, type] = {}
        """The classes that methods belong to, by the id of the method."""
        self._open: collections.deque[Any] = collections.deque()
        self._left_out: list[Any] = []
        self._bare: list[FunctionType] = []
        """Functions without attributes."""
        self._annotated = Annotated(self._is_project)
        self._kept: list[Read] = []  # so that no other object gets their ids

    def reached(self) -> frozenset[Place]:
        """Return all places that have been found, and the global names in them."""
        names = ((("names", scope), name) for (scope, _), (_, names) in self._names.items() for name in names)
        return frozenset((*self._places, *names, *(("attributes", id(fn)) for fn in self._bare)))

    def split(self, fn: Any, modified: Modified) -> tuple[dict[Key, Unchanged], State]:
        """Return the places of a function that are left without the modified names, and the others."""
        without = Finder(modified, globals_count=self._globals_count)
        left = without.places_of(fn)
        inside = {key: unchanged for key, unchanged in self._places.items() if key not in left}
        return left, State(inside, without.names, modified.assigned)

    def behind(self, fn: Any, modified: Modified, own: Collection[CodeType]) -> State:
        """Return everything that is reached through the modified names, also if it is reached in other ways, too.

        `own` is the code of functions that do not modify it: what others modify, these name themselves.
        """
        without = Finder(modified, globals_count=self._globals_count, own=own)
        without.places_of(fn)
        inside = Finder(Modified(), globals_count=self._globals_count).places_of(*without._left_out)
        return State(inside, without.names, modified.assigned)

    def places_of(self, *values: Any) -> dict[Key, Unchanged]:
        self._open.extend(values)
        while self._open or self._read_of_arguments():
            if len(self._places) >= _MOST_PLACES:
                break
            value = self._open.popleft()
            if type(value) not in _IMMUTABLE and id(value) not in self._seen:
                self._seen[id(value)] = value
                self._enter(value)
        for scope, names in self._names.values():
            wanted = sorted(names)
            read = functools.partial(operator.itemgetter(wanted[0], *wanted), scope)
            self._add(("names", id(scope)), read, enter=False)
        if self._bare:  # in one place, since most functions never get attributes
            bare = tuple(self._bare)
            self._places["bare", 0] = functools.partial(none_has_others, bare, self._without.assigned)
        return self._places

    def _add(self, key: Key, read: Callable[[], Iterable[Any]], *, enter: bool = True) -> None:
        values = tuple(read())
        self.items += len(values)
        self._places[key] = functools.partial(holds, read, values)
        if enter:
            self._open.extend(values)

    def _enter(self, value: Any) -> None:
        kind = type(value)
        items = next((items for base, items in _ITEMS.items() if issubclass(kind, base)), None)
        if items is not None:
            self._enter_container(value, items)
        if issubclass(kind, FunctionType):
            self._enter_function(value)
        elif issubclass(kind, type):
            self._enter_class(value)
        elif issubclass(kind, functools.partial):
            self._open.extend((value.func, value.args, value.keywords))
        elif issubclass(kind, MethodType | staticmethod | classmethod):
            self._open.extend((value.__func__, getattr(value, "__self__", None)))
        elif issubclass(kind, property):
            self._open.extend((value.fget, value.fset, value.fdel))
        elif self._is_project(kind.__module__) or kind is SimpleNamespace:
            self._add_attributes(value, functools.partial(attributes, value))
            self._open.append(kind)
            self._open.extend(code for _, code in code_of_wrapper(value, self._is_project))
        elif (unchanged := content_of(value, kind)) is not None:
            self._places["content", id(value)] = unchanged
            self._open.extend(held_values(value))  # the cells of an array of objects
        elif is_alias(value):
            self._open.extend(aliased(value))
        elif has_held_values(value):
            self._open.extend(held_values(value))
        elif items is None:
            self._open.append(behind(value, self._is_project))
            self._open.extend(code for _, code in code_of_wrapper(value, self._is_project))

    def _enter_container(self, value: Any, items: Callable[[Any], Iterable[Any]]) -> None:
        if len(value) > _MOST_ITEMS:
            self._places["items", id(value)] = functools.partial(equals, value.__len__, len(value))
        elif type(value) in (tuple, frozenset):
            self._open.extend(items(value))
        elif isinstance(value, dict) and has(
            type(value), "__missing__"
        ):  # a `defaultdict` and the like, to which reading adds items
            keys = list(dict.keys(value))
            self.growing.append(functools.partial(equals, functools.partial(dict.__len__, value), len(keys)))
            factory = functools.partial(ask, value, "default_factory")
            self._add(("items", id(value)), lambda: (factory(), *(dict.get(value, key, ABSENT) for key in keys)))
        else:
            self._add(("items", id(value)), functools.partial(items, value))

    def _enter_class(self, cls: type) -> None:
        if not self._is_project(cls.__module__):
            return
        held = vars(cls)
        self._add_attributes(cls, lambda: held)
        self._in_classes.update(map(id, held.values()))
        self._open.extend((*cls.__bases__, type(cls)))

    def _enter_function(self, fn: FunctionType) -> None:
        inner = behind(fn, self._is_project)
        if inner is not fn:
            self._open.append(inner)
        if not self._is_project(home_of(fn)):
            return
        (self.methods if id(fn) in self._in_classes else self.functions).append(fn)
        self._enter_defaults(fn)
        if vars(fn):
            self._add_attributes(fn, lambda: vars(fn))
        elif self._globals_count:
            self._bare.append(fn)
            self.names["attributes", id(fn)] = lambda: vars(fn)
        own = fn.__code__ in self._own
        cells = zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True)
        if wanted := {name: cell for name, cell in cells if own or name not in self._without.assigned}:
            self._add(("cells", id(fn)), functools.partial(values_in_cells, wanted), enter=False)
            held = ((name, _in_cell(cell)) for name, cell in wanted.items())
            self._open.extend(found for name, found in held if own or self._entered(name, found))
        if self._globals_count:
            names = names_in(fn.__code__)
            self._enter_module(fn.__globals__, names, global_names_in(fn.__code__), own=own)
            self._enter_imported(fn.__globals__, names, own=own)
            with contextlib.suppress(DigestError):  # without a source, it has no digest either
                self._annotated.add(function_syntax(fn), fn.__globals__)
                self._enter_own_class(fn)

    def _enter_defaults(self, fn: FunctionType) -> None:
        for name, value in defaults_of(fn).items():
            at = (fn.__code__, name)
            if at in self._without.stored_parameters or (
                at in self._without.filled_parameters and self._has_usual_methods(value)
            ):
                self._left_out.append(value)
            else:
                self._open.append(value)

    def _enter_module(
        self, scope: Mapping[str, Any], names: frozenset[str], read: frozenset[str] | None = None, *, own: bool
    ) -> None:
        """Enter the names that code reads in a module, and in the modules that it reads there.

        Args:
            scope: The names of the module.
            names: Those that the code reads anywhere, also as attributes.
            read: Those that it reads in this module. By default all of them, as attributes of the module.
            own: Whether it is code of `own`.
        """
        _, known = self._names.setdefault((id(scope), own), (scope, set()))
        wanted = names if read is None else read
        new = [name for name in wanted - known if name in scope and (own or name not in self._without.assigned)]
        known.update(new)
        if not own:
            self.names["names", id(scope)] = lambda: scope
        for name in new:
            value = scope[name]
            if type(value) is ModuleType and self._is_project(value.__name__):
                self._enter_module(vars(value), names, own=own)
            elif own or self._entered(name, value):
                self._open.append(value)
        if not known:
            del self._names[id(scope), own]

    def _enter_imported(self, scope: Mapping[str, Any], names: frozenset[str], *, own: bool) -> None:
        """Enter the modules that a function imports itself."""
        package = scope.get("__package__") or ""
        for name in names:
            for full in (name, f"{package}.{name}"):
                module = sys.modules.get(full)
                if type(module) is ModuleType and self._is_project(full):
                    self._enter_module(vars(module), names, own=own)

    def _enter_own_class(self, fn: FunctionType) -> None:
        """Enter what a method reads of its class."""
        owner = own_class(fn, self._owners.get(id(fn)), self._is_project)
        if owner is None:
            return
        self._enter_reads(reads(fn, owner, self._is_project), owner, id(fn))

    def _read_of_arguments(self) -> bool:
        """Enter what the code reads of the classes that annotations name. Return whether there was more."""
        found = self._annotated.reads(lambda cls: id(cls) in self._seen)
        for each in found:
            self._enter_reads([each], each.bases[0], id(each))
        self._kept += found
        return bool(self._open)

    def _enter_reads(self, found: Iterable[Read], owner: type, number: int) -> None:
        found = [each for each in found if each.attribute not in self._without.assigned]
        self.names["attributes", id(owner)] = lambda: vars(owner)
        self._add(("read", number), lambda: [each.value() for each in found], enter=False)
        for each in found:
            item = each.value()
            self._owners.update((id(method), owner) for method in functions_behind(item))
            if self._entered(each.attribute, item):
                self._open.extend(parts(item))

    def _add_attributes(self, owner: object, read: Callable[[], Mapping[str, Any]]) -> None:
        assigned = self._without.assigned
        self.names["attributes", id(owner)] = read
        wanted = functools.partial(values_of_attributes, read, assigned, owner)
        self._add(("attributes", id(owner)), wanted, enter=False)
        self._open.extend(item for name, item in list(read().items()) if self._entered(name, item))

    def _entered(self, name: str, value: Any) -> bool:
        """Return whether the contents of a variable or attribute are no state of the code itself."""
        if name in self._without.assigned or name in self._without.stored:
            entered = False
        else:
            entered = name not in self._without.filled or not self._has_usual_methods(value)
        if not entered:
            self._left_out.append(value)
        return entered

    def _has_usual_methods(self, value: Any) -> bool:
        """Return whether a method such as `append` modifies the object: it is none that the project has written."""
        kind = type(value)
        return not self._is_project(kind.__module__) or issubclass(kind, tuple(_ITEMS))


def values_in_cells(cells: Mapping[str, Any]) -> Iterable[Any]:
    return map(_in_cell, cells.values())


def values_of_attributes(read: Callable[[], Mapping[str, Any]], assigned: frozenset[str], _: object) -> Iterable[Any]:
    """Return what the attributes of an object hold. The object is there for `naming`."""
    held = read()
    if assigned.isdisjoint(held):
        return list(held.values())
    return [item for name, item in list(held.items()) if name not in assigned]


def _in_cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return NotImplemented


@functools.lru_cache(maxsize=4096)
def names_in(code: CodeType) -> frozenset[str]:
    """Return the names that the code and the functions in it look up in modules and as attributes."""
    return frozenset(code.co_names).union(*map(names_in, _inside(code)))


@functools.lru_cache(maxsize=4096)
def global_names_in(code: CodeType) -> frozenset[str]:
    """Return the names that the code and the functions in it look up in their module."""
    found = (each.argval for each in dis.get_instructions(code) if each.opname in _OF_MODULE)
    return frozenset(found).union(*map(global_names_in, _inside(code)))


_OF_MODULE = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS", "STORE_GLOBAL", "DELETE_GLOBAL"})


def _inside(code: CodeType) -> Iterator[CodeType]:
    return (each for each in code.co_consts if isinstance(each, CodeType))
