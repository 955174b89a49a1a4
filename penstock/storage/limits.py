"""Named limits: how many tasks with a tag may run at once, and how many may begin in a time, wherever they run.

One small record each, in the store: `limits/tag-<tag>.json` for those at once, `limits/rate-<tag>.json` for rates.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

from penstock.clocks import Clock
from penstock.errors import StoreError, UsageError
from penstock.storage.rates import Rate
from penstock.storage.stores import SlotStore

_FOLDER = "limits/"
_FRESH_SECONDS = 10.0


def read_limits(store: SlotStore) -> dict[str, int]:
    """How many may run at once, by tag. Raises `StoreError`."""
    return {tag: limit for tag, limit in _read(store) if isinstance(limit, int)}


def read_rates(store: SlotStore) -> dict[str, Rate]:
    """How many may begin in a time, by tag. Raises `StoreError`."""
    return {tag: rate for tag, rate in _read(store) if isinstance(rate, Rate)}


def set_limit(store: SlotStore, tag: str, limit: int) -> None:
    """From now on at most `limit` tasks with this tag run at once. Raises `UsageError` for a limit below 1."""
    if limit < 1 or not tag:
        raise UsageError(
            f"{tag!r} cannot be limited to {limit}",
            because="a limit is a tag and a number from 1",
            hint="`limits rm` lifts it",
        )
    store.put(_name("tag", tag), json.dumps({"limit": limit}).encode("ascii"))


def set_rate(store: SlotStore, tag: str, rate: Rate) -> None:
    """From now on at most so many tasks with this tag begin in each period. Raises `UsageError` for an empty tag."""
    if not tag:
        raise UsageError("nothing can be limited without a tag", hint="penstock limits set TAG 10/second")
    store.put(_name("rate", tag), json.dumps({"starts": rate.starts, "seconds": rate.seconds}).encode("ascii"))


def remove_limit(store: SlotStore, tag: str) -> bool:
    """Lift the limit and the rate of a tag; False if there was neither."""
    names = [_name("tag", tag), _name("rate", tag)]
    there = [name for name, data in zip(names, store.get_many(names), strict=True) if data is not None]
    for name in there:
        store.delete(name)
    return bool(there)


class LimitTable:
    """The limits of a store as a run sees them: read when they are needed first, and again every few seconds."""

    def __init__(self, store: SlotStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._limits: dict[str, int] = {}
        self._rates: dict[str, Rate] = {}
        self._read_at = -_FRESH_SECONDS

    def at_once(self) -> Mapping[str, int]:
        """How many may run at once, by tag. Raises `StoreError`, as all of these."""
        self._refresh()
        return self._limits

    def rates(self) -> Mapping[str, Rate]:
        """How many may begin in a time, by tag."""
        self._refresh()
        return self._rates

    def tags(self) -> Iterable[str]:
        """Every tag that is limited."""
        self._refresh()
        return self._limits.keys() | self._rates.keys()

    def _refresh(self) -> None:
        now = self._clock.monotonic()
        if now - self._read_at >= _FRESH_SECONDS:
            found = list(_read(self._store))
            self._limits = {tag: limit for tag, limit in found if isinstance(limit, int)}
            self._rates = {tag: rate for tag, rate in found if isinstance(rate, Rate)}
            self._read_at = now


def _read(store: SlotStore) -> Iterator[tuple[str, int | Rate]]:
    """Every limit and rate with its tag, in order."""
    names = [entry.name for entry in store.list(_FOLDER) if entry.name.endswith(".json")]
    found = []
    for name, data in zip(names, store.get_many(names), strict=True):
        if data is None:
            continue  # removed since the listing
        try:
            kind, _, tag = name.removeprefix(_FOLDER).removesuffix(".json").partition("-")
            found.append((unquote(tag), _decoded(kind, json.loads(data))))
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError("a limit cannot be read", where=name, because=str(error), hint="set it again") from error
    return iter(sorted(found, key=lambda each: each[0]))


def _decoded(kind: str, document: dict[str, Any]) -> int | Rate:
    if kind == "rate":
        return Rate(int(document["starts"]), float(document["seconds"]))
    return int(document["limit"])


def _name(kind: str, tag: str) -> str:
    return f"{_FOLDER}{kind}-{quote(tag, safe='')}.json"
