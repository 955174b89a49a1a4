"""Resolving mentions: the object behind a dotted name, as the code that uses it would find it."""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from penstock.digests.code.free_names import Mention

IsProject = Callable[[str], bool]


class Named:
    """Something that is represented by a text only."""

    def __init__(self, text: str) -> None:
        self.text = text


UNBOUND = Named("nothing")
"""A name that is not bound, at least not yet."""
BUILTIN = object()


def find(mention: Mention, scope: dict[str, Any], is_project: IsProject) -> Any:
    """Return the object behind a dotted name. Stops at the first object outside of project modules."""
    name, *rest = mention.path
    if mention.imported is not None:
        found = _imported(mention, scope, is_project)
    elif name in scope:
        found = scope[name]
    else:
        return BUILTIN if hasattr(builtins, name) else UNBOUND
    for attribute in rest:
        if not (isinstance(found, ModuleType) and is_project(found.__name__)):
            break
        submodule = sys.modules.get(f"{found.__name__}.{attribute}", UNBOUND)
        found = getattr(found, attribute, submodule)
    return found


def _imported(mention: Mention, scope: dict[str, Any], is_project: IsProject) -> Any:
    """Return what an import inside a function binds. Imports project modules only, as the function itself would."""
    module, name = mention.imported or ("", None)
    if module.startswith("."):
        module = importlib.util.resolve_name(module, scope.get("__package__") or "")
    if not is_project(module) or not (module in sys.modules or _can_be_found(module)):
        # Even if it is loaded: a key must not depend on what else the process has imported.
        return Named(f"library {module}:{name}" if name else f"library {module}")
    try:
        found: Any = importlib.import_module(module)
        if name is not None:
            found = getattr(found, name, None) or importlib.import_module(f"{module}.{name}")
    except ImportError:
        return UNBOUND  # the function has a fallback, or will fail
    return found


def _can_be_found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False
