"""Copies of objects whose class declares their fields: dataclasses, attrs classes, msgspec structs, pydantic models."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import force_setattr

from penstock.objects.markers import is_frozen_record
from penstock.objects.package_copies import CannotCopy, Part
from penstock.objects.questions import has


def record_copy(value: Any, begin: Callable[[Any], None], part: Part) -> Any:
    """Return a copy of an object whose fields are copied by `part`, or the object itself if it is immutable.

    Args:
        value: The object.
        begin: Is called with the copy before any field is copied.
        part: Copies a field; returns it unchanged if it is immutable.

    Raises:
        CannotCopy: The class declares no fields, or its objects cannot be copied.
    """
    kind = type(value)
    names = next((names(kind) for mark, names in _DECLARED if has(kind, mark)), None)
    if names is None:
        raise CannotCopy(value)
    try:
        new = copy.copy(value)
    except Exception:  # noqa: BLE001 (a __copy__ or __reduce__ is the user's code)
        new = value
    if type(new) is not kind or new is value:
        raise CannotCopy(value)
    begin(new)
    assign = force_setattr if issubclass(kind, Struct) else object.__setattr__  # it may be frozen
    held: dict[str, Any] = {name: getattr(value, name) for name in names if has(value, name)}
    same = True
    for name, each in (held | getattr(value, "__dict__", {})).items():
        own = part(each)
        if own is not each:
            assign(new, name, own)
            same = False
    if not same or not is_frozen_record(kind):
        return new
    begin(value)  # nothing in it can be modified
    return value


_DECLARED: tuple[tuple[str, Callable[[Any], tuple[str, ...]]], ...] = (
    ("__dataclass_fields__", lambda kind: tuple(each.name for each in dataclasses.fields(kind))),  # without ClassVars
    ("__pydantic_private__", lambda kind: ("__pydantic_extra__", "__pydantic_private__")),  # the others are in __dict__
    ("__attrs_attrs__", lambda kind: tuple(each.name for each in kind.__attrs_attrs__)),
    ("__struct_fields__", lambda kind: kind.__struct_fields__),
)
"""How a class of each package is recognised, and the names of what its objects hold."""
