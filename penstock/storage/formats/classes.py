"""Which class a stored value's class is here: by importable name, among what this process has imported.

What a record says is anyone's word where a store is shared. So a name in it never leads to an import, except of a
module that the task's own module imports somewhere, and where the record is believed like our own code.
"""

from __future__ import annotations

import ast
import importlib
import linecache
import sys
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from penstock.errors import CodecRefused
from penstock.process.former_homes import home_of
from penstock.process.main_modules import MAIN_NAMES, Names, importable_module, living_names


@dataclass(frozen=True, slots=True)
class Reading:
    """On whose behalf something is read."""

    task: str = ""
    """Its importable name; the modules that its module imports may be imported."""
    believed: Callable[[], bool] = lambda: False
    """Whether any module may be imported, since whoever wrote this could as well have written a pickle."""


class reading:
    """Within the block, classes are looked for on behalf of a task."""

    __slots__ = ("_reading", "_token")

    def __init__(self, task: str, *, believed: Callable[[], bool]) -> None:
        self._reading = Reading(task, believed)

    def __enter__(self) -> None:
        self._token = _current.set(self._reading)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


def is_believed() -> bool:
    """Whether what is being read was written by somebody who might as well run code here."""
    return _current.get().believed()


_current: ContextVar[Reading] = ContextVar("penstock_reading", default=Reading())  # noqa: B039 (it is frozen)


def class_name(cls: type) -> str:
    """`module:qualname`, if that leads to this class here and in any process that has its module; else empty."""
    module, qualname = importable_module(cls.__module__), cls.__qualname__
    names = living_names(module)
    if _named(names, qualname) is cls:
        return f"{module}:{qualname}"
    # The classes inside of others lose their qualified names when a script's classes travel to a worker.
    inner = _inner_name(cls, names or {}) if cls.__module__ in MAIN_NAMES else ""
    return f"{module}:{inner}" if inner else ""


def find_class(name: str) -> type:
    """The class of a name that `class_name` gave.

    Raises `CodecRefused` if it is not here. Runs nothing of the module's: no `__getattr__`, no property.
    """
    module, _, qualname = name.partition(":")
    module = home_of(module)
    living = living_names(module)
    if living is None:
        living = _imported(module)
    if living is None:
        raise CodecRefused(
            f"a result holds a {module}.{qualname}, and the module {module!r} is not imported",
            because="a name in a stored result imports nothing by itself",
            hint=f"import {module} where the task is defined, or name it in the task's return annotation",
        )
    found = _named(living, qualname)
    if found is None:
        raise CodecRefused(
            f"a result holds a {module}.{qualname}, and there is no such class",
            hint="it was renamed, moved, or is defined under the script's `if __name__` only: refresh the result",
        )
    return found


def _named(names: Names | None, qualname: str) -> type | None:
    if names is None:
        return None
    # A parametrised generic of pydantic may have dots in its name, and lies in its module as a whole.
    found = names.get(qualname)
    for part in () if found is not None else qualname.split("."):
        found = (names if found is None else vars(found)).get(part)
        if not isinstance(found, type):
            return None
    return found if isinstance(found, type) else None


def _inner_name(cls: type, names: Names, deep: int = 4) -> str:
    """Where a class of a script is inside of its other classes."""
    for name in list(names):
        held = names[name]
        if isinstance(held, type) and held.__module__ in MAIN_NAMES and "." not in name:
            if held is cls:
                return name
            found = _inner_name(cls, vars(held), deep - 1) if deep else ""
            if found:
                return f"{name}.{found}"
    return ""


def _imported(module: str) -> Names | None:
    current = _current.get()
    if module in MAIN_NAMES or module.endswith(".__main__"):
        return None
    if current.believed() or module in _imports_of(current.task.partition(":")[0]):
        try:
            importlib.import_module(module)
        except ImportError:
            return None
        return living_names(module)
    return None


def _imports_of(module: str) -> set[str]:
    """The modules that the source of an imported module imports anywhere, in functions and for type checkers too."""
    living = living_names(module) if module else None
    if living is None:
        return set()
    try:
        tree = ast.parse("".join(linecache.getlines(living.get("__file__") or "", dict(living))))
    except (SyntaxError, ValueError):
        return set()
    package = living.get("__package__") or ""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, package)
            found.update((base, *(f"{base}.{alias.name}" for alias in node.names)))
    return {module for module in found if module.partition(".")[0] not in sys.stdlib_module_names}


def _base(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    above = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join((*above, *([node.module] if node.module else [])))
