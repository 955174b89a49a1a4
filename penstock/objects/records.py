"""Objects whose class declares their fields: dataclasses, attrs classes, msgspec structs, pydantic models."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import force_setattr

from penstock.objects.questions import ask, has

_DECLARED: tuple[tuple[str, Callable[[Any], tuple[str, ...]]], ...] = (
    ("__dataclass_fields__", lambda kind: tuple(each.name for each in dataclasses.fields(kind))),  # without ClassVars
    ("__pydantic_private__", lambda kind: ("__pydantic_extra__", "__pydantic_private__")),  # the others are in __dict__
    ("__attrs_attrs__", lambda kind: tuple(each.name for each in kind.__attrs_attrs__)),
    ("__struct_fields__", lambda kind: kind.__struct_fields__),
)
"""How a class of each package is recognised, and the names of what its objects hold."""


def is_record(kind: type) -> bool:
    """Return whether a class declares the fields of its objects. A metaclass does not: it has them of its classes."""
    if issubclass(kind, type):
        return False
    try:
        return any(hasattr(kind, mark) for mark, _ in _DECLARED)
    except (Exception, SystemExit):  # noqa: BLE001 (a metaclass is the user's code)
        return any(has(kind, mark) for mark, _ in _DECLARED)


def fields_of(value: Any) -> dict[str, Any] | None:
    """Return the fields and the other attributes of an object by name; None if its class declares no fields."""
    kind = type(value)
    if not is_record(kind):
        return None
    names = next(names(kind) for mark, names in _DECLARED if has(kind, mark))
    held: dict[str, Any] = {name: getattr(value, name) for name in names if has(value, name)}
    held.update(ask(value, "__dict__", {}))
    return held


def set_field(value: Any, name: str, held: Any) -> None:
    """Set a field, also of an object that is frozen."""
    assign = force_setattr if isinstance(value, Struct) else object.__setattr__
    assign(value, name, held)
