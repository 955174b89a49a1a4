"""Functions that `@task` or `@flow` hides behind an object under their own name.

Pickles name a function only if its name leads to it. The name of a decorated function leads to a Task or Flow, so
pickles would contain a copy of the function, with copies of the variables of its module that it reads. Instead they
name the object, and what leads from there to the function.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import FunctionType, ModuleType
from typing import Any

import cloudpickle.cloudpickle

from penstock.objects.named import found_at
from penstock.objects.texts import module_of

_SCRIPTS = ("__main__", "__mp_main__")  # workers have another
_MOST_DECORATORS = 32


def is_ours(value: Any) -> bool:
    """Return whether a value is a Task or Flow, which holds its function as `fn`."""
    return module_of(type(value)).partition(".")[0] == "penstock" and callable(getattr(value, "fn", None))


def uncovered(value: Any) -> Any:
    """Return the function behind a Task or Flow; other values unchanged."""
    while is_ours(value):
        value = value.fn
    return value


def steps_to(function: Any) -> list[str] | None:
    """Return the attributes that lead from what has a function's name, a Task or Flow, to the function.

    None if the name leads to the function itself or to something else, or if other processes cannot import its module.
    """
    way = _way_to(function)
    return way if way and "fn" in way and _is_importable(sys.modules[function.__module__]) else None


def _way_to(function: Any) -> list[str] | None:
    """Return the attributes that lead from what has a function's name to it; none if that is the function itself."""
    module, path = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(path, str) or module in _SCRIPTS:
        return None
    found = found_at(module, path)
    steps: list[str] = []
    while found is not function:
        step = _next_step(found)
        if step is None or len(steps) == _MOST_DECORATORS:
            return None
        found = getattr(found, step)
        if step != "__func__":  # accessing an attribute of a class returns what is in a staticmethod
            steps.append(step)
    return steps


def _next_step(found: Any) -> str | None:
    if is_ours(found):
        return "fn"
    if isinstance(found, staticmethod):
        return "__func__"
    held = vars(found) if type(found) is FunctionType else {}
    return "__wrapped__" if "__wrapped__" in held else None


def _is_importable(module: ModuleType) -> bool:
    """Return whether an import by name finds the file of a loaded module."""
    spec = getattr(module, "__spec__", None)
    if spec is None or not spec.has_location or cloudpickle.cloudpickle._is_registered_pickle_by_value(module):
        return False
    parent = spec.name.rpartition(".")[0]
    paths = getattr(sys.modules.get(parent), "__path__", []) if parent else None
    for finder in sys.meta_path:
        found = finder.find_spec(spec.name, paths) if hasattr(finder, "find_spec") else None
        if found is not None:
            return os.path.realpath(found.origin or "") == os.path.realpath(spec.origin or "")
    return False


class Imported:
    """Stands for a module in a pickle, and for what its attributes lead to."""

    def __init__(self, module: str, path: list[str]) -> None:
        self.module, self.path = module, path

    def __reduce__(self) -> tuple[Any, ...]:
        if not self.path:
            return importlib.import_module, (self.module,)
        return getattr, (Imported(self.module, self.path[:-1]), self.path[-1])


def by_name(function: Any) -> tuple[Any, ...] | None:
    """Return how to pickle a hidden function by the name of what hides it; None if it is not hidden."""
    steps = steps_to(function)
    if steps is None:
        return None
    path = [*function.__qualname__.split("."), *steps]
    return Imported(function.__module__, path).__reduce__()


def is_named(function: Any) -> bool:
    """Return whether pickles name a function, so that other processes use their own."""
    return _way_to(function) == [] or steps_to(function) is not None


def is_imported(function: Any) -> bool:
    """Return whether other processes have their own of a function, also where another function wraps it."""
    way = _way_to(function)
    return way is not None and ("fn" not in way or steps_to(function) is not None)
