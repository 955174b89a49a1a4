"""Describes the parts of a value that need pickle, by location and type, for messages.

The same is known from a task's return annotation before it runs, if that names a class that is not made for data.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any

from penstock.storage.formats.base import type_name
from penstock.storage.formats.registry import may_be_taken, serializer_for
from penstock.storage.formats.typed.json import Unkept, encode, has_form

_NAMED = 3
"""The most parts that are named."""
_OPEN_PACKAGES = frozenset({"numpy", "pandas", "polars", "pyarrow", "dask", "ray", "penstock", "typing", "abc"})


def pickled_parts(value: Any) -> str:
    """Describe the parts that need pickle, for example `result['model']: sklearn.pipeline.Pipeline`."""
    found = list(_parts(value))
    more = ", and more" if len(found) > _NAMED else ""
    return ", ".join(found[:_NAMED]) + more


def _parts(value: Any) -> Iterator[str]:
    known: dict[int, bool] = {}

    def part(leaf: Any) -> int | None:
        if id(leaf) not in known:
            known[id(leaf)] = leaf is not value and serializer_for(leaf).safe
        return 0 if known[id(leaf)] else None

    for _ in range(_NAMED + 1):
        try:
            encode(value, part)
        except Unkept as unkept:
            yield f"result{unkept.where}: {type_name(unkept.leaf)}"
            if unkept.leaf is value or known.get(id(unkept.leaf)) is not False:
                return
            known[id(unkept.leaf)] = True  # so that the next one is found
        else:
            return


def annotated_pickle(function: Callable[..., Any]) -> str:
    """Describe the parts of a function's annotated return type that need pickle; empty if there are none."""
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # noqa: BLE001 (annotations are users' code, and may need imports for type checkers only)
        return ""
    return _named_by(hints.get("return", Any), "result")


def _named_by(annotation: Any, where: str) -> str:
    arguments = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _named_by(arguments[0], where)
    if origin is tuple and arguments and arguments[-1] is not ...:
        return next((found for n, each in enumerate(arguments) if (found := _named_by(each, f"{where}[{n}]"))), "")
    if origin is not None or not isinstance(annotation, type) or not _is_opaque(annotation):
        return ""
    return f"{where}: {annotation.__module__}.{annotation.__qualname__}"


def _is_opaque(kind: type) -> bool:
    """Return whether instances of a class and all of its subclasses need pickle."""
    if kind.__module__.partition(".")[0] in _OPEN_PACKAGES or kind.__module__ == "builtins":
        return False
    if inspect.isabstract(kind) or getattr(kind, "_is_protocol", False):
        return False
    if any(base.__module__ in ("collections.abc", "_collections_abc") for base in kind.__mro__):
        return False  # may be a stream
    if may_be_taken(kind):
        return False
    return not has_form(kind) and all(map(_is_opaque, _subclasses(kind)))


def _subclasses(kind: type) -> list[type]:
    try:
        return type.__subclasses__(kind)
    except TypeError:  # the class is a metaclass
        return []
