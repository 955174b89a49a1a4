"""Which classes their module and qualified name identify; of all others, what they hold counts."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, TypeGuard

from penstock.digests.code.made_classes import is_made
from penstock.digests.code.syntax import lacks_statement
from penstock.digests.names import MAIN_NAMES, is_project_module
from penstock.objects.named import found_at
from penstock.objects.questions import ask
from penstock.objects.texts import kind_name, module_of
from penstock.process.main_modules import runs_main

_MAKERS = frozenset({"abc", "types"})
"""Modules that classes name as theirs if `types.new_class` or `make_dataclass` of Python 3.11 made them."""


def is_named(cls: type) -> bool:
    """Return whether the name of a class identifies it in every process.

    A class that a function of the project makes shares its name with others: its statement is inside the function, or
    a call made it and its name leads to something else, or nowhere. In a process with another main module, the names
    of the driver's script lead nowhere, so there the classes that calls made count by name.
    """
    home, name = module_of(cls), kind_name(cls)
    found = vars(module).get(name) if isinstance(module := sys.modules.get(home), ModuleType) else None
    if found is cls:
        return True
    if "<locals>" in name:
        return not is_project_module(home)
    if (home in MAIN_NAMES or home in _MAKERS) and not runs_main():
        return True
    if home in _MAKERS:
        return found_at(home, name) is cls or _is_held_by_a_module(cls)
    if module is None or not is_project_module(home) or (there := found_at(home, name)) is cls:
        return True
    if (of_generic := _generic(cls)) is not None:
        return all(is_named(each) for each in of_generic)
    return not lacks_statement(cls, there)


def is_local(cls: object) -> TypeGuard[type]:
    """Return whether a value is a class whose statement is inside a function, so that its name stands for many."""
    return isinstance(cls, type) and "<locals>" in kind_name(cls) and not is_made(cls)


def _is_held_by_a_module(cls: type) -> bool:
    name = kind_name(cls)
    return any(ask(module, "__dict__", {}).get(name) is cls for module in list(sys.modules.values()))


def _generic(cls: type) -> list[type] | None:
    """Return the classes in the name of `Box[int]` if pydantic made such a class; None for others."""
    about: Any = ask(cls, "__pydantic_generic_metadata__")
    if not isinstance(about, dict) or not isinstance(origin := about.get("origin"), type):
        return None
    return [origin, *(each for each in about.get("args", ()) if isinstance(each, type))]
