"""What code reads of the classes that annotations of its parameters name: `row.scaled()` where `row: Row`.

Types of values are not known to a digest. So each name that code reads of anything counts, if such a class has it.
Everything is looked up in the namespaces of classes and modules, so that no code of the project runs.
"""

from __future__ import annotations

import ast
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from penstock.digests.code.free_names import mentions
from penstock.digests.code.trees import annotations_in
from penstock.digests.definitions.attached import asked_in
from penstock.digests.definitions.behind import home_of
from penstock.digests.definitions.mentioned import find
from penstock.digests.definitions.own_class import Read, counts
from penstock.objects.questions import ask
from penstock.objects.texts import kind_name, package_of

IsProject = Callable[[str], bool]


class Annotated:
    """The classes that the annotations of some code name, and the names that this code reads."""

    def __init__(self, is_project: IsProject) -> None:
        self._is_project = is_project
        self._classes: dict[int, type] = {}
        self._asked: set[str] = set()
        self._trees: list[ast.AST] = []  # not searched for names yet
        self._told: set[tuple[int, str]] = set()

    def add(self, tree: ast.AST, scope: dict[str, Any]) -> None:
        """Add a piece of code, given its normalised tree and the names around it."""
        self._trees.append(tree)
        for cls in classes_in(tree, scope, self._is_project):
            self._classes[id(cls)] = cls

    def reads(self, is_followed: Callable[[type], bool]) -> list[Read]:
        """Return what the code reads of these classes, each once, except of those that are followed as a whole."""
        classes = [cls for cls in self._classes.values() if not is_followed(cls)]
        if classes:
            self._asked |= asked_in(self._trees)
            self._trees.clear()
        found = []
        for cls in classes:
            for name in sorted(_names_of(cls, self._is_project) & self._asked):
                if (id(cls), name) not in self._told:
                    self._told.add((id(cls), name))
                    read = Read(f"{kind_name(cls)}.{name}", cls.__mro__, name)
                    if (holder := read.holder()) is not None and counts(holder, read.value(), name, self._is_project):
                        found.append(read)
        return found


def _names_of(cls: type, is_project: IsProject) -> set[str]:
    return {name for base in cls.__mro__ if is_project(home_of(base)) for name in vars(base)}


def classes_in(tree: ast.AST, scope: dict[str, Any], is_project: IsProject) -> Iterator[type]:
    """Yield the classes of the project that annotations of parameters name, also as texts and inside of others."""
    stack: list[Any] = list(annotations_in(tree))
    seen: dict[int, Any] = {}
    while stack:
        hint = stack.pop()
        if isinstance(hint, typing.ForwardRef):
            hint = hint.__forward_arg__
        if isinstance(hint, str):
            hint = _parsed(hint)
        if isinstance(hint, ast.AST):
            stack += _named(hint, scope, is_project)
        elif issubclass(type(hint), type):
            if is_project(home_of(hint)):
                yield hint
        elif id(hint) not in seen and package_of(type(hint)) in _TYPING:  # nothing else is asked, such as a future
            seen[id(hint)] = hint
            stack += [typing.get_origin(hint), *typing.get_args(hint), *(ask(hint, name) for name in _INSIDE)]


def _named(hint: ast.AST, scope: dict[str, Any], is_project: IsProject) -> Iterable[Any]:
    """Return what the names in an annotation mean, and its texts."""
    yield from (find(each, scope, is_project)[0] for each in mentions(ast.Expression(hint)))  # type: ignore[arg-type]
    yield from (node.value for node in ast.walk(hint) if isinstance(node, ast.Constant))


_TYPING = frozenset({"collections", "types", "typing", "typing_extensions"})
"""The packages of what stands for `list[Row]` and the like."""
_INSIDE = ("__value__", "__supertype__", "__bound__")
"""Of `type X = …`, a `NewType` and a `TypeVar`."""


def _parsed(text: str) -> ast.AST | None:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return None
