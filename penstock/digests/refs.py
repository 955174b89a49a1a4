"""What stands in arguments for others: `Ref` for another node's result, `OwnDefault` or `Digested` for a value."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from penstock.digests.large import PLAIN
from penstock.objects.questions import ABSENT
from penstock.objects.records import fields_of, held_values
from penstock.objects.texts import repr_of


@dataclass(slots=True, unsafe_hash=True)  # never modified; not frozen, because many are created
class Ref:
    """Replaces a Future in arguments: the result of node number `node` of the same graph."""

    node: int


class Made:
    """Replaces a reference to another task in the arguments of a Dask task."""

    __slots__ = ("digest",)

    def __init__(self, digest: bytes) -> None:
        self.digest = digest


class OwnDefault:
    """The default of a parameter, if it is a marker: each process has another object, which its code compares with."""

    __slots__ = ("_digest", "value")

    def __init__(self, value: Any, digest: Callable[[Any], bytes]) -> None:
        self.value = value
        """The default; `ABSENT` in another process, where the function has its own."""
        self._digest = digest

    def digest(self) -> bytes:
        """Return its digest: as of any other argument, or that of a marker if the default has none."""
        return self._digest(self.value)

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.digest(),)

    def __repr__(self) -> str:
        return "the default" if self.value is ABSENT else repr_of(self.value)


def _arrived(digest: bytes) -> OwnDefault:
    return OwnDefault(ABSENT, lambda _: digest)


@dataclass(frozen=True, slots=True)
class Digested:
    """An argument of which only the digest is given."""

    digest: bytes


def holds_ref(arguments: Mapping[str, Any]) -> bool:
    """Return whether there is a Ref in the arguments, or in containers and fields of objects among them."""
    return any(type(part) is Ref for part in _parts(arguments))


def holds_code(arguments: Mapping[str, Any]) -> bool:
    """Return whether there is a function in the arguments, or in containers and fields of objects among them."""
    return any(issubclass(type(part), _CODE) for part in _parts(arguments))


_CODE = (types.FunctionType, types.MethodType, functools.partial)


def _parts(arguments: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the arguments, and what is in containers and fields of objects among them."""
    stack: list[Any] = list(arguments.values())
    seen: set[int] = set()
    while stack:
        item = stack.pop()
        yield item
        base = next((base for base in _CONTAINERS if issubclass(type(item), base)), None)
        if id(item) in seen or type(item) in PLAIN:
            continue
        seen.add(id(item))
        if type(item) not in _CONTAINERS:
            stack.extend((fields_of(item) or {}).values())
            stack.extend(held_values(item))
        if base is not None:
            stack.extend(base.__iter__(item))
            if base is dict:
                stack.extend(dict.values(item))


_CONTAINERS: tuple[Any, ...] = (dict, list, tuple, set, frozenset)
