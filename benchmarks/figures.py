"""What a measurement found: figures with a name, a unit and a promise, as JSON files and as a table to read."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Better = Literal["lower", "higher", "beside"]
"""Which way is better. `beside`: there for comparison, as what a peer needs is."""

_UNITS = {"s": 1.0, "ms": 1e3, "µs": 1e6}


@dataclass(frozen=True)
class Spent:
    """Seconds that each of several runs of one action took: on the wall, and of the processor.

    The processor's are of all threads of this process and of the processes it started and saw end.
    """

    wall: tuple[float, ...]
    cpu: tuple[float, ...]

    @property
    def median(self) -> float:
        """On the wall."""
        return statistics.median(self.wall)


@dataclass(frozen=True)
class Figure:
    """One figure. Its name stays the same from version to version; `what` may be put better."""

    name: str
    what: str
    value: float
    unit: str = ""
    better: Better = "lower"
    promise: float | None = None
    """The worst value that is promised."""
    wall: float | None = None
    """Of times: the shortest of the repeats, on the wall."""
    wall_median: float | None = None
    cpu: float | None = None
    """Of times: the least of the repeats, of the processor."""
    cpu_median: float | None = None

    @property
    def kept(self) -> bool | None:
        """Whether the promise is; None where nothing is promised."""
        if self.promise is None:
            return None
        return self.value <= self.promise if self.better == "lower" else self.value >= self.promise


def timed(
    name: str, what: str, spent: Spent, *, count: int = 1, unit: str = "s", better: Better = "lower",
    promise: float | None = None, processor: bool = False,
) -> Figure:  # fmt: skip
    """A figure of what one of `count` things takes that an action does: the shortest, as other work only adds to it.

    `processor`: its time is the figure. It is for what waits for nothing, and is much the same on a busy machine.
    """

    def each(seconds: float) -> float:
        return seconds / count * _UNITS[unit]

    least, of_processor = each(min(spent.wall)), each(min(spent.cpu))
    return Figure(
        name, what, of_processor if processor else least, unit, better, promise, least,
        each(spent.median), of_processor, each(statistics.median(spent.cpu)),
    )  # fmt: skip


def spend(action: Callable[[], object], *, times: int = 3) -> Spent:
    """What several runs of one action take."""
    wall, cpu = [], []
    for _ in range(times):
        began, worked = time.perf_counter(), _processor_seconds()
        action()
        wall.append(time.perf_counter() - began)
        cpu.append(_processor_seconds() - worked)
    return Spent(tuple(wall), tuple(cpu))


def paired(one: Callable[[], object], other: Callable[[], object], *, times: int = 5) -> tuple[Spent, Spent, float]:
    """What both actions take, run in turn, and the median of their ratios pair by pair.

    A machine whose speed drifts slows both of a pair, so the ratio holds where single times do not.
    """
    pairs = [(spend(one, times=1), spend(other, times=1)) for _ in range(times)]
    first, second = (
        Spent(tuple(p[side].wall[0] for p in pairs), tuple(p[side].cpu[0] for p in pairs)) for side in (0, 1)
    )
    return first, second, statistics.median(a.median / b.median for a, b in pairs)


def _processor_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


# -- one run of a measurement -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """The figures of one measurement, and where and beside what they were taken."""

    title: str
    figures: tuple[Figure, ...]
    machine: str
    began: str
    seconds: float
    load: tuple[float, float]
    """Of the machine in the minute before and in the last minute of it, this measurement's own work included."""
    failed: str = ""
    """Why the figures after these are missing."""


def measured(title: str, figures: Callable[[], Iterable[Figure]]) -> Measured:
    """Take the figures. What is not there, such as an engine or a newer function, ends it with a word."""
    began, load, failed = time.time(), os.getloadavg()[0], ""
    found: list[Figure] = []
    try:
        found.extend(figures())
    except Exception as error:  # noqa: BLE001 - whatever went wrong is told beside what was measured before
        failed = f"{type(error).__name__}: {error}".splitlines()[0]
    return Measured(
        title, tuple(found), machine(), time.strftime("%Y-%m-%d %H:%M", time.gmtime(began)),
        time.time() - began, (load, os.getloadavg()[0]), failed,
    )  # fmt: skip


def machine() -> str:
    """What these figures are of."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"{platform.system()} {platform.machine()}"
    )


# -- as a table, as JSON ----------------------------------------------------------------------------------------------


def show(found: Measured) -> None:
    """Print the figures of one measurement."""
    print(f"\n{found.title}  ({found.machine}; load {found.load[0]:.1f} to {found.load[1]:.1f})")
    for figure in found.figures:
        sign = {"lower": "<=", "higher": ">=", "beside": ""}[figure.better]
        promise = f"{sign} {figure.promise:g} {figure.unit}" if figure.promise is not None else ""
        mark = {True: "kept", False: "MISSED", None: ""}[figure.kept]
        print(f"  {figure.what:<62} {told(figure.value, figure.unit):>14}  {promise:<12} {mark}".rstrip())
    if found.failed:
        print(f"  the rest was not measured: {found.failed}")


def told(value: float, unit: str = "") -> str:
    """A value with as many digits as one can use."""
    digits = 0 if value == int(value) or abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f} {unit}".rstrip()


def to_json(found: Mapping[str, Measured], path: Path) -> None:
    """Write measurements into a file; those that it has besides stay."""
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name, each in found.items():
        kept[name] = {**asdict(each), "figures": [_without_none(asdict(figure)) for figure in each.figures]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def from_json(path: Path) -> dict[str, Measured]:
    """The measurements in such a file."""
    return {
        name: Measured(**{**each, "figures": tuple(Figure(**figure) for figure in each["figures"])})
        for name, each in json.loads(path.read_text(encoding="utf-8")).items()
    }


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _rounded(value) for name, value in values.items() if value is not None}


def _rounded(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value
