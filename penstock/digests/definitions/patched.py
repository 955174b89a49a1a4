"""What a program has put in place of functions and methods of installed packages, which otherwise count by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import FunctionType
from typing import Any

from penstock.digests.definitions.behind import home_of
from penstock.digests.mocks import is_mock, mock_behind
from penstock.imported import loaded


def replaced_in_installed(
    path: Sequence[str], found: Any, is_project: Callable[[str], bool]
) -> Iterator[tuple[str, Any]]:
    """Yield the replacements that code uses by a dotted name, with a name for each.

    Args:
        path: The dotted name.
        found: What it means in an installed module, or None.
        is_project: Returns whether a module is the project's.
    """
    name = ".".join(path)
    if _is_double(found):  # first, since `isinstance` says what a mock stands for
        yield f"{name} replaced", found
    elif isinstance(found, type):
        if not is_project(found.__module__) and loaded("unittest.mock") is not None:
            for base in found.__mro__[:-1]:
                yield from ((f"{name}.{each}", item) for each, item in list(vars(base).items()) if _is_double(item))
    elif type(found) is FunctionType and len(path) > 1 and is_project(home_of(found)):
        yield f"{name} replaced", found


def _is_double(value: Any) -> bool:
    return is_mock(type(value)) or (type(value) is FunctionType and mock_behind(value) is not None)
