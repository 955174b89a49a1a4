"""The code that counts in TASK_CODE, with the places where it was found, which workers compare with their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from penstock.digests.definitions.behind import behind, home_of
from penstock.digests.definitions.own_class import names_in_classes, places_of
from penstock.digests.definitions.written import names_of_modules
from penstock.digests.names import is_project_module, own_module
from penstock.digests.sources import Reach


def reached(fn: Callable[..., Any]) -> list[tuple[Any, list[tuple[str, str, Any]]]]:
    """Return the functions, classes, modules and objects whose code counts in `task_code`.

    With each come the names of project modules that it uses: the module, the name in it, and what it means now.
    Raises as `task_code`.
    """
    with own_module(home_of(behind(fn, is_project_module))):
        reach = Reach(fn)
        is_project = reach.is_project
        found = [
            (value, [*names_of_modules(value, is_project), *names_in_classes(value, is_project)])
            for value, _ in reach.pieces()
        ]
        return [*found, (reach.root, list(places_of(reach.of_arguments)))]
