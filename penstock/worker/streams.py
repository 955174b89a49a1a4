"""Collecting the items of tasks that are generators, up to a limit, since some are endless."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

from penstock.errors import ResultError
from penstock.storage.formats.arrow.batches import is_batch
from penstock.storage.formats.sizes import nbytes_of
from penstock.storage.results.producers import memory_bytes

MOST_ITEMS = 10_000_000
"""A generator that yields more is considered endless."""
MOST_OF_MEMORY = 0.5
"""The share of the machine's memory that its items may take."""


def collected(stream: Iterator[Any]) -> list[Any]:
    """Return all items. Raises `ResultError` if there are too many."""
    found = _Collection()
    for item in stream:
        found.add(item)
    return found.items


def collected_unless_batches(stream: Iterator[Any]) -> Any:
    """Return all items, or the stream if it yields record batches or tables, which can be stored one by one."""
    first = next(stream, _NONE)
    if first is _NONE:
        return []
    resumed = _resumed(first, stream)
    return resumed if is_batch(first) else collected(resumed)


def _resumed(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    del first  # or it would be in memory as long as the others
    yield from rest


_NONE = object()


async def collected_async(stream: AsyncIterator[Any]) -> list[Any]:
    """Return all items of an async generator. Raises `ResultError` if there are too many."""
    found = _Collection()
    async for item in stream:
        found.add(item)
    return found.items


_PYTHONS_OWN = frozenset({str, bytes, bytearray, list, tuple, dict, set, frozenset})


def _size_of(item: Any) -> int:
    # Without calling `__sizeof__` of users' classes.
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
                f"its {len(self.items):,} items take {self._bytes:,} bytes, and the limit is {self._most_bytes:,}"
            )


def _endless(because: str) -> ResultError:
    return ResultError(
        "a generator is endless or has too many items",
        because=f"{because}; inside a flow, all items are collected before other tasks receive them",
        hint="end it, yield larger pieces, or return a list; a cached task may stream record batches to the store",
    )
