"""Names that a class statement binds and that a program has deleted from the class since.

Decorators, metaclasses and descriptors remove names, too, and do the same in every process. So a name counts only if
nothing but the program can have removed it.
"""

from __future__ import annotations

import ast
import builtins
import enum
import sys
from collections.abc import Iterator, Mapping
from types import ClassMethodDescriptorType, MethodDescriptorType

from penstock.digests.code.made_classes import is_special
from penstock.digests.code.trees import DEFINITIONS
from penstock.digests.definitions.replaced import Definition, home_of_code, is_left_alone
from penstock.objects.named import MISSING, found_at
from penstock.objects.questions import ask

_UNSEEN = frozenset({"exec", "eval", "globals", "locals", "vars", "_getframe", "currentframe"})
"""What a class body may use to bind and remove names that its syntax does not show."""
_FIELDS = ("__dataclass_fields__", "__attrs_attrs__")
_COMPILED = (MethodDescriptorType, ClassMethodDescriptorType)
_ACCESSORS = ("getter", "setter", "deleter")
_REMOVING = frozenset({"dataclasses", "enum"})
"""Packages of Python whose functions make what a class decorator or metaclass removes."""


def deleted(cls: type, tree: ast.ClassDef, stated: Mapping[str, list[ast.AST]]) -> Iterator[str]:
    """Yield the names that the body of a class binds in any case, and that the class no longer has.

    Args:
        cls: The class.
        tree: Its statement.
        stated: What its body binds.
    """
    held = vars(cls)
    missing = [name for name in stated if name not in held and _mangled(name, cls) not in held]
    if missing:
        fields = {ask(field, "name", field) for place in _FIELDS for field in held.get(place, ())}
        missing = [name for name in missing if name not in fields and is_left_alone(cls, tree, name)]
    if not missing or _is_of_another(cls):
        return
    bound, unsure = _bound_by(tree)
    for name in missing:
        nodes = [*stated[name], *bound.get(name, ())]
        if name not in bound or name in unsure or "*" in unsure:
            continue
        is_method = all(isinstance(node, Definition) for node in nodes)
        if (is_special(name) or isinstance(cls, enum.EnumType)) and not (is_method and "_ignore_" not in stated):
            continue
        if all(_stays(node, cls, stated) for node in nodes):
            yield name


def _mangled(name: str, cls: type) -> str:
    return f"_{cls.__name__.lstrip('_')}{name}" if name.startswith("__") else name


def _is_of_another(cls: type) -> bool:
    """Return whether the statement may be that of another class with the same name.

    A call can have made this one, as a base class of the other (`class Url(namedtuple("Url", …))`) or from it; or it is
    compiled, and hides the other.
    """
    present = found_at(cls.__module__, cls.__qualname__)
    if isinstance(present, type) and present is not cls:
        return True
    if any(isinstance(item, _COMPILED) and item.__objclass__ is cls for item in vars(cls).values()):
        return True
    name = (cls.__module__, cls.__qualname__)
    return any((ask(base, "__module__"), ask(base, "__qualname__")) == name for base in cls.__mro__[1:])


def _bound_by(tree: ast.ClassDef) -> tuple[dict[str, list[ast.AST]], set[str]]:
    """Return what the statements of a body bind unconditionally, and the names that it may remove; `*` for any."""
    bound: dict[str, list[ast.AST]] = {}
    for statement in tree.body:
        if isinstance(statement, Definition | ast.ClassDef):
            bound.setdefault(statement.name, []).append(statement)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            for alias in statement.names:
                bound.setdefault(alias.asname or alias.name.partition(".")[0], []).append(statement)
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
                for node in ast.walk(target):
                    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                        bound.setdefault(node.id, []).append(statement.value)
    unsure = set()
    stack: list[ast.AST] = list(tree.body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Name) and (isinstance(node.ctx, ast.Del) or node.id in _UNSEEN):
            unsure.add(node.id if isinstance(node.ctx, ast.Del) else "*")
        elif isinstance(node, ast.Attribute) and node.attr in _UNSEEN:
            unsure.add("*")
        elif isinstance(node, ast.Global | ast.Nonlocal):
            unsure.update(node.names)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            unsure.add(node.name)
        if not isinstance(node, (*DEFINITIONS, ast.ClassDef)):
            stack.extend(ast.iter_child_nodes(node))
    return bound, unsure


def _stays(node: ast.AST, cls: type, stated: Mapping[str, list[ast.AST]]) -> bool:
    """Return whether what a body binds certainly does not remove itself from the class."""
    if isinstance(node, Definition | ast.ClassDef):
        makers = [each.func if isinstance(each, ast.Call) else each for each in node.decorator_list]
        own = {f"{node.name}.{accessor}" for accessor in _ACCESSORS}
        return all(ast.unparse(each) in own or _is_of_python(each, cls, stated) for each in makers)
    calls = (part.func for part in ast.walk(node) if isinstance(part, ast.Call))
    return all(_is_of_python(called, cls, stated) for called in calls)


def _is_of_python(called: ast.expr, cls: type, stated: Mapping[str, list[ast.AST]]) -> bool:
    """Return whether an expression means a function or class of Python that makes no fields."""
    path = ast.unparse(called)
    if path.partition(".")[0] in stated:
        return False
    found = found_at(cls.__module__, path)
    found = getattr(builtins, path, MISSING) if found is MISSING else found
    home = home_of_code(found) if found is not MISSING else ""
    root = home.partition(".")[0]
    return root in sys.stdlib_module_names and root not in _REMOVING
