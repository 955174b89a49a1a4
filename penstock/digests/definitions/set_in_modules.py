"""Names of a module that the program has bound again, or added, since the module was loaded.

A module that is used as a whole counts by its source, which says what its names meant then.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import sys
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

from penstock.digests.code.made_classes import is_special
from penstock.digests.definitions.assigned import bindings, is_still, says
from penstock.digests.definitions.replaced import Definition, replacements, unwrapped
from penstock.objects.questions import ask

IsProject = Callable[[str], bool]

_BINDING = frozenset({"__dict__", "exec", "eval", "globals", "locals", "modules", "setattr", "vars"})
"""What a module may use to bind names that its syntax does not show."""
_ARITHMETIC = (ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Constant, ast.List, ast.Tuple, ast.expr_context)


def set_in(module: ModuleType, tree: ast.Module, is_project: IsProject) -> Iterator[tuple[str, Any]]:
    """Yield what differs from what the source of a module says. Values that it computes cannot be compared."""
    stated = bindings(tree)
    # A module that loads its names on demand may keep them.
    is_complete = not {"*", "__getattr__"} & stated.keys() and not _binds_unseen(tree)
    for name, item in list(vars(module).items()):
        nodes = stated.get(name, [])
        if is_special(name) or any(_still_says(node, name, item, module, is_project) for node in nodes):
            continue
        if not nodes and (not is_complete or isinstance(item, ModuleType)):  # submodules are added on import
            continue
        if any(isinstance(node, Definition | ast.ClassDef) for node in nodes):
            yield from replacements(name, item, is_project)
        else:
            yield name, item


@functools.lru_cache(maxsize=256)
def _binds_unseen(tree: ast.Module) -> bool:
    return any(getattr(node, "id", getattr(node, "attr", "")) in _BINDING for node in ast.walk(tree))


def _still_says(node: ast.AST, name: str, item: Any, module: ModuleType, is_project: IsProject) -> bool:
    """Return whether a name may still be what this part of the module's body bound to it."""
    if isinstance(node, Definition):
        function = unwrapped(item, is_project)
        if node.decorator_list or type(function) is not FunctionType:
            return bool(node.decorator_list)
        return function.__globals__ is vars(module) and function.__code__.co_qualname == name
    if isinstance(node, ast.ClassDef):
        if node.decorator_list or not isinstance(item, FunctionType | type):
            return True
        return isinstance(item, type) and (ask(item, "__module__"), ask(item, "__qualname__")) == (
            module.__name__,
            name,
        )
    if isinstance(node, ast.ImportFrom):
        return any(_still_imported(node, alias.name, item, module) for alias in node.names if name == _bound(alias))
    if isinstance(node, ast.Import):
        return isinstance(item, ModuleType)
    if isinstance(node, ast.BinOp) and all(isinstance(part, _ARITHMETIC) for part in ast.walk(node)):
        return _still_computed(node, item)
    return says(node, "<lambda>", item, is_project)


def _still_computed(node: ast.BinOp, item: Any) -> bool:
    try:
        # Without names it can do no more than it did when the module was loaded.
        value = eval(compile(ast.Expression(node), "<source>", "eval"), {"__builtins__": {}})
    except (ArithmeticError, TypeError, ValueError):  # another branch was taken
        return True
    return is_still(value, item)


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name


def _still_imported(node: ast.ImportFrom, name: str, item: Any, module: ModuleType) -> bool:
    origin = node.module or ""
    if node.level:
        try:
            origin = importlib.util.resolve_name("." * node.level + origin, vars(module).get("__package__") or "")
        except ImportError:
            return True
    found = sys.modules.get(origin)
    # A lazy module, or a submodule, cannot be asked.
    return type(found) is not ModuleType or name not in vars(found) or vars(found)[name] is item
