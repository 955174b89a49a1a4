"""Importable names: names of functions and classes that are valid in every process and release."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import sysconfig
from contextvars import ContextVar
from typing import Any

from penstock.objects.questions import ask
from penstock.objects.texts import module_of
from penstock.process.main_modules import MAIN_NAMES, importable_module, main_module, main_module_name
from penstock.runtime import own_variable

__all__ = [
    "MAIN_NAMES",
    "importable_name",
    "is_project_module",
    "main_module",
    "main_module_name",
    "offered_name",
    "own_module",
    "stable_module",
    "stable_name",
]

_own_module: ContextVar[str | None] = own_variable("penstock_own_module", None)


def importable_name(value: Any) -> tuple[str, str]:
    """Return the module and qualified name of a function or class, with `__main__` replaced by its importable name."""
    module = str(ask(value, "__module__") or "builtins")
    qualname = str(ask(value, "__qualname__") or ask(value, "__name__", type(value).__qualname__))
    return importable_module(module), qualname


def stable_name(value: Any) -> str:
    """Return `module:qualname` in the form that enters digests.

    Libraries move classes and functions between releases, so the shortest public name is used: for the standard library
    and Penstock the top-level module (`pathlib.Path` was `pathlib._local.Path` in 3.13), and for installed packages the
    outermost module with the identical object (`pandas:DataFrame`, not `pandas.core.frame:DataFrame`). Definitions of
    the module in an `own_module` block only have their qualified name.
    """
    module, qualname = importable_name(value)
    if module == _own_module.get():
        return f":{qualname}"
    return f"{_public_module(module, qualname)}:{qualname}"


def stable_module(module: str) -> str:
    """Return a module name in the form that enters digests; see `stable_name`."""
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
    """Return the outermost module of an installed package that has the object `qualname` of `module`."""
    stable = stable_module(module)
    if stable != module or "." not in module or "<" in qualname or is_project_module(module):
        return stable
    value = _offered(module, qualname)
    names = module.split(".")
    outer = (".".join(names[:length]) for length in range(1, len(names)))
    return next((name for name in outer if value is not None and _offered(name, qualname) is value), module)


def _offered(module: str, qualname: str) -> Any:
    """Return the object behind a dotted name in a loaded module, or None."""
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = ask(found, name)
    return found


def offered_name(method: Any) -> str | None:
    """Return `module:name` if an installed module offers a bound method as a function; None for all others.

    `random.choice` is a method of an instance that the module hides. Its state is that of the process.
    """
    owner, name = method.__self__, ask(method, "__name__")
    for module in (module_of(type(owner)), ask(method, "__module__")):
        if not isinstance(module, str) or module not in sys.modules or is_project_module(module):
            continue
        held = ask(sys.modules[module], "__dict__", {}).get(name)
        if type(held) is type(method) and held.__self__ is owner and held.__name__ == name:
            return f"{_public_module(module, name)}:{name}"
    return None


class own_module:
    """Name the definitions of a project module by their qualified name only during the block, so that it can move.

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
    """Return whether a module is the user's own code: not standard library, Penstock, or installed in site-packages.

    The module in which Cython creates the class of its functions is nobody's own.
    Modules without a file (a notebook, a prompt, a module created at run time) and editable installs are the user's
    own.
    """
    root = module.partition(".")[0]
    if module in MAIN_NAMES:
        return True
    if root in sys.stdlib_module_names or root == "penstock" or root.startswith("_cython_"):
        return False
    found = sys.modules.get(module) or sys.modules.get(root)
    file = getattr(found, "__file__", None) or next(iter(getattr(found, "__path__", ())), None)
    if found is None:
        file = _file_of_unloaded(root)  # without importing it, which may take seconds
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
