"""Resolving mentions: the object behind a dotted name, as the code that uses it would find it."""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import FunctionType, ModuleType
from typing import Any

from penstock.digests.code.free_names import Mention
from penstock.digests.definitions.behind import home_of
from penstock.digests.mocks import is_double
from penstock.errors import DigestError
from penstock.objects.questions import ask
from penstock.runtime import having, own_variable

IsProject = Callable[[str], bool]


class Named:
    """Something that is represented by a text only."""

    def __init__(self, text: str) -> None:
        self.text = text


UNBOUND = Named("nothing")
"""A name that is not bound, at least not yet."""
BUILTIN = object()


def find(mention: Mention, scope: dict[str, Any], is_project: IsProject) -> tuple[Any, tuple[str, ...]]:
    """Return the first object outside of project modules on the way of a dotted name, and the names after it."""
    steps = list(_followed(mention, scope, is_project))
    return steps[-1][-1], mention.path[len(steps) :]


def places_of(mention: Mention, scope: dict[str, Any], is_project: IsProject) -> Iterator[tuple[str, str, Any]]:
    """Yield the project modules through which a dotted name leads, with the name in each and the object there."""
    for module, name, found in _followed(mention, scope, is_project):
        if name and not isinstance(found, Named):
            yield module, name, found


def _followed(mention: Mention, scope: dict[str, Any], is_project: IsProject) -> Iterator[tuple[str, str, Any]]:
    """Yield the module, the name in it and the object behind it for each step of a dotted name."""
    name, *rest = mention.path
    if mention.imported is not None:
        module, inner = import_of(mention, scope)
        found = _imported(module, inner, is_project)
        yield module, inner or "", found
    else:
        found = scope[name] if name in scope else _builtin(name, is_project)
        yield str(scope.get("__name__")), name, found
    for attribute in rest:
        if not (isinstance(found, ModuleType) and is_project(found.__name__)):
            break
        home = found.__name__
        found = ask(found, attribute, sys.modules.get(f"{home}.{attribute}", UNBOUND))
        yield home, attribute, found


def import_of(mention: Mention, scope: dict[str, Any]) -> tuple[str, str | None]:
    """Return the absolute name of the module, and the name in it, from which an import binds the first name."""
    module, inner = mention.imported or ("", None)
    if module.startswith("."):
        module = importlib.util.resolve_name(module, scope.get("__package__") or "")
    return module, inner


def _builtin(name: str, is_project: IsProject) -> Any:
    """Return `BUILTIN` for what Python defines, and what tests have put in its place."""
    found = vars(builtins).get(name, UNBOUND)
    if found is UNBOUND or is_double(found):
        return found
    home = home_of(found) if isinstance(found, FunctionType | type) else "builtins"
    return found if home != "builtins" and is_project(home) else BUILTIN


def _imported(module: str, name: str | None, is_project: IsProject) -> Any:
    """Return what an import inside a function binds. Imports project modules only, as the function itself would."""
    if not is_project(module) or not (module in sys.modules or _can_be_found(module)):
        # Even if it is loaded: a key must not depend on what else the process has imported.
        return Named(f"library {module}:{name}" if name else f"library {module}")
    try:
        found: Any = _loaded(module)
        if name is not None:
            found = ask(found, name) or _loaded(f"{module}.{name}")
    except ImportError:
        return UNBOUND  # the function has a fallback, or will fail
    return found


def _loaded(module: str) -> ModuleType:
    if _importing_nothing.get() and module not in sys.modules:
        raise DigestError(f"{module} is not loaded")
    return importlib.import_module(module)


_importing_nothing: ContextVar[bool] = own_variable("penstock_importing_nothing", False)


def importing_nothing() -> having:
    """Raise `DigestError` in the block for code that imports a project module which is not loaded yet."""
    return having(_importing_nothing, True)


def _can_be_found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False
