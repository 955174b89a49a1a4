"""Named limits: how many tasks with a tag may run at once, wherever they run. One small record each, in the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import quote, unquote

from penstock.clocks import Clock
from penstock.errors import StoreError, UsageError
from penstock.storage.stores import SlotStore

_FOLDER = "limits/"
_FRESH_SECONDS = 10.0


def read_limits(store: SlotStore) -> dict[str, int]:
    """Every limit, by tag. Raises `StoreError`."""
    names = [entry.name for entry in store.list(_FOLDER) if entry.name.endswith(".json")]
    limits = {}
    for name, data in zip(names, store.get_many(names), strict=True):
        if data is None:
            continue  # removed since the listing
        try:
            limits[_tag(name)] = int(json.loads(data)["limit"])
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError("a limit cannot be read", where=name, because=str(error), hint="set it again") from error
    return dict(sorted(limits.items()))


def set_limit(store: SlotStore, tag: str, limit: int) -> None:
    """From now on at most `limit` tasks with this tag run at once. Raises `UsageError` for a limit below 1."""
    if limit < 1 or not tag:
        raise UsageError(
            f"{tag!r} cannot be limited to {limit}",
            because="a limit is a tag and a number from 1",
            hint="`limits rm` lifts it",
        )
    store.put(_name(tag), json.dumps({"limit": limit}).encode("ascii"))


def remove_limit(store: SlotStore, tag: str) -> bool:
    """Lift a limit; False if there was none."""
    there = store.get(_name(tag)) is not None
    store.delete(_name(tag))
    return there


class LimitTable:
    """The limits of a store as a run sees them: read when they are needed first, and again every few seconds."""

    def __init__(self, store: SlotStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._limits: dict[str, int] = {}
        self._read_at = -_FRESH_SECONDS

    def current(self) -> Mapping[str, int]:
        """Every limit, by tag. Raises `StoreError`."""
        now = self._clock.monotonic()
        if now - self._read_at >= _FRESH_SECONDS:
            self._limits, self._read_at = read_limits(self._store), now
        return self._limits


def _name(tag: str) -> str:
    return f"{_FOLDER}tag-{quote(tag, safe='')}.json"


def _tag(name: str) -> str:
    return unquote(name.removeprefix(f"{_FOLDER}tag-").removesuffix(".json"))
