"""Importable names: what a function or class is called in any process, `__main__` included.

A script, its import, `python -m` and a worker must agree on names, so `__main__` is replaced by the name under which
the same file would be imported. On a worker, `__main__` is the engine's own program, and says nothing of the driver's;
there the driver's answer is carried along and put in place with `main_module(...)`.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from contextvars import ContextVar
from typing import Any

_MAIN_NAMES = frozenset({"__main__", "__mp_main__"})
_drivers_main: ContextVar[str | None] = ContextVar("drivers_main", default=None)


def importable_name(value: Any) -> tuple[str, str]:
    """The module and qualified name of a function or class, with `__main__` replaced by its importable name."""
    module = str(getattr(value, "__module__", None) or "builtins")
    qualname = str(getattr(value, "__qualname__", None) or getattr(value, "__name__", type(value).__qualname__))
    return (main_module_name() if module in _MAIN_NAMES else module), qualname


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


def main_module_name() -> str:
    """The name under which the running script would be imported; `__main__` where there is none (a notebook)."""
    carried = _drivers_main.get()
    if carried is not None:
        return carried
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name not in _MAIN_NAMES:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    if not isinstance(file, str):
        return "__main__"
    return os.path.splitext(os.path.basename(file))[0]


class main_module:
    """Within the block, `__main__` stands for `name`: a worker uses it for a driver's functions, classes and values."""

    __slots__ = ("_name", "_token")

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        self._token = _drivers_main.set(self._name)

    def __exit__(self, *_: object) -> None:
        _drivers_main.reset(self._token)


def is_project_module(module: str) -> bool:
    """Whether a module is the user's own code: neither standard library, nor Penstock, nor installed in site-packages.

    What has no file (a notebook, a prompt, a module made at run time) is the user's own. So is an editable install.
    """
    root = module.partition(".")[0]
    if module in _MAIN_NAMES:
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
