"""What a program has put in place of what installed packages define, which otherwise counts by name."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType, ModuleType
from typing import Any

from penstock.digests.code.free_names import Mention
from penstock.digests.code.made_classes import is_placeless
from penstock.digests.definitions.behind import home_of
from penstock.digests.definitions.mentioned import Named, import_of
from penstock.digests.mocks import is_double
from penstock.imported import loaded
from penstock.objects.questions import ask
from penstock.objects.texts import module_of

IsProject = Callable[[str], bool]


def steps_in_installed(
    mention: Mention, found: Any, rest: Sequence[str], scope: dict[str, Any], is_project: IsProject
) -> list[Any]:
    """Return what a dotted name means after each of its steps through installed modules, classes and their objects.

    Args:
        mention: The dotted name.
        found: Where `find` has stopped. It is the first step.
        rest: The names after it.
        scope: The names around the code.
        is_project: Returns whether a module is the project's.
    """
    steps = [found]
    if isinstance(found, Named) and mention.imported is not None:
        steps.append(_bound_by_import(*import_of(mention, scope)))
    elif not isinstance(found, ModuleType | type):
        return steps
    for name in rest:
        if not _leads_on(steps[-1], is_project):
            break
        steps.append(_held(steps[-1], name))
    return steps


def _bound_by_import(module: str, name: str | None) -> Any:
    """Return what an import binds, if the module has been loaded; else None."""
    if name is not None:
        found = sys.modules.get(module)
        return _held(found, name) if isinstance(found, ModuleType) else found
    first, *rest = module.split(".")  # `import a.b as c` reads the attribute of `a`
    return functools.reduce(_held, rest, sys.modules.get(first))


def _leads_on(value: Any, is_project: IsProject) -> bool:
    if is_double(value) or type(value) is FunctionType:
        return False
    if isinstance(value, ModuleType):
        return True
    kind = value if isinstance(value, type) else type(value)
    return not (is_project(module_of(kind)) or is_placeless(kind))


def _held(value: Any, name: str) -> Any:
    """Return an attribute, or None. `getattr` would make lazy modules import what the key does not need."""
    places = [vars(base) for base in value.__mro__] if isinstance(value, type) else [ask(value, "__dict__", {})]
    found = next((place[name] for place in places if name in place), None)
    return found.__func__ if isinstance(found, classmethod | staticmethod) else found


def replaced_in_installed(
    path: Sequence[str], steps: Sequence[Any], is_project: IsProject
) -> Iterator[tuple[str, Any]]:
    """Yield the replacements that code uses by a dotted name, with a name for each.

    Args:
        path: The dotted name.
        steps: The return value of `steps_in_installed`.
        is_project: Returns whether a module is the project's.
    """
    name = ".".join(path)
    for number, found in enumerate(steps):
        if is_double(found):  # first, since `isinstance` says what a mock stands for
            yield f"{name} replaced", found
        elif not isinstance(found, FunctionType | type):
            continue
        elif is_project(home := home_of(found)):
            # Packages make functions in modules that cannot be imported, which are nobody's own.
            if home in sys.modules if number else type(found) is FunctionType and len(path) > 1:
                yield f"{name} replaced", found
        elif isinstance(found, type) and loaded("unittest.mock") is not None:
            for base in found.__mro__[:-1]:
                yield from ((f"{name}.{each}", item) for each, item in list(vars(base).items()) if is_double(item))
