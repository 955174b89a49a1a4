"""Trials: objects with their own pickling are unpickled once, to prove that their pickles can be loaded.

Some objects can be pickled but not unpickled: for example, an exception is restored from `args`, which its `__init__`
may not accept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from penstock.errors import SerializationError
from penstock.objects.texts import kind_of, module_of, told

MOST_TRIALS = 64
"""The most objects of one result that are tried."""
_PROVEN = frozenset({"numpy", "pandas", "polars", "pyarrow", "dask", "distributed", "ray", "penstock", "cloudpickle"})
_tried: dict[type, bool] = {}
"""Whether objects of a class need no further trial."""


def needs_trial(obj: Any) -> bool:
    """Return whether the class of an object defines its own pickling, and no instance was tried yet.

    Exceptions are always tried, since their pickles depend on how they were raised.
    """
    kind = type(obj)
    known = _tried.get(kind)
    if known is None:
        known = _is_usual(kind)
        if known:
            _tried[kind] = True
    return not known


def _is_usual(kind: type) -> bool:
    root = module_of(kind).partition(".")[0]
    if root in _PROVEN or (root in sys.stdlib_module_names and root != "__main__") or issubclass(kind, type):
        return True
    if issubclass(kind, BaseException):
        return _is_builtin(kind, "__init__") and _is_builtin(kind, "__new__") and _is_builtin(kind, "__reduce__")
    own = ("__new__", "__reduce__", "__reduce_ex__", "__getstate__")
    return not hasattr(kind, "__setstate__") and all(getattr(kind, name) is getattr(object, name) for name in own)


def _is_builtin(kind: type, name: str) -> bool:
    """Return whether the attribute that a class inherits under this name is not a Python function."""
    return next(not hasattr(vars(base)[name], "__code__") for base in kind.__mro__ if name in vars(base))


def try_reading(obj: Any, again: Callable[[Any], Any]) -> None:
    """Raise `SerializationError` if `again`, which pickles and unpickles an object, raises for this one."""
    kind = type(obj)
    if _tried.get(kind):
        return
    try:
        again(obj)
    except BaseException as error:  # unpickling runs users' code
        raised = issubclass(kind, BaseException)
        raise SerializationError(
            f"a {kind_of(obj)} can be pickled, but not unpickled",
            because=told(error),
            hint="pass all arguments of its __init__ on to super().__init__(), or define __reduce__"
            if raised
            else "define a matching __reduce__ in its class, or return its data instead",
        ) from error
    _tried[kind] = not issubclass(kind, BaseException)
