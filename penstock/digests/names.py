"""Importable names: what a function or class is called in any process and release, `__main__` included."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import sysconfig
from contextvars import ContextVar
from typing import Any

from penstock.process.main_modules import MAIN_NAMES, importable_module, main_module, main_module_name

__all__ = [
    "MAIN_NAMES",
    "importable_name",
    "is_project_module",
    "main_module",
    "main_module_name",
    "own_module",
    "stable_module",
    "stable_name",
]

_own_module: ContextVar[str | None] = ContextVar("own_module", default=None)


def importable_name(value: Any) -> tuple[str, str]:
    """The module and qualified name of a function or class, with `__main__` replaced by its importable name."""
    module = str(getattr(value, "__module__", None) or "builtins")
    qualname = str(getattr(value, "__qualname__", None) or getattr(value, "__name__", type(value).__qualname__))
    return importable_module(module), qualname


def stable_name(value: Any) -> str:
    """`module:qualname` as it enters digests.

    Where a class or function lies in a library changes from one release to the next, so a name is the shortest one
    that the library promises: of the standard library and of Penstock only the top-level name counts
    (`pathlib.Path` was `pathlib._local.Path` in 3.13), and of an installed package the outermost module that offers
    the very same object (`pandas:DataFrame`, not `pandas.core.frame:DataFrame`). What the module of the `own_module`
    block defines is called by its qualified name alone.
    """
    module, qualname = importable_name(value)
    if module == _own_module.get():
        return f":{qualname}"
    return f"{_public_module(module, qualname)}:{qualname}"


def stable_module(module: str) -> str:
    """The module name as it enters digests: see `stable_name`."""
    if module in MAIN_NAMES:
        return main_module_name()
    root = module.partition(".")[0]
    if root in ("posixpath", "ntpath"):
        return "os"
    if root == "penstock":
        return root
    return root.lstrip("_") if root in sys.stdlib_module_names else module


@functools.lru_cache(maxsize=4096)
def _public_module(module: str, qualname: str) -> str:
    """The outermost module of an installed package that offers what `module` calls `qualname`."""
    stable = stable_module(module)
    if stable != module or "." not in module or "<" in qualname or is_project_module(module):
        return stable
    value = _offered(module, qualname)
    names = module.split(".")
    outer = (".".join(names[:length]) for length in range(1, len(names)))
    return next((name for name in outer if value is not None and _offered(name, qualname) is value), module)


def _offered(module: str, qualname: str) -> Any:
    """What a loaded module gives for a dotted name; None if it has none."""
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        try:
            found = getattr(found, name, None)
        except Exception:  # noqa: BLE001 - a package's own __getattr__ may fail in any way: the name is not offered
            return None
    return found


class own_module:
    """Within the block, what a project module defines is called by its qualified name alone, so it can move.

    Installed modules keep their names.
    """

    __slots__ = ("_module", "_token")

    def __init__(self, module: str) -> None:
        named = main_module_name() if module in MAIN_NAMES else module
        self._module = named if is_project_module(module) else None

    def __enter__(self) -> None:
        self._token = _own_module.set(self._module)

    def __exit__(self, *_: object) -> None:
        _own_module.reset(self._token)


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
