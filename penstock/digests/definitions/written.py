"""What a piece of code says: its syntax tree, where its names are looked up, and which names of modules it uses."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

from penstock.digests.code.free_names import mentions
from penstock.digests.code.made_classes import is_made
from penstock.digests.code.syntax import class_syntax, function_syntax, module_syntax
from penstock.digests.definitions.mentioned import places_of


def written(value: Any) -> tuple[ast.AST, dict[str, Any], frozenset[str]] | None:
    """Return the syntax of a function, class or module, the names around it, and its closure variables.

    None for other objects. Raises the errors of `function_syntax`, `class_syntax` and `module_syntax`.
    """
    if isinstance(value, FunctionType):
        return function_syntax(value), value.__globals__, frozenset(value.__code__.co_freevars)
    if isinstance(value, type):
        return class_syntax(value), vars(sys.modules[value.__module__]), frozenset()
    if isinstance(value, ModuleType):
        return module_syntax(value), vars(value), frozenset()
    return None


def names_of_modules(value: Any, is_project: Callable[[str], bool]) -> Iterator[tuple[str, str, Any]]:
    """Yield the names of project modules that a piece of code uses: the module, the name in it, the object there.

    The object is `BUILTIN` for a name that a module of this name would hide.
    """
    found_in = None if is_made(value) else written(value)
    if found_in is not None:
        tree, scope, inner = found_in
        for mention in mentions(tree, known=inner):
            yield from places_of(mention, scope, is_project)
