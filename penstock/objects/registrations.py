"""Digests that programs have registered for their classes, and on a worker those of the driver's program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from penstock.objects.texts import module_of
from penstock.runtime import own_variable

Function = Callable[[Any], object]
"""Returns what represents an instance."""
Name = tuple[str, str]
"""The module and the qualified name of a class."""
Carried = Callable[[Name], tuple[type, Function] | None]
"""Returns a class of the driver's program, with its function. None if the driver has none of this name."""

_own: dict[type, Function] = {}
_carried: ContextVar[Carried | None] = own_variable("penstock_carried_digests", None)
_ever_carried: list[bool] = []
"""Not empty once this process has been a worker of a driver with registrations, so that others need not ask."""


def register(cls: type, fn: Function) -> None:
    """Define the digest of instances of a class and its subclasses."""
    _own[cls] = fn


def forget(cls: type) -> None:
    """Take back what `register` has done."""
    _own.pop(cls, None)


def registered_for(cls: type) -> Function | None:
    """Return the function registered for the most specific class of a class and its bases."""
    if not (_own or _ever_carried):
        return None
    carried = _carried.get() if _ever_carried else None
    for base in cls.__mro__:
        if base in _own:
            return _own[base]
        if carried is not None:
            found = carried(name_of(base))
            if found is not None and found[0] is base:
                return found[1]
    return None


def registrations() -> Mapping[type, Function]:
    """Return what has been registered in this process."""
    return dict(_own)


def name_of(cls: type) -> Name:
    """Return the name by which a class is found in another process."""
    return module_of(cls), cls.__qualname__


def is_carrying() -> bool:
    """Return whether registrations of a driver may apply here, whatever was found for a class before."""
    return bool(_ever_carried)


def carried() -> Carried | None:
    """Return what applies in this context."""
    return _carried.get()


class carrying:
    """Make a driver's registrations apply in the block, to classes for which this process has none."""

    __slots__ = ("_found", "_token")

    def __init__(self, found: Carried | None) -> None:
        self._found = found

    def __enter__(self) -> None:
        if self._found is not None and not _ever_carried:
            _ever_carried.append(True)
        self._token = _carried.set(self._found)

    def __exit__(self, *_: object) -> None:
        _carried.reset(self._token)
