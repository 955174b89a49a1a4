"""Copies of objects whose class declares their fields: dataclasses, attrs classes, msgspec structs, pydantic models."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from penstock.objects.markers import is_frozen_record
from penstock.objects.package_copies import CannotCopy, Part
from penstock.objects.records import fields_of, set_field


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
    held = fields_of(value)
    if held is None:
        raise CannotCopy(value)
    try:
        new = copy.copy(value)
    except Exception:  # noqa: BLE001 (a __copy__ or __reduce__ is the user's code)
        new = value
    if type(new) is not kind or new is value:
        raise CannotCopy(value)
    begin(new)
    same = True
    for name, each in held.items():
        own = part(each)
        if own is not each:
            set_field(new, name, own)
            same = False
    if not same or not is_frozen_record(kind):
        return new
    begin(value)  # nothing in it can be modified
    return value
