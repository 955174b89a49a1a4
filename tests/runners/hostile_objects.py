"""Objects whose special methods raise, exit, lie or block: one for each method and behaviour."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

OF_ANY = (
    "__str__", "__repr__", "__eq__", "__hash__", "__bool__", "__len__", "__iter__", "__getattr__", "__getattribute__",
    "__reduce_ex__", "__reduce__", "__getstate__", "__setstate__", "__class__", "__del__", "__deepcopy__", "__copy__",
    "__sizeof__", "__await__", "__array__", "__dataframe__", "__arrow_c_stream__", "__dask_graph__", "__dir__",
    "__format__", "__call__", "__next__", "__fspath__", "__index__", "__contains__", "__getitem__", "__enter__",
    "__dict__", "__doc__", "__module__", "__dataclass_fields__", "__instancecheck__", "__subclasscheck__",
    "__mro_entries__", "read_next_batch", "_make", "_fields", "__len_hint__", "__lt__", "__new__", "__init_subclass__",
    "__set_name__",
)  # fmt: skip
OF_EXCEPTIONS = (
    "__str__", "__repr__", "add_note", "__notes__", "args", "__traceback__", "__cause__", "__context__",
    "__suppress_context__", "with_traceback", "__reduce__", "__reduce_ex__", "__setstate__", "__getattribute__",
    "__eq__", "__hash__", "__bool__", "__class__", "__dict__", "__init__", "__new__", "__del__", "__deepcopy__",
    "exceptions",
    "__getstate__", "name", "obj", "msg", "errno", "code", "__setattr__",
)  # fmt: skip
ATTRIBUTES = frozenset({
    "__class__", "__dict__", "__doc__", "__module__", "__notes__", "args", "__traceback__", "__cause__", "__context__",
    "__suppress_context__", "exceptions", "name", "obj", "msg", "errno", "code", "__dataclass_fields__", "_fields",
    "__dask_graph__",
})  # fmt: skip
OF_METACLASSES = frozenset({"__instancecheck__", "__subclasscheck__"})
armed = [True]
"""Destructors are only hostile during their own test: afterwards, garbage may be collected at any point."""
BEHAVIOURS = ("raises", "exits", "interrupts", "ends", "lies", "says nothing")


class Ends(BaseException):
    """A subclass of BaseException that nobody knows."""


class Case(NamedTuple):
    """A method of a kind of object, and what it does."""

    kind: str
    method: str
    behaviour: str

    def __str__(self) -> str:
        return f"{self.kind}.{self.method} {self.behaviour}"

    def make(self) -> Any:
        """Return an instance; its constructor is not hostile."""
        hostile = self.class_()
        if self.method == "__setstate__":
            instance = hostile()
            instance.held = 1  # without state, nothing is set
        elif self.method in ("__new__", "__init__"):
            instance = Exception.__new__(hostile) if self.kind == "exception" else object.__new__(hostile)
        else:
            instance = hostile()
        if self.kind == "held":
            return {"in": [instance]}
        return instance

    def class_(self) -> Any:
        method, behave = self.method, _BEHAVIOURS[self.behaviour]

        def hostile(*args: Any, **kwargs: Any) -> Any:
            return behave() if armed[0] or method != "__del__" else None

        base: Any = Exception if self.kind == "exception" else object
        member: Any = hostile
        if method in ATTRIBUTES:
            member = property(hostile)
        elif method == "__init_subclass__":
            member = classmethod(hostile)
        if method in OF_METACLASSES:
            return type(f"Meta{method}", (type,), {method: hostile})("Hostile", (base,), {})
        return type("Hostile", (base,), {method: member})


def _raises() -> Any:
    raise ValueError("hostile")


def _exits() -> Any:
    sys.exit(0)


def _interrupts() -> Any:
    raise KeyboardInterrupt


def _ends() -> Any:
    raise Ends


def _lies() -> Any:
    return 3.5


def _says_nothing() -> Any:
    return None


def _blocks() -> Any:
    threading.Event().wait()


_BEHAVIOURS: dict[str, Callable[[], Any]] = {
    "raises": _raises,
    "exits": _exits,
    "interrupts": _interrupts,
    "ends": _ends,
    "lies": _lies,
    "says nothing": _says_nothing,
    "blocks": _blocks,
}


def _is_tried(method: str) -> bool:
    """Allow destructors only in campaigns, because the garbage of a test may be collected during the next one."""
    return method != "__del__" or os.environ.get("PENSTOCK_EVIDENCE") == "1"


def cases(kind: str, behaviours: tuple[str, ...] = BEHAVIOURS) -> list[Case]:
    """Return all cases of `argument`, `result`, `held` (inside a dict) or `exception`."""
    methods = [method for method in (OF_EXCEPTIONS if kind == "exception" else OF_ANY) if _is_tried(method)]
    return [Case(kind, method, behaviour) for method in methods for behaviour in behaviours]
