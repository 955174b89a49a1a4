"""Named rates: how many tasks with a tag may begin in each period of time, wherever they run.

Time is cut into periods of the rate's length, counted from the epoch. Each period has a folder in the store, and in it
a few small records, each good for an equal share of the period's starts and written by `put_if_absent` by whoever takes
that share. So a rate holds on all clusters together, needs no server, and a share whose driver died is not used again.

    rates/<tag>/<period>/<share>.json
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from penstock.clocks import Clock
from penstock.errors import UsageError
from penstock.storage.stores.base import SlotStore

MOST_SHARES = 16
"""A period has no more shares than this: so many writes it costs at the most, whatever the rate."""
_KEEP_SECONDS = 300.0
"""Records of periods that are over for so long are removed. A clock that is further ahead would undo a rate."""
_SWEEP_SECONDS = 60.0
_UNITS = {"s": 1.0, "second": 1.0, "m": 60.0, "minute": 60.0, "h": 3600.0, "hour": 3600.0, "d": 86400.0, "day": 86400.0}
_RATE = r"(?P<starts>[0-9]{1,9})/(?:(?P<every>[0-9]{1,9}(?:\.[0-9]{1,6})?) ?)?(?P<unit>[a-z]+)"
_PERIOD = r"(?P<number>[0-9]{1,18})-[0-9]{1,9}-(?P<seconds>[0-9]{1,18}(?:\.[0-9]{1,18})?(?:e[+-]?[0-9]{1,2})?)/"


@dataclass(frozen=True, slots=True)
class Rate:
    """So many starts in each period of so many seconds."""

    starts: int
    seconds: float

    def period(self, now: float) -> int:
        """The number of the period at this time."""
        return int(now // self.seconds)

    def seconds_left(self, now: float) -> float:
        """Until the next period begins."""
        return (self.period(now) + 1) * self.seconds - now

    def __str__(self) -> str:
        for unit in ("day", "hour", "minute", "second"):
            if self.seconds == _UNITS[unit]:
                return f"{self.starts}/{unit}"
        return f"{self.starts}/{self.seconds:g}s"


def parse_rate(text: str) -> Rate:
    """The rate that `10/second`, `100/m` or `5/30s` means. Raises `UsageError`."""
    match = re.fullmatch(_RATE, text.strip().lower())
    unit = match["unit"] if match else ""
    unit = unit if unit in _UNITS else unit.removesuffix("s")
    seconds = float(match["every"] or 1) * _UNITS.get(unit, 0.0) if match else 0.0
    if match is None or seconds <= 0 or int(match["starts"]) < 1:
        raise UsageError(
            f"{text!r} is no rate",
            because="a rate is a number of starts and a period",
            hint="such as 10/second, 100/minute or 5/30s",
        )
    return Rate(int(match["starts"]), seconds)


class RateTable:
    """Starts that one driver took from a store, and those it may still use. Not safe for threads."""

    def __init__(self, store: SlotStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._left: dict[str, tuple[Rate, int, int]] = {}
        """Per tag: for which rate and period, how many starts of it are ours and not used."""
        self._gone: dict[str, tuple[Rate, int]] = {}
        """Per tag: the rate and period of which no share is left, so that the store need not be asked again."""
        self._swept: dict[str, float] = {}

    def take(self, tag: str, rate: Rate, most: int) -> int:
        """Use up to `most` starts of the current period; returns how many there are. Raises `StoreError`."""
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
        """Starts of the current period that were taken and not used after all."""
        rate, period, left = self._left[tag]
        self._left[tag] = (rate, period, left + starts)

    def _take_shares(self, tag: str, rate: Rate, period: int, wanted: int) -> int:
        self._sweep(tag, rate)
        shares, folder = _shares(rate), f"{_folder(tag)}{period}-{rate.starts}-{rate.seconds:g}/"
        gone = {entry.name for entry in self._store.list(folder)}
        names = [(f"{folder}{number}.json", size) for number, size in shares.items()]
        free = [(name, size) for name, size in names if name not in gone]
        random.shuffle(free)  # contenders had better not all begin with the first
        taken = 0
        for name, size in free:
            if taken >= wanted:
                break
            taken += size if self._store.put_if_absent(name, b"{}") else 0
        return taken

    def _sweep(self, tag: str, rate: Rate) -> None:
        """Remove what periods long over have left, now and then."""
        now = self._clock.monotonic()
        if now - self._swept.get(tag, -_SWEEP_SECONDS) < _SWEEP_SECONDS:
            return
        self._swept[tag] = now
        over = self._clock.now() - _KEEP_SECONDS
        for entry in list(self._store.list(_folder(tag))):
            period = re.match(_PERIOD, entry.name.removeprefix(_folder(tag)))  # else it is nothing of ours
            if period is not None and (int(period["number"]) + 1) * float(period["seconds"]) < over:
                self._store.delete(entry.name)


def _shares(rate: Rate) -> Mapping[int, int]:
    """The number of each share of a period, and how many starts it is good for."""
    count = min(rate.starts, MOST_SHARES)
    return {number: rate.starts // count + (number < rate.starts % count) for number in range(count)}


def _folder(tag: str) -> str:
    return f"rates/tag-{quote(tag, safe='')}/"
