"""The names that code modifies in place: its counters, caches and other state, which are no constants of a task.

The syntax of the functions decides: `CACHE[key] = …`, `self.count += 1`, `seen.append(x)`, also through another name
(`cache = CACHE`) or an argument (`remember(CACHE)`). Names of one spelling are not told apart.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from types import CodeType, FunctionType
from typing import NamedTuple

from msgspec import Struct

from penstock.digests.code.syntax import function_syntax
from penstock.errors import DigestError

_METHODS = frozenset(
    {"add", "append", "appendleft", "clear", "discard", "extend", "extendleft", "insert", "intersection_update"}
    | {"move_to_end", "pop", "popitem", "popleft", "put", "put_nowait", "remove", "reverse", "rotate", "setdefault"}
    | {"sort", "subtract", "symmetric_difference_update", "update", "__delitem__", "__setitem__"}
)
_FUNCTIONS = frozenset(
    {"heapify", "heappop", "heappush", "heappushpop", "heapreplace", "insort", "insort_left", "insort_right"}
    | {"delitem", "iadd", "iconcat", "ior", "next", "setitem", "shuffle"}
)
_VIEWS = frozenset({"enumerate", "iter", "reversed", "zip"})
_LOOKUPS = frozenset({"__getitem__", "get", "items", "keys", "setdefault", "values"})
_NAMESPACES = frozenset({"__dict__", "vars"})
_EXECUTING = frozenset({"eval", "exec"})
ANY = "*"
"""In place of the names of variables and attributes that code computes: `setattr(settings, name, value)`."""
ANYWHERE = "**"
"""In place of what code does that is a text itself: `exec(text)`."""
_SETTERS = frozenset({"setattr", "delattr", "__setattr__", "__delattr__"})
_MAKING = frozenset({"__init__", "__new__", "__post_init__", "__attrs_post_init__", "model_post_init", "__set_name__"})
_RECEIVER = -1
"""The position of the object in a call of its method."""


class _Function(Struct, frozen=True, eq=False):
    code: CodeType
    parameters: tuple[str, ...]
    local: frozenset[str]
    assigned: frozenset[str]
    """Outer variables and attributes."""
    stored: frozenset[str]
    """Variables, attributes and parameters whose items it assigns."""
    filled: frozenset[str]
    """Those of which it calls a method such as `append`."""
    passed: tuple[tuple[str, int | str, str], ...]
    """The callee, the position or name of the argument, and the variable or attribute that is passed."""
    used: frozenset[str]
    """All names and attributes in it."""
    read: frozenset[str]
    """Those of which it uses the value for anything else than modifying it (`seen.append(x)`, `count[x] += 1`)."""


class Modified(NamedTuple):
    """The names of variables and attributes that code modifies."""

    assigned: frozenset[str] = frozenset()
    stored: frozenset[str] = frozenset()
    """Whose items it assigns."""
    filled: frozenset[str] = frozenset()
    """By methods such as `append`, if the object has no method of this name that the project has written."""
    stored_parameters: frozenset[tuple[CodeType, str]] = frozenset()
    """Parameters whose items it assigns, each with its function: what their defaults hold is state of the code."""
    filled_parameters: frozenset[tuple[CodeType, str]] = frozenset()

    def without(self, names: frozenset[str]) -> Modified:
        """Return this without some names of variables, attributes and parameters."""
        return Modified(
            self.assigned - names,
            self.stored - names,
            self.filled - names,
            frozenset(each for each in self.stored_parameters if each[1] not in names),
            frozenset(each for each in self.filled_parameters if each[1] not in names),
        )


def modified_by(
    functions: Sequence[FunctionType],
    methods: Sequence[FunctionType] = (),
    *,
    beside: Collection[CodeType] = frozenset(),
) -> Modified:
    """Return what a task's function modifies, itself or through others.

    Args:
        functions: The task's function, and all functions that it uses by any name.
        methods: The functions in classes that it uses. Those whose names are not used are not considered.
        beside: The code of functions that do not count, even if they are defined inside another one.
    """
    called = _called(functions, methods, beside)
    counts = [function for _, function in called if function.code not in beside]
    assigned = frozenset().union(*(function.assigned for function in counts))
    stored, stored_parameters = _through_calls(called, counts, lambda function: function.stored)
    filled, filled_parameters = _through_calls(called, counts, lambda function: function.filled)
    return Modified(assigned, stored, filled, stored_parameters, filled_parameters)


def read_by(functions: Sequence[FunctionType], methods: Sequence[FunctionType] = ()) -> frozenset[str]:
    """Return the names of variables and attributes that the code does not only modify, of the same arguments."""
    return frozenset().union(*(function.read for _, function in _called(functions, methods)))


_Called = list[tuple[str, _Function]]
"""Functions with their names."""


def _called(
    functions: Sequence[FunctionType], methods: Sequence[FunctionType], beside: Collection[CodeType] = frozenset()
) -> _Called:
    """Return the functions that may be called; one name may occur twice."""
    names = frozenset(code.co_name for code in beside)
    waiting: dict[str, list[FunctionType]] = {}
    for fn in methods:
        waiting.setdefault(fn.__code__.co_name, []).append(fn)
    special = [name for name in waiting if name.startswith("__") and name not in _MAKING]
    found: _Called = []
    open_ = [*functions, *(fn for name in special for fn in waiting.pop(name))]
    seen = set()
    while open_:
        fn = open_.pop()
        if fn.__code__ in seen or (function := _read(fn, names)) is None:
            continue
        seen.add(fn.__code__)
        found.append((fn.__code__.co_name, function))
        for name in function.used - _MAKING:
            open_ += waiting.pop(name, ())
    return found


def _through_calls(
    called: _Called, counts: Sequence[_Function], modified_in: Callable[[_Function], frozenset[str]]
) -> tuple[frozenset[str], frozenset[tuple[CodeType, str]]]:
    """Return what functions modify, including what they pass to others as arguments: outer names, and parameters."""
    modified = {function: set(modified_in(function)) for _, function in called}
    named: dict[str, list[_Function]] = {}
    for name, function in called:
        named.setdefault(name, []).append(function)
    changed = True
    while changed:
        changed = False
        for function, names in modified.items():
            for callee, place, given in function.passed:
                others = named.get(callee, ()) if given not in names else ()
                if any(not modified[other].isdisjoint(_parameters_at(other, place)) for other in others):
                    names.add(given)
                    changed = True
    outer = frozenset().union(*(modified[function] - function.local for function in counts))
    own = ((each.code, name) for each in counts for name in modified[each].intersection(each.parameters))
    return outer, frozenset(own)


def _parameters_at(function: _Function, place: int | str) -> Iterator[str]:
    if isinstance(place, str):
        yield place
        return
    own = function.parameters
    at = place + 1 if own[:1] in (("self",), ("cls",)) else place
    yield from own[at : at + 1] if at >= 0 else ()


@lru_cache(maxsize=4096)
def _read_tree(code: CodeType, tree: ast.AST, inner: frozenset[str]) -> _Function:
    return _Reader(tree, inner).function(code)


def _read(fn: FunctionType, inner: frozenset[str]) -> _Function | None:
    """Read a function without those of these names inside of it."""
    try:
        return _read_tree(fn.__code__, function_syntax(fn), inner.intersection(_names_inside(fn.__code__)))
    except DigestError:
        return None  # without a source: what it modifies is compared like everything else


@lru_cache(maxsize=4096)
def _names_inside(code: CodeType) -> frozenset[str]:
    """Return the names of the functions that are defined inside a function."""
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return frozenset(each.co_name for each in inner).union(*map(_names_inside, inner))


def _walk(tree: ast.AST, without: frozenset[str]) -> Iterator[ast.AST]:
    yield tree
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in without):
            yield from _walk(node, without)


class _Reader:
    """Reads one function, including those inside of it, except some."""

    def __init__(self, tree: ast.AST, without: frozenset[str]) -> None:
        self.nodes = list(_walk(tree, without) if without else ast.walk(tree))
        self.outer = {name for n in self.nodes if isinstance(n, ast.Global | ast.Nonlocal) for name in n.names}
        self.aliases: dict[str, str] = {}
        self.assigned = set(self.outer)
        self.stored: set[str] = set()
        self.filled: set[str] = set()
        self.passed: list[tuple[str, int | str, str]] = []

    def function(self, code: CodeType) -> _Function:
        for node in self.nodes:
            self._alias(node)
        for node in self.nodes:
            self._note(node)
        local = {n.id for n in self.nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        local |= {n.arg for n in self.nodes if isinstance(n, ast.arg)}
        used = {n.attr for n in self.nodes if isinstance(n, ast.Attribute)}
        used |= {n.id for n in self.nodes if isinstance(n, ast.Name)}
        passed = [(callee, at, given) for callee, at, name in self.passed for given in self._meanings(name)]
        parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        stored, filled = (
            frozenset(meaning for name in names for meaning in self._meanings(name))
            for names in (self.stored, self.filled)
        )
        return _Function(
            code, parameters, frozenset(local - self.outer), frozenset(self.assigned), stored, filled, tuple(passed),
            frozenset(used), frozenset(self._read()),
        )  # fmt: skip

    def _read(self) -> Iterator[str]:
        modified: list[ast.AST] = []
        for node in self.nodes:
            if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
                modified.append(node.value)
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                called = node.value.func
                if isinstance(called, ast.Attribute) and called.attr in _METHODS:
                    modified.append(called.value)
        only = set(map(id, modified))
        for node in self.nodes:
            if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load) and id(node) not in only:
                yield node.id if isinstance(node, ast.Name) else node.attr

    def _alias(self, node: ast.AST) -> None:
        """Note that a local variable is another name for a variable, an attribute or an item."""
        pairs: list[tuple[ast.AST, ast.AST]] = []
        if isinstance(node, ast.Assign):
            pairs = [(target, node.value) for target in node.targets]
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            pairs = [(node.target, node.value)]
        elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            pairs = [(target, node.iter) for target in ast.walk(node.target)]
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            pairs = [(node.optional_vars, node.context_expr)]
        for target, value in pairs:
            if isinstance(target, ast.Name) and (name := _root(value)) is not None and name != target.id:
                self.aliases[target.id] = name

    def _meanings(self, name: str) -> list[str]:
        found = [name]
        while (name := self.aliases.get(name, "")) and name not in found:
            found.append(name)
        return found

    def _note(self, node: ast.AST) -> None:
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            self.assigned.add(node.attr)
        elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            self._add(node.value, self.stored)
            if _root(node.value) in _NAMESPACES:
                self.assigned.update(_strings([node.slice]) or {ANY})
        elif isinstance(node, ast.Call):
            self._note_call(node)

    def _note_call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if isinstance(node.func, ast.Attribute):
            if name in _METHODS:
                self._add(node.func.value, self.filled)
                if _root(node.func.value) in _NAMESPACES:
                    self.assigned.add(ANY)
            if (receiver := _root(node.func.value)) is not None:
                self.passed.append((name, _RECEIVER, receiver))
        elif name in _EXECUTING:
            self.assigned.add(ANYWHERE)
        if name in _SETTERS:
            self.assigned.update(_strings(node.args) or {ANY})
        elif name in _FUNCTIONS and node.args:
            self._add(node.args[0], self.stored)
        given: list[tuple[int | str, ast.expr]] = list(enumerate(node.args))
        given += [(each.arg or "", each.value) for each in node.keywords]
        for place, argument in given:
            if isinstance(argument, ast.Name | ast.Attribute | ast.Subscript) and (passed := _root(argument)):
                self.passed.append((name, place, passed))

    @staticmethod
    def _add(base: ast.AST, names: set[str]) -> None:
        if (name := _root(base)) is not None:
            names.add(name)


def _strings(nodes: Iterable[ast.AST]) -> set[str]:
    return {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def _root(node: ast.AST) -> str | None:
    """Return the last name of `CACHE`, `self.cache`, `CACHE[key]`, `CACHE.get(key)`, `vars(x)` or `iter(CACHE)`."""
    while True:
        if isinstance(node, ast.Name):
            return node.id
        if isinstance(node, ast.Attribute):
            return node.attr
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
            return None  # a copy
        if isinstance(node, ast.Subscript | ast.Starred | ast.Await):
            node = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr not in _LOOKUPS:
                return None
            node = node.func.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            name = node.func.id
            if name not in _VIEWS or not node.args:
                return name if name in _NAMESPACES else None
            node = node.args[0]
        else:
            return None
