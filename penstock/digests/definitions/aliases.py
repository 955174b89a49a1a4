"""What stands for other types, such as `Box[int]`, `list[Row]`, `Row | None` and `Annotated[Row, …]`, and its parts."""

from __future__ import annotations

import types
from typing import Any

from penstock.digests.walk import LEAVES
from penstock.objects.questions import ask
from penstock.objects.texts import package_of

_BUILT_IN = (types.GenericAlias, types.UnionType)
_OF_BUILT_IN = ("__origin__", "__args__")  # others are those of the class
_OF_TYPING = (*_OF_BUILT_IN, "__metadata__", "__supertype__", "__value__")
"""Of a subscripted type; of `Annotated`, `NewType` and `type X = …`, too. Bounds of type variables do nothing."""


def is_alias(value: Any) -> bool:
    """Return whether an object stands for other types."""
    kind = type(value)
    if kind in LEAVES:  # most constants
        return False
    return issubclass(kind, _BUILT_IN) or package_of(kind) in ("typing", "typing_extensions")


def aliased(value: Any) -> list[Any]:
    """Return what an alias consists of: types, the values of `Literal` and `Annotated`, and further aliases."""
    found: list[Any] = []
    stack = [ask(value, name) for name in (_OF_BUILT_IN if issubclass(type(value), _BUILT_IN) else _OF_TYPING)]
    while stack:
        part = stack.pop()
        if type(part) in (tuple, list):  # of a `Callable` or `ParamSpec`, too
            stack.extend(part)
        elif part is not None:
            found.append(part)
    return found
