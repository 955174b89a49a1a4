"""Finds the classes of stored values by importable name among the modules that this process has imported.

In a shared store, anyone may have written a record. So a name in it never causes an import, except of a module that the
task's own module imports somewhere, or if the record is trusted like the user's own code.
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
from penstock.runtime import own_variable


@dataclass(frozen=True, slots=True)
class Reading:
    """The task whose result is being read, and how far the result is trusted."""

    task: str = ""
    """Its importable name. The modules that its module imports may be imported."""
    believed: Callable[[], bool] = lambda: False
    """Returns whether any module may be imported, because the writer could have stored a pickle as well."""


class reading:
    """Look up classes on behalf of a task during the block."""

    __slots__ = ("_reading", "_token")

    def __init__(self, task: str, *, believed: Callable[[], bool]) -> None:
        self._reading = Reading(task, believed)

    def __enter__(self) -> None:
        self._token = _current.set(self._reading)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


def is_believed() -> bool:
    """Return whether the data being read come from a writer who is trusted to run code here."""
    return _current.get().believed()


_current: ContextVar[Reading] = own_variable("penstock_reading", Reading())


def class_name(cls: type) -> str:
    """Return `module:qualname` if it identifies this class in every process with its module; else an empty string."""
    module, qualname = importable_module(cls.__module__), cls.__qualname__
    names = living_names(module)
    if _named(names, qualname) is cls:
        return f"{module}:{qualname}"
    # Nested classes of a script lose their qualified names when they are sent to a worker.
    inner = _inner_name(cls, names or {}) if cls.__module__ in MAIN_NAMES else ""
    return f"{module}:{inner}" if inner else ""


def find_class(name: str) -> type:
    """Return the class for a name of `class_name`.

    Runs no code of the module: no `__getattr__`, no property. Raises `CodecRefused` if the class is not found.
    """
    module, _, qualname = name.partition(":")
    module = home_of(module)
    living = living_names(module)
    if living is None:
        living = _imported(module)
    if living is None:
        raise CodecRefused(
            f"a result contains a {module}.{qualname}, but the module {module!r} is not imported",
            because="names in stored results never import modules by themselves",
            hint=f"import {module} where the task is defined, or name it in the task's return annotation",
        )
    found = _named(living, qualname)
    if found is None:
        raise CodecRefused(
            f"a result contains a {module}.{qualname}, but there is no such class",
            because="it was renamed, moved, or is only defined under the script's `if __name__`",
            hint="restore the class, or refresh the result",
        )
    return found


def _named(names: Names | None, qualname: str) -> type | None:
    if names is None:
        return None
    # The name of a parametrised pydantic generic may contain dots, and is one name in its module.
    found = names.get(qualname)
    for part in () if found is not None else qualname.split("."):
        found = (names if found is None else vars(found)).get(part)
        if not isinstance(found, type):
            return None
    return found if isinstance(found, type) else None


def _inner_name(cls: type, names: Names, deep: int = 4) -> str:
    """Return the qualified name of a class nested in other classes of a script."""
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
    """Return the modules that a module's source imports anywhere, including in functions and for type checkers."""
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
