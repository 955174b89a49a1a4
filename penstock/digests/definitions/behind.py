"""The function behind Penstock's own objects, decorators and mocks, and the module that contains its code."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

from penstock.digests.mocks import mock_behind
from penstock.digests.names import importable_name
from penstock.objects.questions import ABSENT, ask
from penstock.objects.texts import module_of, package_of


def behind(fn: Any, is_project: Callable[[str], bool]) -> Any:
    """Return the function behind Penstock's own objects and installed decorators."""
    found = fn
    for _ in range(_MOST_WRAPPERS):
        if is_ours(found):
            found = found.fn
        elif type(found) is FunctionType and (double := mock_behind(found)) is not None:
            return double
        elif issubclass(type(found), _HOLDERS):
            return found
        elif (inner := ask(found, "__wrapped__", ABSENT)) is not ABSENT and not is_project(home_of(found)):
            found = inner
        else:
            return found
    return fn  # an object that gives every attribute there is (ibis._), and wraps nothing


_MOST_WRAPPERS = 200
_HOLDERS = (functools.partial, MethodType)
"""Python's objects that may have `__wrapped__`, copied or that of their function, and hold more than a function."""


def is_ours(value: Any) -> bool:
    return package_of(type(value)) == "penstock" and callable(ask(value, "fn"))


def home_of(value: Any) -> str:
    """Return the module that contains the code. (`__module__` does not say, since `functools.wraps` copies it.)"""
    if isinstance(value, FunctionType):
        return str(value.__globals__.get("__name__") or value.__module__)
    return module_of(value if isinstance(value, type) else type(value))


def own_package(root: Any) -> str | None:
    """Return the package whose code counts with a task, even if it is installed.

    None if it is Python's own, such as `functools`, which differs between versions.
    """
    while isinstance(root, functools.partial):
        root = root.func
    package = importable_name(root)[0].partition(".")[0]
    return None if package in sys.stdlib_module_names else package
