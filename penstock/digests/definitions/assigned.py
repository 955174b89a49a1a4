"""What the body of a class or module assigns to names, and whether a name still means that."""

from __future__ import annotations

import ast
import collections
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from penstock.digests.python import digest
from penstock.errors import DigestError
from penstock.objects.questions import has, is_mock

IsProject = Callable[[str], bool]
_CONTAINERS = (list, dict, set, collections.deque)


def bindings(tree: ast.ClassDef | ast.Module) -> dict[str, list[ast.AST]]:
    """Return what a body assigns to each name: a definition, an expression, or any other statement."""
    found: dict[str, list[ast.AST]] = {}
    stack: list[ast.AST] = list(tree.body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.setdefault(node.name, []).append(node)
            continue
        if isinstance(node, ast.Assign) and all(isinstance(target, ast.Name) for target in node.targets):
            for target in node.targets:
                found.setdefault(target.id, []).append(node.value)  # type: ignore[attr-defined]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if node.value is not None:
                found.setdefault(node.target.id, []).append(node.value)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.setdefault(node.id, []).append(node)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                found.setdefault(alias.asname or alias.name.partition(".")[0], []).append(node)
        else:
            if isinstance(node, ast.MatchAs | ast.MatchStar) and node.name:
                found.setdefault(node.name, []).append(node)
            stack.extend(ast.iter_child_nodes(node))
    return found


def says(node: ast.AST, own: str, item: Any, is_project: IsProject) -> bool:
    """Return whether a name still is what this part of a body assigned to it, judging by the syntax.

    `own` is how the qualified names of functions begin that the body defines inside of expressions.
    """
    if not isinstance(node, ast.expr) or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)):
        return True
    try:
        literal = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError):
        return _still_as_made(node, own, item, is_project)
    return is_still(literal, item)


def is_still(literal: Any, item: Any) -> bool:
    """Return whether an object is the value that an expression has."""
    if is_mock(type(item)):
        return False
    if has(type(item), "__get__") and not isinstance(item, FunctionType | staticmethod | classmethod | property):
        return True  # a descriptor that a base class or decorator has set
    try:
        return digest(literal) == digest(item)
    except DigestError:
        return False


def _still_as_made(node: ast.expr, own: str, item: Any, is_project: IsProject) -> bool:
    """Return whether a container made by an expression holds no function or class that the body does not name."""
    if not isinstance(item, _CONTAINERS):
        return not is_mock(type(item))
    if (
        isinstance(node, ast.Call)
        and not node.keywords
        and (not node.args or isinstance(item, collections.defaultdict))
    ):
        made = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if made == type(item).__name__:
            return not item  # created empty
    names = {found.id for found in ast.walk(node) if isinstance(found, ast.Name)}
    names |= {found.attr for found in ast.walk(node) if isinstance(found, ast.Attribute)}
    return all(held.__name__ in names or held.__qualname__.startswith(own) for held in _code_in(item, is_project))


def _code_in(item: Any, is_project: IsProject) -> Iterator[Any]:
    stack, seen = [item], {id(item)}
    while stack:
        value = stack.pop()
        if isinstance(value, FunctionType | type):
            if is_project(value.__module__):
                yield value
            continue
        inside: list[Any] = []
        if isinstance(value, dict):
            inside = [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset | collections.deque):
            inside = list(value)
        stack += [part for part in inside if id(part) not in seen]
        seen.update(map(id, inside))
