"""Rates: how many tasks with a tag may start in each period of time, wherever they run.

Time is divided into periods of the rate's length, counted from the epoch. Each period has a folder in the store. It
holds a few small records, each of which stands for an equal share of the period's starts; a driver takes a share by
writing its record with `put_if_absent`. So a rate covers all clusters together without a server. The share of a driver
that dies is not used again.

    rates/<tag>/<period>/<share>.json
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from penstock.clocks import JITTER, Clock
from penstock.errors import UsageError
from penstock.storage.stores.base import SlotStore

MOST_SHARES = 16
"""The most shares of a period, and so the most writes it costs, whatever the rate."""
_KEEP_SECONDS = 300.0
"""Records are removed this long after the end of their period. A clock that is further ahead would break a rate."""
_SWEEP_SECONDS = 60.0
_UNITS = {"s": 1.0, "second": 1.0, "m": 60.0, "minute": 60.0, "h": 3600.0, "hour": 3600.0, "d": 86400.0, "day": 86400.0}
_RATE = r"(?P<starts>[0-9]{1,9})/(?:(?P<every>[0-9]{1,9}(?:\.[0-9]{1,6})?) ?)?(?P<unit>[a-z]+)"
_PERIOD = r"(?P<number>[0-9]{1,18})-[0-9]{1,9}-(?P<seconds>[0-9]{1,18}(?:\.[0-9]{1,18})?(?:e[+-]?[0-9]{1,2})?)/"


@dataclass(frozen=True, slots=True)
class Rate:
    """A number of starts in each period of a number of seconds."""

    starts: int
    seconds: float

    def period(self, now: float) -> int:
        """Return the number of the period at a time."""
        return int(now // self.seconds)

    def seconds_left(self, now: float) -> float:
        """Return the seconds until the next period begins."""
        return (self.period(now) + 1) * self.seconds - now

    def __str__(self) -> str:
        for unit in ("day", "hour", "minute", "second"):
            if self.seconds == _UNITS[unit]:
                return f"{self.starts}/{unit}"
        return f"{self.starts}/{self.seconds:g}s"


def parse_rate(text: str) -> Rate:
    """Parse a rate such as `10/second`, `100/m` or `5/30s`. Raises `UsageError` for any other text."""
    match = re.fullmatch(_RATE, text.strip().lower())
    unit = match["unit"] if match else ""
    unit = unit if unit in _UNITS else unit.removesuffix("s")
    seconds = float(match["every"] or 1) * _UNITS.get(unit, 0.0) if match else 0.0
    if match is None or seconds <= 0 or int(match["starts"]) < 1:
        raise UsageError(
            f"{text!r} is not a rate",
            because="a rate is a number of starts and a period",
            hint="write, for example, 10/second, 100/minute or 5/30s",
        )
    return Rate(int(match["starts"]), seconds)


class RateTable:
    """The starts that a driver has taken from a store and not yet used. Not safe for use by several threads."""

    def __init__(self, store: SlotStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._left: dict[str, tuple[Rate, int, int]] = {}
        """By tag: the rate, the period, and the number of unused starts."""
        self._gone: dict[str, tuple[Rate, int]] = {}
        """By tag: the rate and period that has no share left, so that the store need not be asked again."""
        self._swept: dict[str, float] = {}

    def take(self, tag: str, rate: Rate, most: int) -> int:
        """Use up to `most` starts of the current period. Return how many were available. Raises `StoreError`."""
        period = rate.period(self._clock.now())
        known, of, left = self._left.get(tag, (rate, period, 0))
        if (known, of) != (rate, period):
            left = 0
        if left < most and self._gone.get(tag) != (rate, period):
            left += self._take_shares(tag, rate, period, most - left)
            if left < most:
                self._gone[tag] = (rate, period)
        taken = min(left, most)
        self._left[tag] = (rate, period, left - taken)
        return taken

    def give_back(self, tag: str, starts: int) -> None:
        """Return starts of the current period that were taken but not used."""
        rate, period, left = self._left[tag]
        self._left[tag] = (rate, period, left + starts)

    def _take_shares(self, tag: str, rate: Rate, period: int, wanted: int) -> int:
        self._sweep(tag, rate)
        shares, folder = _shares(rate), f"{_folder(tag)}{period}-{rate.starts}-{rate.seconds:g}/"
        gone = {entry.name for entry in self._store.list(folder)}
        names = [(f"{folder}{number}.json", size) for number, size in shares.items()]
        free = [(name, size) for name, size in names if name not in gone]
        JITTER.shuffle(free)  # so that contenders do not all begin with the first
        taken = 0
        for name, size in free:
            if taken >= wanted:
                break
            taken += size if self._store.put_if_absent(name, b"{}") else 0
        return taken

    def _sweep(self, tag: str, rate: Rate) -> None:
        """Remove the records of past periods from time to time."""
        now = self._clock.monotonic()
        if now - self._swept.get(tag, -_SWEEP_SECONDS) < _SWEEP_SECONDS:
            return
        self._swept[tag] = now
        over = self._clock.now() - _KEEP_SECONDS
        for entry in list(self._store.list(_folder(tag))):
            period = re.match(_PERIOD, entry.name.removeprefix(_folder(tag)))  # ignores files that are not ours
            if period is not None and (int(period["number"]) + 1) * float(period["seconds"]) < over:
                self._store.delete(entry.name)


def _shares(rate: Rate) -> Mapping[int, int]:
    """Return the number of starts of each share of a period."""
    count = min(rate.starts, MOST_SHARES)
    return {number: rate.starts // count + (number < rate.starts % count) for number in range(count)}


def _folder(tag: str) -> str:
    return f"rates/tag-{quote(tag, safe='')}/"
