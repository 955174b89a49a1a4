"""The items of plain tasks that are generators, collected into a list: up to a bound, since some have no end."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

from penstock.errors import ResultError
from penstock.storage.formats.sizes import nbytes_of
from penstock.storage.results.producers import memory_bytes

MOST_ITEMS = 10_000_000
"""A generator that yields more is taken for an endless one."""
MOST_OF_MEMORY = 0.5
"""So much of the machine's memory its items may take."""


def collected(stream: Iterator[Any]) -> list[Any]:
    """All items. Raises `ResultError` for a stream without an end, or of more than memory holds."""
    found = _Collection()
    for item in stream:
        found.add(item)
    return found.items


async def collected_async(stream: AsyncIterator[Any]) -> list[Any]:
    """The same for an async generator."""
    found = _Collection()
    async for item in stream:
        found.add(item)
    return found.items


_PYTHONS_OWN = frozenset({str, bytes, bytearray, list, tuple, dict, set, frozenset})


def _size_of(item: Any) -> int:
    # What a class of the user's says of its size is not asked.
    return sys.getsizeof(item) if type(item) in _PYTHONS_OWN else object.__sizeof__(item)


class _Collection:
    def __init__(self) -> None:
        self.items: list[Any] = []
        self._bytes = 0
        self._most_bytes = int(memory_bytes() * MOST_OF_MEMORY)

    def add(self, item: Any) -> None:
        self.items.append(item)
        self._bytes += nbytes_of(item) or _size_of(item)
        if len(self.items) > MOST_ITEMS:
            raise _endless(f"it has yielded more than {MOST_ITEMS:,} items")
        if self._bytes > self._most_bytes:
            raise _endless(
                f"its {len(self.items):,} items take {self._bytes:,} bytes, and up to {self._most_bytes:,} are kept"
            )


def _endless(because: str) -> ResultError:
    return ResultError(
        "a generator has no end, or too many items to be kept",
        because=f"{because}; within a flow all items are collected before others get them",
        hint="end it, yield larger pieces, or return a list; record batches of a cached task are written as they come",
    )
