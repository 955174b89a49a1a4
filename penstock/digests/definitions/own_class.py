"""What a method reads of its class through `self` or `cls`, without naming the class.

Everything is looked up in the namespaces of classes and modules, so that no code of the project runs.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType
from typing import Any, NamedTuple

from penstock.digests.code.made_classes import GENERATED, is_slot, is_special, parts
from penstock.digests.code.syntax import function_syntax
from penstock.digests.definitions.behind import is_ours
from penstock.objects.named import found_at
from penstock.objects.texts import kind_name, module_of

IsProject = Callable[[str], bool]
_MOST_WRAPPERS = 200


class Read(NamedTuple):
    """An attribute of a class that code reads without naming the class."""

    name: str
    """As written in the code of a method: `self.RATE`, `super().scaled`."""
    bases: tuple[type, ...]
    """The classes in which it is looked up, in this order."""
    attribute: str

    def holder(self) -> type | None:
        """Return the class that has it now. None if only instances have it."""
        return next((base for base in self.bases if self.attribute in vars(base)), None)

    def value(self) -> Any:
        """Return what it is there now, for example a property itself; None without a holder."""
        return vars(holder)[self.attribute] if (holder := self.holder()) is not None else None


def own_class(fn: Any, of_user: type | None, is_project: IsProject) -> type | None:
    """Return the class whose method a function is, as far as it receives an object or the class.

    A method of a base class belongs to the class of the method that uses it. Others belong to the class that their
    name leads to.

    Args:
        fn: A function, or any other piece of code.
        of_user: The class of the method that uses it.
        is_project: Returns whether a module is the project's.
    """
    if type(fn) is not FunctionType:
        return None
    path = fn.__qualname__.rpartition(".")[0]
    named: Any = found_at(fn.__module__, path) if path else None  # `functools.wraps` copies both
    for cls in (of_user, named):
        if cls is not None and issubclass(type(cls), type) and _holder(fn, cls, is_project) is not None:
            return cls
    return None


def reads(fn: FunctionType, owner: type, is_project: IsProject) -> Iterator[Read]:
    """Yield what a method reads of its class. Raises the errors of `function_syntax`."""
    tree = function_syntax(fn)
    given = getattr(tree, "args", None)
    receiver = next((each.arg for each in (*given.posonlyargs, *given.args)), "") if given is not None else ""
    receivers = _with_aliases(receiver, tree) if receiver else frozenset()
    home = _holder(fn, owner, is_project) or owner
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (kind := _stands_for(node.value, receivers)):
            bases = owner.__mro__
            if kind == "super":
                bases = bases[bases.index(home) + 1 :]
            private = node.attr.startswith("__") and not node.attr.endswith("__")
            name = f"_{home.__name__.lstrip('_')}{node.attr}" if private else node.attr
            read = Read(ast.unparse(node), bases, name)
            if (holder := read.holder()) is not None and counts(holder, read.value(), name, is_project):
                yield read


def names_in_classes(value: Any, is_project: IsProject) -> Iterator[tuple[str, str, Any]]:
    """Yield where a method reads what its class has: the module, the name in it (`Model.RATE`), the object there."""
    owner = own_class(value, None, is_project)
    return places_of(reads(value, owner, is_project) if owner is not None else ())


def places_of(found: Iterable[Read]) -> Iterator[tuple[str, str, Any]]:
    """Yield the places of what is read: the module, the name in it, the object there."""
    for read in found:
        if (holder := read.holder()) is not None:
            yield module_of(holder), f"{kind_name(holder)}.{read.attribute}", read.value()


def functions_behind(item: Any) -> Iterator[FunctionType]:
    """Yield the functions of an attribute of a class that receive the object or class, with those they wrap."""
    for part in () if issubclass(type(item), staticmethod) else parts(item):
        for _ in range(_MOST_WRAPPERS):
            if type(part) is FunctionType:
                yield part
                part = vars(part).get("__wrapped__")
            elif is_ours(part):
                part = part.fn
            elif issubclass(type(part), functools.partial):
                part = part.func
            else:
                part = inspect.getattr_static(part, "__wrapped__", None)
            if part is None:
                break


def _holder(fn: FunctionType, cls: type, is_project: IsProject) -> type | None:
    """Return the class that has a function as a method, of a class and its bases."""
    for base in cls.__mro__:
        if is_project(module_of(base)):
            for item in list(vars(base).values()):
                if any(each is fn for each in functions_behind(item)):
                    return base
    return None


def _with_aliases(receiver: str, tree: ast.AST) -> frozenset[str]:
    """Return the first parameter with the variables that are other names for it or its class: `cls = type(self)`."""
    found = frozenset({receiver})
    while True:
        assigned = (each for node in ast.walk(tree) for each in _assigned(node))
        more = {name for name, value in assigned if _stands_for(value, found) == "self"}
        if more <= found:
            return found
        found |= more


def _assigned(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield the variables to which a statement assigns, each with its value."""
    pairs: list[tuple[ast.AST, ast.AST | None]] = []
    if isinstance(node, ast.Assign):
        pairs = [(target, node.value) for target in node.targets]
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
        pairs = [(node.target, node.value)]
    for target, value in pairs:
        if isinstance(target, ast.Name) and value is not None:
            yield target.id, value
        elif isinstance(target, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List):
            each = zip(target.elts, value.elts, strict=False)
            yield from ((name.id, part) for name, part in each if isinstance(name, ast.Name))


def _stands_for(node: ast.AST, receivers: frozenset[str]) -> str:
    """Return whether an expression is the first parameter or its class; `super` if it is `super()`."""
    if isinstance(node, ast.Attribute) and node.attr == "__class__":
        node = node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id == "super":
            return "super"
        if node.func.id == "type" and len(node.args) == 1:
            node = node.args[0]
    return "self" if isinstance(node, ast.Name) and node.id in receivers else ""


def counts(base: type, item: Any, name: str, is_project: IsProject) -> bool:
    """Return whether an attribute that a class has may affect what the code does with an object of it."""
    if not is_project(module_of(base)) or is_slot(item) or _is_set_by_init(base, name):
        return False
    if type(item) is FunctionType and item.__code__.co_filename.startswith(GENERATED):
        return False  # the fields from which they were made are in the digest of the object
    return not is_special(name) or next(functions_behind(item), None) is not None


def _is_set_by_init(base: type, name: str) -> bool:
    """Return whether it is the default of a field that each object has itself."""
    fields = dataclasses.fields(base) if "__dataclass_fields__" in vars(base) else ()
    return any(field.name == name and field.init for field in fields)
