"""Questions to users' objects, which may answer with anything: raise any error, exit, or invent an attribute."""

from __future__ import annotations

from typing import Any

ABSENT: Any = object()


class Pending:
    """Base of objects that stand for a value and give every attribute that they are asked for (futures).

    They are never asked here: their answers are further futures, without an end.
    """

    __slots__ = ()


def ask(value: object, name: str, default: Any = None) -> Any:
    """Return an attribute of any object, or `default` if the object has none or fails to answer."""
    if is_pending(value):
        return default
    try:
        return getattr(value, name, default)
    except (Exception, SystemExit):  # noqa: BLE001 (the object's class or its metaclass is the user's code)
        return default


def has(value: object, name: str) -> bool:
    """Return whether any object has an attribute."""
    return ask(value, name, ABSENT) is not ABSENT


WHERE_PENDING_BELONGS = "pass the future itself as an argument, or in a list, tuple, dict, set or dataclass"
"""What to do about a future in an object in which it is not recognised as an input."""


def is_pending(value: object) -> bool:
    """Return whether an object stands for a value that may not exist yet."""
    return issubclass(type(value), Pending)


def is_mock(cls: type) -> bool:
    """Return whether a class is one of `unittest.mock`, which makes a class for each mock."""
    return any(base.__name__ == "NonCallableMock" and base.__module__ == "unittest.mock" for base in cls.__mro__)
