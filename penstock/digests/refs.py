"""What stands in arguments for something else: `Ref` for another node's result, `Digested` for a value."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, unsafe_hash=True)  # never modified; not frozen, because many are created
class Ref:
    """Replaces a Future in arguments: the result of node number `node` of the same graph."""

    node: int


class Made:
    """Replaces a reference to another task in the arguments of a Dask task."""

    __slots__ = ("digest",)

    def __init__(self, digest: bytes) -> None:
        self.digest = digest


@dataclass(frozen=True, slots=True)
class Digested:
    """An argument of which only the digest is given."""

    digest: bytes


def holds_ref(arguments: Mapping[str, Any]) -> bool:
    """Return whether there is a Ref in the arguments or in plain containers among them."""
    return any(type(part) is Ref for part in _parts(arguments))


def holds_code(arguments: Mapping[str, Any]) -> bool:
    """Return whether there is a function in the arguments or in plain containers among them."""
    return any(issubclass(type(part), _CODE) for part in _parts(arguments))


_CODE = (types.FunctionType, types.MethodType, functools.partial)


def _parts(arguments: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the arguments, and what is in plain containers among them, without running code of their classes."""
    stack: list[Any] = list(arguments.values())
    seen: set[int] = set()
    while stack:
        item = stack.pop()
        yield item
        base = next((base for base in _CONTAINERS if issubclass(type(item), base)), None)
        if base is not None and id(item) not in seen:
            seen.add(id(item))
            stack.extend(base.__iter__(item))
            if base is dict:
                stack.extend(dict.values(item))


_CONTAINERS: tuple[Any, ...] = (dict, list, tuple, set, frozenset)
