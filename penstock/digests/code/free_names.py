"""The free names of a piece of code: the global names it uses, with their attributes.

Read from the syntax tree, because byte code differs between versions of Python.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_NAMING = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True, slots=True)
class Mention:
    """A dotted name such as `helpers.clean`: the global `helpers` and its attribute `clean`."""

    path: tuple[str, ...]
    imported: tuple[str, str | None] | None = None
    """Set if an import inside a function binds the first name: the module, and the name imported from it."""


Imports = dict[str, tuple[str, str | None]]


def mentions(root: ast.AST, *, known: frozenset[str] = frozenset()) -> Iterator[Mention]:
    """Yield every use of a name that is bound neither in `root` nor in `known` (its closure variables).

    Decorators and defaults of the outermost function are excluded: they were evaluated when it was defined.
    """
    start: list[ast.AST] = list(ast.iter_child_nodes(root))
    imports: Imports = {}
    if isinstance(root, _FUNCTIONS):
        bound = _bound_in(root)
        imports = _imports_in(root)
        known = (known | bound) - _globals_in(root)
        start = list(root.body) if isinstance(root.body, list) else [root.body]
    stack: list[tuple[ast.AST, frozenset[str], Imports]] = [(node, known, imports) for node in start]
    while stack:
        node, local, imports = stack.pop()
        path = _dotted(node)
        if path is not None:
            if path[0] in imports:
                yield Mention(path, imports[path[0]])
            elif path[0] not in local:
                yield Mention(path)
            continue
        inner, inner_imports = local, imports
        if isinstance(node, _FUNCTIONS):
            own = _imports_in(node)
            inner = (local | _bound_in(node)) - _globals_in(node)
            inner_imports = {name: found for name, found in imports.items() if name not in inner} | own
            outside = [*getattr(node, "decorator_list", ()), *node.args.defaults, *filter(None, node.args.kw_defaults)]
            stack.extend((child, local, imports) for child in outside)
            body = node.body if isinstance(node.body, list) else [node.body]
            stack.extend((child, inner, inner_imports) for child in body)
            continue
        if isinstance(node, _COMPREHENSIONS):
            targets = {name for part in node.generators for name in _stored(part.target)}
            inner = local | targets
            inner_imports = {name: found for name, found in imports.items() if name not in targets}
        stack.extend((child, inner, inner_imports) for child in ast.iter_child_nodes(node))


def _dotted(node: ast.AST) -> tuple[str, ...] | None:
    """Return `a.b.c` as a path if it starts with a name that is read."""
    path: list[str] = []
    while isinstance(node, ast.Attribute):
        path.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        return (node.id, *reversed(path))
    return None


def _inside(root: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function's own scope, including nested functions and classes but not their contents."""
    body: Any = root.body  # type: ignore[attr-defined]
    stack: list[ast.AST] = list(body) if isinstance(body, list) else [body]
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            stack.extend(ast.iter_child_nodes(node))


def _stored(target: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(target) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _bound_in(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> frozenset[str]:
    """Return the names a function binds other than by imports: arguments, assignments, definitions, caught exceptions,
    captures."""
    given = function.args
    names = {arg.arg for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg) if arg}
    of_comprehensions: set[int] = set()
    for node in _inside(function):
        if isinstance(node, ast.comprehension):
            of_comprehensions.update(id(part) for part in ast.walk(node.target))
    for node in _inside(function):
        if isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load) and id(node) not in of_comprehensions:
                names.add(node.id)
        elif isinstance(node, _NAMING) and node.name:
            names.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            names.add(node.rest)
    return frozenset(names)


def _globals_in(function: ast.AST) -> frozenset[str]:
    return frozenset(name for node in _inside(function) if isinstance(node, ast.Global) for name in node.names)


def _imports_in(function: ast.AST) -> Imports:
    found: Imports = {}
    for node in _inside(function):
        if isinstance(node, ast.Import):
            for alias in node.names:
                # `import a.b` binds `a`; `import a.b as c` binds the submodule.
                module = alias.name if alias.asname else alias.name.partition(".")[0]
                found[alias.asname or module] = (module, None)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name] = ("." * node.level + (node.module or ""), alias.name)
    return found
