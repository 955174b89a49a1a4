"""The name under which `__main__` would be imported, and the classes of the running script.

A script, its import, `python -m` and a worker must agree on names, so `__main__` is replaced by the name under which
the same file would be imported. On a worker, `__main__` is the engine's own program; there `main_module(...)` sets the
driver's name and the classes of its script.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from penstock.imported import loaded
from penstock.runtime import own_variable

MAIN_NAMES = frozenset({"__main__", "__mp_main__"})
Names = Mapping[str, Any]
"""The names that a module defines."""


class main_module:
    """Make `__main__` stand for `name` during the block: workers use it for a driver's functions, classes and values.

    `names` returns the definitions of the driver's script if this is another process.
    """

    __slots__ = ("_name", "_names", "_token")

    def __init__(self, name: str, names: Callable[[], Names] | None = None) -> None:
        self._name, self._names = name, names

    def __enter__(self) -> None:
        self._token = _carried.set((self._name, self._names))

    def __exit__(self, *_: object) -> None:
        _carried.reset(self._token)


_carried: ContextVar[tuple[str, Callable[[], Names] | None] | None] = own_variable("penstock_drivers_main", None)


def main_module_name() -> str:
    """Return the name under which the running script would be imported.

    In a notebook it is the name of its file if the kernel knows it, else `__main__`.
    """
    carried = _carried.get()
    return _own_name() if carried is None else carried[0]


def runs_main() -> bool:
    """Return whether the program whose names count is this process's own, so that its classes are found by name."""
    carried = _carried.get()
    return carried is None or carried[0] == _own_name()


def importable_module(module: str) -> str:
    """Return the name of a module that is valid in every process."""
    return main_module_name() if module in MAIN_NAMES else module


def living_names(module: str) -> Names | None:
    """Return what a module, or the running script, defines in this process; None if it is not imported.

    Imports nothing. A module that another thread is just importing counts as not imported.
    """
    carried = _carried.get()
    if carried is not None and module == carried[0] and carried[1] is not None:
        return carried[1]()
    found = sys.modules.get("__main__") if module == _own_name() else loaded(module)
    return None if found is None else vars(found)


def carried_names() -> Callable[[], Names] | None:
    """Return the `names` that were passed to `main_module(...)`."""
    carried = _carried.get()
    return None if carried is None else carried[1]


def _own_name() -> str:
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name not in MAIN_NAMES:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    if not isinstance(file, str):
        return _notebook_name(main) or "__main__"
    return os.path.splitext(os.path.basename(file))[0]


def _notebook_name(main: Any) -> str | None:
    if "ipykernel" not in sys.modules:  # a program that a notebook starts inherits its environment variables
        return None
    # VS Code stores the path in the notebook's namespace, a Jupyter server in the kernel's environment.
    path = getattr(main, "__vsc_ipynb_file__", None) or os.environ.get("JPY_SESSION_NAME")
    return os.path.basename(path) if isinstance(path, str) and path.endswith(".ipynb") else None
