"""Importable names: what a function or class is called in any process, `__main__` included."""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from typing import Any

from penstock.main_modules import MAIN_NAMES, importable_module, main_module, main_module_name

__all__ = [
    "importable_name",
    "is_project_module",
    "main_module",
    "main_module_name",
    "stable_module",
    "stable_name",
]


def importable_name(value: Any) -> tuple[str, str]:
    """The module and qualified name of a function or class, with `__main__` replaced by its importable name."""
    module = str(getattr(value, "__module__", None) or "builtins")
    qualname = str(getattr(value, "__qualname__", None) or getattr(value, "__name__", type(value).__qualname__))
    return importable_module(module), qualname


def stable_name(value: Any) -> str:
    """`module:qualname` as it enters digests.

    The standard library moves its classes between private modules from one Python to the next (`pathlib.Path` was
    `pathlib._local.Path` in 3.13), so of a standard module only the top-level name counts, without leading underscores.
    """
    module, qualname = importable_name(value)
    return f"{stable_module(module)}:{qualname}"


def stable_module(module: str) -> str:
    """The module name as it enters digests: see `stable_name`."""
    root = module.partition(".")[0]
    if root in ("posixpath", "ntpath"):
        return "os"
    return root.lstrip("_") if root in sys.stdlib_module_names else module


def is_project_module(module: str) -> bool:
    """Whether a module is the user's own code: neither standard library, nor Penstock, nor installed in site-packages.

    What has no file (a notebook, a prompt, a module made at run time) is the user's own. So is an editable install.
    """
    root = module.partition(".")[0]
    if module in MAIN_NAMES:
        return True
    if root in sys.stdlib_module_names or root == "penstock":
        return False
    found = sys.modules.get(module) or sys.modules.get(root)
    file = getattr(found, "__file__", None) or next(iter(getattr(found, "__path__", ())), None)
    if found is None:
        file = _file_of_unloaded(root)  # asked without importing it, which may take seconds
    if not file:
        return True
    path = os.path.abspath(file)
    return not _INSTALLED.intersection(path.split(os.sep)) and not path.startswith(_STANDARD_FOLDERS)


def _file_of_unloaded(root: str) -> str | None:
    try:
        spec = importlib.util.find_spec(root)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    return spec.origin if spec.has_location else next(iter(spec.submodule_search_locations or ()), None)


_INSTALLED = frozenset({"site-packages", "dist-packages"})
_STANDARD_FOLDERS = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")})
