"""Changes to functions and classes after their definition: attributes set, registries filled, implementations added.

The syntax of a definition says what it created. If the object differs from that by now, the difference counts, too.
"""

from __future__ import annotations

import ast
import collections
import functools
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType
from typing import Any

from penstock.digests.code.syntax import class_syntax
from penstock.digests.definitions.made_classes import is_made, is_slot, is_special, plain_member
from penstock.digests.definitions.replaced import Definition, is_replaced, replacements
from penstock.digests.functions import dispatched
from penstock.digests.python import digest
from penstock.errors import DigestError
from penstock.objects.questions import ask, has

IsProject = Callable[[str], bool]
_CONTAINERS = (list, dict, set, collections.deque)


def asked_in(trees: Iterable[ast.AST]) -> frozenset[str]:
    """Return the names of all attributes that code reads: `x.name` and `getattr(x, "name")`."""
    found = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
                found.update(a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))
    return frozenset(found)


def attached(value: Any, is_project: IsProject) -> Iterator[tuple[str, Any]]:
    """Yield what was attached to a function or class after its definition, by name."""
    if isinstance(value, FunctionType):
        yield from ((name, item) for name, item in vars(value).items() if not is_special(name))
    elif isinstance(value, type) and not is_made(value):
        yield from _altered(value, class_syntax(value), is_project)


def _altered(cls: type, tree: ast.ClassDef, is_project: IsProject) -> Iterator[tuple[str, Any]]:
    stated = _bindings(tree)
    for name, item in list(vars(cls).items()):
        if is_special(name) or _is_member(item, cls) or is_slot(item):
            continue
        if isinstance(item, functools.singledispatchmethod):
            own = f"{cls.__qualname__}."
            for kind, implementation in dispatched(item.dispatcher):
                if not ask(implementation, "__qualname__", "").startswith(own):
                    yield f"{name} {kind}", implementation
            continue
        nodes = stated.get(name, [])
        inner = next((node for node in nodes if isinstance(node, ast.ClassDef)), None)
        if inner is not None and isinstance(item, type) and item.__qualname__ == f"{cls.__qualname__}.{name}":
            yield from ((f"{name}.{other}", found) for other, found in _altered(item, inner, is_project))
        elif any(_says(node, cls, item, is_project) for node in nodes if not isinstance(node, Definition)):
            continue
        elif not (methods := [node for node in nodes if isinstance(node, Definition)]):
            yield name, plain_member(item)
        elif is_replaced(item, methods, cls, tree, is_project):
            yield from replacements(name, item, is_project)


def _is_member(item: Any, cls: type) -> bool:
    """Return whether an attribute of a class is an instance of it, as the members of an enum are."""
    try:
        return isinstance(item, cls)
    except TypeError:  # a protocol
        return False


def _bindings(tree: ast.ClassDef) -> dict[str, list[ast.AST]]:
    """Return what a class body assigns to each name: a definition, an expression, or any other statement."""
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
            stack.extend(ast.iter_child_nodes(node))
    return found


def _says(node: ast.AST, cls: type, item: Any, is_project: IsProject) -> bool:
    """Return whether an attribute of a class is still what this part of its body assigned, judging by the syntax."""
    if not isinstance(node, ast.expr) or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)):
        return True
    try:
        literal = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError):
        return _still_as_made(node, cls, item, is_project)
    if has(type(item), "__get__") and not isinstance(item, FunctionType | staticmethod | classmethod | property):
        return True  # a descriptor that a base class or decorator has set
    try:
        return digest(literal) == digest(item)
    except DigestError:
        return False


def _still_as_made(node: ast.expr, cls: type, item: Any, is_project: IsProject) -> bool:
    """Return whether a container made by an expression holds no function or class that the body does not name."""
    if not isinstance(item, _CONTAINERS):
        return True
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
    own = f"{cls.__qualname__}."
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
