"""Limits: how many tasks with a tag may run at once, and how many may start within a period, wherever they run.

Each is a small record in the store: `limits/tag-<tag>.json` for tasks at once, `limits/rate-<tag>.json` for rates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated
from urllib.parse import quote, unquote

import msgspec

from penstock.clocks import Clock
from penstock.errors import StoreError, UsageError
from penstock.limits.rates import Rate
from penstock.storage.stores.base import SlotStore

_FOLDER = "limits/"
_FRESH_SECONDS = 10.0
MOST_AT_ONCE = 100_000
"""The highest limit: each permit of a limit is a lock."""
MOST_STARTS, SHORTEST_PERIOD, LONGEST_PERIOD = 10**9, 1e-6, 366 * 86400.0
_NAME = r"(?P<kind>tag|rate)-(?P<tag>[^/]+)\.json"


class _Limit(msgspec.Struct):
    limit: Annotated[int, msgspec.Meta(ge=0, le=MOST_AT_ONCE)]


class _Rate(msgspec.Struct):
    starts: Annotated[int, msgspec.Meta(ge=1, le=MOST_STARTS)]
    seconds: Annotated[float, msgspec.Meta(ge=SHORTEST_PERIOD, le=LONGEST_PERIOD)]


def read_limits(store: SlotStore) -> dict[str, int]:
    """Return how many tasks may run at once, by tag; 0 means paused. Raises `StoreError`."""
    return {tag: limit for tag, limit in _sound(store) if isinstance(limit, int)}


def read_rates(store: SlotStore) -> dict[str, Rate]:
    """Return the rates by tag. Raises `StoreError`."""
    return {tag: rate for tag, rate in _sound(store) if isinstance(rate, Rate)}


def set_limit(store: SlotStore, tag: str, limit: int) -> None:
    """Limit how many tasks with a tag run at once; 0 pauses them. Raises `UsageError` for an invalid limit."""
    if not tag or type(limit) is not int or not 0 <= limit <= MOST_AT_ONCE:
        raise UsageError(
            f"{tag!r} cannot be limited to {limit}",
            because=f"a limit is a tag and a whole number from 0 (paused) to {MOST_AT_ONCE}",
            hint="to remove a limit, use `penstock limits rm`",
        )
    store.put(_name("tag", tag), msgspec.json.encode(_Limit(limit)))


def set_rate(store: SlotStore, tag: str, rate: Rate) -> None:
    """Limit how many tasks with a tag start in each period. Raises `UsageError` for an invalid rate."""
    if not tag:
        raise UsageError("a rate needs a tag", hint="for example: penstock limits set TAG 10/second")
    if not 1 <= rate.starts <= MOST_STARTS or not SHORTEST_PERIOD <= rate.seconds <= LONGEST_PERIOD:
        raise UsageError(
            f"{tag!r} cannot have the rate {rate}",
            because=f"a rate is 1 to {MOST_STARTS} starts in a period of at most a year",
            hint="for example: penstock limits set TAG 10/second. To pause a tag: penstock limits set TAG 0",
        )
    store.put(_name("rate", tag), msgspec.json.encode(_Rate(rate.starts, rate.seconds)))


def remove_limit(store: SlotStore, tag: str) -> bool:
    """Remove the limit and the rate of a tag. Return whether there was one."""
    names = [_name("tag", tag), _name("rate", tag)]
    there = [name for name, data in zip(names, store.get_many(names), strict=True) if data is not None]
    for name in there:
        store.delete(name)
    return bool(there)


class LimitTable:
    """The limits of a store for a run, read on first use and again every few seconds."""

    def __init__(self, store: SlotStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._limits: dict[str, int] = {}
        self._rates: dict[str, Rate] = {}
        self._read_at = -_FRESH_SECONDS

    def at_once(self) -> Mapping[str, int]:
        """Return how many tasks may run at once, by tag. Raises `StoreError`, like the other methods."""
        self._refresh()
        return self._limits

    def rates(self) -> Mapping[str, Rate]:
        """Return the rates by tag."""
        self._refresh()
        return self._rates

    def tags(self) -> Iterable[str]:
        """Return every tag that has a limit or a rate."""
        self._refresh()
        return self._limits.keys() | self._rates.keys()

    def _refresh(self) -> None:
        now = self._clock.monotonic()
        if now - self._read_at >= _FRESH_SECONDS:
            found = list(_sound(self._store))
            self._limits = {tag: limit for tag, limit in found if isinstance(limit, int)}
            self._rates = {tag: rate for tag, rate in found if isinstance(rate, Rate)}
            self._read_at = now


def _sound(store: SlotStore) -> Iterator[tuple[str, int | Rate]]:
    """Yield every limit and rate with its tag. Raises `StoreError` if one is unreadable: it may be any number."""
    for tag, limit in all_limits(store):
        if isinstance(limit, StoreError):
            raise limit
        yield tag, limit


def all_limits(store: SlotStore) -> Iterator[tuple[str, int | Rate | StoreError]]:
    """Yield every limit and rate with its tag, in order; unreadable ones as errors."""
    matches = [
        match for entry in store.list(_FOLDER) if (match := re.fullmatch(_NAME, entry.name.removeprefix(_FOLDER)))
    ]
    found: list[tuple[str, int | Rate | StoreError]] = []
    for match, data in zip(matches, store.get_many([_FOLDER + match[0] for match in matches]), strict=True):
        if data is not None:  # None: removed since the listing
            found.append((unquote(match["tag"]), _decoded(match["kind"], _FOLDER + match[0], data)))
    return iter(sorted(found, key=lambda each: each[0]))


def _decoded(kind: str, name: str, data: bytes) -> int | Rate | StoreError:
    try:
        if kind == "tag":
            return msgspec.json.decode(data, type=_Limit).limit
        rate = msgspec.json.decode(data, type=_Rate)
        return Rate(rate.starts, rate.seconds)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return StoreError(
            f"the {'limit' if kind == 'tag' else 'rate'} of a tag cannot be read",
            where=name,
            because=str(error),
            hint="set it again with `penstock limits set`, or remove it with `penstock limits rm`",
        )


def _name(kind: str, tag: str) -> str:
    return f"{_FOLDER}{kind}-{quote(tag, safe='')}.json"
