"""Changes to definitions after they were made: attributes set, registries filled, names of modules bound again.

The syntax of a definition says what it created. If the object differs from that by now, the difference counts, too.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType, ModuleType
from typing import Any

from penstock.digests.code.made_classes import is_made, is_slot, is_special, plain_member
from penstock.digests.code.syntax import class_syntax, module_syntax
from penstock.digests.definitions.assigned import bindings, says
from penstock.digests.definitions.defaults import changed_defaults, set_on_members
from penstock.digests.definitions.deleted import deleted
from penstock.digests.definitions.mentioned import UNBOUND
from penstock.digests.definitions.replaced import Definition, is_replaced, replacements
from penstock.digests.definitions.set_in_modules import set_in
from penstock.digests.functions import dispatched
from penstock.objects.questions import ask, is_mock

IsProject = Callable[[str], bool]


def asked_in(trees: Iterable[ast.AST]) -> frozenset[str]:
    """Return the names of all attributes that code reads: `x.name` and `getattr(x, "name")`.

    Other texts are included in quotes, and `*` if the code reads attributes whose names it computes.
    """
    found = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                found.add("*" if node.attr == "__dict__" else node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(f"'{node.value}'")
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id == "getattr":
                    texts = {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
                    found |= texts or {"*"}
                elif node.func.id in ("dir", "vars"):
                    found.add("*")
    return frozenset(found)


def is_asked(name: str, value: Any, asked: frozenset[str]) -> bool:
    """Return whether code may read what was attached to a function, class or module under this name."""
    last = name.rpartition(".")[2]
    if last in asked or " " in name or (isinstance(value, type) and is_special(last)):
        return True
    return isinstance(value, ModuleType) and (f"'{last}'" in asked or ("*" in asked and not last.startswith("_")))


def attached(value: Any, is_project: IsProject) -> Iterator[tuple[str, Any]]:
    """Yield what was attached to a function, class or module after its definition, by name."""
    if isinstance(value, FunctionType):
        yield from ((name, item) for name, item in vars(value).items() if not is_special(name))
    elif isinstance(value, type) and not is_made(value):
        yield from _altered(value, class_syntax(value), is_project)
    elif isinstance(value, ModuleType) and str(ask(value, "__file__")).endswith(".py"):
        yield from set_in(value, module_syntax(value), is_project)


def _altered(cls: type, tree: ast.ClassDef, is_project: IsProject) -> Iterator[tuple[str, Any]]:
    stated = bindings(tree)
    own = f"{cls.__qualname__}."
    yield from ((name, UNBOUND) for name in deleted(cls, tree, stated))
    yield from set_on_members(cls, tree)
    for name, item in list(vars(cls).items()):
        if is_special(name) and not _takes_place(item, stated.get(name, [])):
            continue
        if _is_member(item, cls) or is_slot(item):
            continue
        if isinstance(item, functools.singledispatchmethod):
            for kind, implementation in dispatched(item.dispatcher):
                if not ask(implementation, "__qualname__", "").startswith(own):
                    yield f"{name} {kind}", implementation
            continue
        nodes = stated.get(name, [])
        inner = next((node for node in nodes if isinstance(node, ast.ClassDef)), None)
        if inner is not None and isinstance(item, type) and item.__qualname__ == f"{cls.__qualname__}.{name}":
            yield from ((f"{name}.{other}", found) for other, found in _altered(item, inner, is_project))
        elif any(says(node, own, item, is_project) for node in nodes if not isinstance(node, Definition)):
            continue
        elif not (methods := [node for node in nodes if isinstance(node, Definition)]):
            yield name, plain_member(item)
        elif is_replaced(item, methods, cls, tree, is_project):
            yield from replacements(name, item, is_project)
        else:
            yield from changed_defaults(name, item, methods, own, is_project)


def _takes_place(item: Any, nodes: list[ast.AST]) -> bool:
    """Return whether a special method may have been set later: it is a mock, or the class defines another one."""
    if is_mock(type(item)):
        return True
    defined = any(isinstance(node, Definition) for node in nodes)
    return defined and isinstance(item, FunctionType) and not item.__code__.co_filename.startswith("<")


def _is_member(item: Any, cls: type) -> bool:
    """Return whether an attribute of a class is an instance of it, as the members of an enum are."""
    try:
        return isinstance(item, cls)
    except TypeError:  # a protocol
        return False
