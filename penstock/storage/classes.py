"""Which class a stored value's class is here: by importable name, among what this process has imported.

What a record says is anyone's word where a store is shared. So a name in it never leads to an import, except of a
module that the task's own module imports somewhere, and where the record is believed like our own code.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import types
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from penstock.errors import CodecRefused
from penstock.main_modules import MAIN_NAMES, importable_module, living_module


@dataclass(frozen=True, slots=True)
class Reading:
    """On whose behalf something is read."""

    task: str = ""
    """Its importable name; the modules that its module imports may be imported."""
    believed: bool = False
    """Whether any module may be imported, since whoever wrote this could as well have written a pickle."""


class reading:
    """Within the block, classes are looked for on behalf of a task."""

    __slots__ = ("_reading", "_token")

    def __init__(self, task: str, *, believed: bool) -> None:
        self._reading = Reading(task, believed)

    def __enter__(self) -> None:
        self._token = _current.set(self._reading)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


def is_believed() -> bool:
    """Whether what is being read was written by somebody who might as well run code here."""
    return _current.get().believed


_current: ContextVar[Reading] = ContextVar("reading", default=Reading())  # noqa: B039 (it is frozen)


def class_name(cls: type) -> str:
    """`module:qualname`, if that leads to this class here and in any process that has its module; else empty."""
    module, qualname = importable_module(cls.__module__), cls.__qualname__
    return f"{module}:{qualname}" if _named(living_module(module), qualname) is cls else ""


def find_class(name: str) -> type:
    """The class of a name that `class_name` gave.

    Raises `CodecRefused` if it is not here. Runs nothing of the module's: no `__getattr__`, no property.
    """
    module, _, qualname = name.partition(":")
    living = living_module(module) or _imported(module)
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


def _named(living: types.ModuleType | None, qualname: str) -> type | None:
    if living is None:
        return None
    found: Any = living
    for part in qualname.split("."):
        # A parametrised generic of pydantic has dots in its name, and lies in its module as a whole.
        held = vars(found)
        if qualname in held:
            found = held[qualname]
            break
        if part not in held:
            return None
        found = held[part]
        if not isinstance(found, type):
            return None
    return found if isinstance(found, type) else None


def _imported(module: str) -> Any:
    current = _current.get()
    if module in MAIN_NAMES or module.endswith(".__main__"):
        return None
    if current.believed or module in _imports_of(current.task.partition(":")[0]):
        try:
            importlib.import_module(module)
        except ImportError:
            return None
        return living_module(module)
    return None


def _imports_of(module: str) -> set[str]:
    """The modules that the source of an imported module imports anywhere, in functions and for type checkers too."""
    living = living_module(module) if module else None
    if living is None:
        return set()
    try:
        tree = ast.parse(inspect.getsource(living))
    except (OSError, TypeError, SyntaxError):
        return set()
    package = vars(living).get("__package__") or ""
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
