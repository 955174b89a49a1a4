"""Whether a method of a class is what the class body defined, or was replaced since; and what replaced it.

What decorators, metaclasses and base classes make of a definition counts as the definition, because they do the same in
every process. So do wrappers of installed packages with the definition behind their `__wrapped__`. If it cannot be
decided, nothing was replaced.
"""

from __future__ import annotations

import ast
import builtins
import collections
import enum
import functools
from collections.abc import Callable, Iterator, Sequence
from types import ClassMethodDescriptorType, FunctionType, MethodDescriptorType, MethodType, ModuleType
from typing import Any

from penstock.digests.definitions.mentioned import Named
from penstock.digests.functions import closure_items
from penstock.digests.names import stable_name
from penstock.digests.python import digest
from penstock.digests.walk import attributes
from penstock.errors import DigestError
from penstock.objects.named import MISSING, found_at
from penstock.objects.questions import ask
from penstock.objects.texts import module_of

IsProject = Callable[[str], bool]
Definition = ast.FunctionDef | ast.AsyncFunctionDef

_LEAVE_ALONE = frozenset({"abc", "attr", "attrs", "builtins", "dataclasses", "enum", "typing"})
"""Packages whose class decorators, metaclasses and base classes do not touch the methods of a class body."""
_DESCRIPTORS: tuple[type, ...] = (staticmethod, classmethod, property)
_ACCESSORS = ("getter", "setter", "deleter")
_MOST = 500


def is_replaced(item: Any, nodes: Sequence[Definition], cls: type, tree: ast.ClassDef, is_project: IsProject) -> bool:
    """Return whether an attribute of a class is none of these definitions of its name in the class body."""
    if isinstance(item, MethodDescriptorType | ClassMethodDescriptorType) and item.__objclass__ is cls:
        return False  # a compiled class hides this one
    names = {name for node in (tree, *nodes) for decorator in node.decorator_list for name in _names_in(decorator)}
    kinds = {_kind(node, cls) for node in nodes}
    if None in kinds or not is_left_alone(cls, tree, nodes[0].name):
        if type(item) is FunctionType and not any(node.decorator_list for node in nodes):
            function = unwrapped(item, lambda _: False)
            if type(function) is FunctionType and is_project(home_of_code(function)):
                return not _is_of(function, nodes, cls)
        return _is_foreign(item, nodes, cls, names, is_project)
    if (type(item) if isinstance(item, _DESCRIPTORS) else FunctionType) not in kinds:
        return True
    functions = [unwrapped(part, is_project) for _, part in parts_of(item)]
    return not functions or not all(_is_of(function, nodes, cls) for function in functions)


def replacements(name: str, item: Any, is_project: IsProject) -> Iterator[tuple[str, Any]]:
    """Yield what counts of something that replaced a method, by names that end with the method's."""
    parts = parts_of(item)
    if not parts:
        yield name, Named("an empty property")
    for how, part in parts:
        place = f"{how}.{name}" if how else name
        if isinstance(part, FunctionType | type) and is_project(home_of_code(part)):
            yield place, part
            continue
        if (behind := unwrapped(part, is_project)) is not part:
            yield f"wrapped.{place}", behind
        yield place, _constant(part)


def _constant(part: Any) -> Any:
    """Return what represents something that is no function of the project: its class, if it has no digest."""
    if isinstance(part, functools.partialmethod):
        part = functools.partial(part.func, *part.args, **part.keywords)
    try:
        digest([part])  # in a list, functions of packages count with what they hold
    except DigestError:
        return Named(f"a {stable_name(type(part))}")
    return [part]


def _kind(node: Definition, cls: type) -> type | None:
    """Return the class of what a definition makes; None if only its decorators can tell."""
    if not node.decorator_list:
        return FunctionType
    if len(node.decorator_list) > 1:
        return None
    (decorator,) = node.decorator_list
    if isinstance(decorator, ast.Attribute) and isinstance(decorator.value, ast.Name):
        return property if decorator.value.id == node.name and decorator.attr in _ACCESSORS else None
    name = decorator.id if isinstance(decorator, ast.Name) else ""
    meant = found_at(cls.__module__, name) if name else MISSING
    meant = getattr(builtins, name, None) if meant is MISSING else meant
    return next((kind for kind in _DESCRIPTORS if kind is meant), None)


def is_left_alone(cls: type, tree: ast.ClassDef, method: str) -> bool:
    """Return whether nothing but Python made the methods of a class, judging by where its makers come from."""
    if isinstance(cls, enum.EnumType) and method.startswith("_"):
        return False  # a static method, in some versions
    makers: list[Any] = [type(cls), *(base for base in cls.__mro__[1:] if "__init_subclass__" in vars(base))]
    for decorator in tree.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        maker = found_at(cls.__module__, ast.unparse(called))
        if maker is not functools.total_ordering:
            makers.append(maker.func if isinstance(maker, functools.partial) else maker)
    return all(maker is not MISSING and home_of_code(maker).partition(".")[0] in _LEAVE_ALONE for maker in makers)


def _is_foreign(item: Any, nodes: Sequence[Definition], cls: type, names: set[str], is_project: IsProject) -> bool:
    """Return whether an attribute certainly has nothing to do with the definitions, whatever decorators do.

    It is if none of them is anywhere inside, and one of its functions was made by no decorator.
    """
    if not isinstance(item, FunctionType | staticmethod | classmethod | property):
        return False
    if _holds(item, lambda part: _is_of(part, nodes, cls)):
        return False
    for _, part in parts_of(item):
        function = unwrapped(part, is_project)
        if type(function) is FunctionType:
            outer, _, inner = function.__code__.co_qualname.partition(".<locals>")
            if not inner or (is_project(home_of_code(function)) and names.isdisjoint(outer.split("."))):
                return True
    return False


def _is_of(function: Any, nodes: Sequence[Definition], cls: type) -> bool:
    """Return whether a function was made by one of these definitions in the body of a class."""
    if type(function) is not FunctionType or definition_of(function, nodes) is None:
        return False
    # Another version of the class may have it at the same line.
    owner = found_at(home_of_code(function), function.__qualname__.rpartition(".")[0])
    return not isinstance(owner, type) or owner is cls or vars(owner).get(function.__code__.co_name) is not function


def definition_of(function: FunctionType, nodes: Sequence[Definition]) -> Definition | None:
    """Return which of these definitions has the name and place of a function."""
    name, line = function.__code__.co_name, function.__code__.co_firstlineno  # that of the first decorator
    return next((node for node in nodes if name == node.name and _first_line(node) <= line <= node.lineno), None)


def _first_line(node: Definition) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def parts_of(item: Any) -> list[tuple[str, Any]]:
    """Return the functions of a descriptor, or the item itself, with what they are there."""
    if isinstance(item, staticmethod | classmethod):
        return [(type(item).__name__, item.__func__)]
    if isinstance(item, property):
        found = (("fget", item.fget), ("fset", item.fset), ("fdel", item.fdel))
        return [(how, function) for how, function in found if function is not None]
    return [("", item)]


def unwrapped(value: Any, stays: IsProject) -> Any:
    """Return what is behind wrappers, except those in modules that stay."""
    for _ in range(_MOST):
        inner = ask(value, "__wrapped__")
        if inner is None or stays(home_of_code(value)):
            break
        value = inner
    return value


def _holds(item: Any, wanted: Callable[[Any], bool]) -> bool:
    """Return whether a function or descriptor holds something, at any depth, or too much to tell."""
    stack, seen = [item], {id(item): item}
    while stack:
        value = stack.pop()
        if wanted(value) or len(seen) > _MOST:
            return True
        inside = _inside(value)
        stack += [part for part in inside if id(part) not in seen]
        seen.update((id(part), part) for part in inside)
    return False


def _inside(value: Any) -> list[Any]:
    if isinstance(value, type | ModuleType):
        return []
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset | collections.deque):
        return list(value)
    inside = [ask(value, "__wrapped__")]
    if isinstance(value, FunctionType):
        defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        return [*inside, *defaults, *(held for _, held in closure_items(value))]
    if isinstance(value, functools.partial | functools.partialmethod):
        return [*inside, value.func, *value.args, *value.keywords.values()]
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, _DESCRIPTORS):
        return [*inside, *(part for _, part in parts_of(value))]
    return [*inside, *attributes(value).values()]


def _names_in(decorator: ast.expr) -> Iterator[str]:
    for node in ast.walk(decorator):
        if isinstance(node, ast.Name | ast.Attribute):
            yield node.id if isinstance(node, ast.Name) else node.attr


def home_of_code(value: Any) -> str:
    """Return the module that a function, class or object comes from."""
    if type(value) is FunctionType:  # `__module__` may be copied
        return str(value.__globals__.get("__name__") or value.__module__)
    return module_of(value if isinstance(value, type) else type(value))
