"""Pickles and copies of msgspec structs as they are.

A struct is unpickled by constructing it, which runs its `__post_init__` on fields that it has already changed, and
loses attributes besides the fields.
"""

from __future__ import annotations

import copyreg
import functools
import types
from typing import Any

from msgspec import Struct
from msgspec.structs import force_setattr

from penstock.objects.questions import ask, has


def reduced_struct(value: Any) -> tuple[Any, ...] | None:
    """Return how to pickle a struct; None if it restores itself, or is no struct."""
    kind = type(value)
    if not issubclass(kind, Struct) or kind in copyreg.dispatch_table:
        return None
    if kind.__reduce__ is not Struct.__reduce__ or kind.__reduce_ex__ is not object.__reduce_ex__:
        return None  # as its class says
    names = kind.__struct_fields__
    attributes = ask(value, "__dict__") or None
    if not (has(kind, "__post_init__") or attributes) or not all(has(value, name) for name in names):
        return None
    return restored_struct, (kind, tuple(getattr(value, name) for name in names), attributes)


def restored_struct(kind: type[Struct], fields: tuple[Any, ...], attributes: dict[str, Any] | None) -> Any:
    """Return a struct with these fields and attributes. Runs no `__post_init__`."""
    named = dict(zip(kind.__struct_fields__, fields, strict=True))
    try:
        value = _bare_class(kind)(**named)
        force_setattr(value, "__class__", kind)
    except Exception:  # noqa: BLE001 (an `__init_subclass__` may do anything)
        value = kind(**named)
        for name, held in named.items():
            force_setattr(value, name, held)
    if has(value, "__dict__"):
        vars(value).clear()
        vars(value).update(attributes or {})
    return value


@functools.lru_cache(maxsize=64)
def _bare_class(kind: type) -> type:
    """Return a subclass that is constructed without `__post_init__`."""
    body = {"__post_init__": _nothing, "__module__": kind.__module__}
    return types.new_class(kind.__name__, (kind,), {}, lambda names: names.update(body))


def _nothing(value: Any) -> None:
    """Take the place of a `__post_init__`."""
