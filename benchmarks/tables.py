"""What a measurement found, as a line of a table beside its promise."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One figure. `promise` is empty where the figure is there for comparison."""

    what: str
    figure: str
    promise: str = ""
    kept: bool | None = None
    """None where nothing is promised."""


def show(title: str, lines: Sequence[Line]) -> None:
    """Print the lines of one measurement."""
    print(f"\n{title}")
    for line in lines:
        mark = {True: "kept", False: "MISSED", None: ""}[line.kept]
        print(f"  {line.what:<58} {line.figure:>16}  {line.promise:<12} {mark}".rstrip())


def at_most(what: str, value: float, limit: float, unit: str) -> Line:
    """A figure with a promised upper bound."""
    return Line(what, f"{value:,.2f} {unit}", f"<= {limit:g} {unit}", value <= limit)


def at_least(what: str, value: float, limit: float, unit: str) -> Line:
    """A figure with a promised lower bound."""
    return Line(what, f"{value:,.2f} {unit}", f">= {limit:g} {unit}", value >= limit)


def seconds(action: Callable[[], object], *, times: int = 3) -> float:
    """The median of several runs of one action, in seconds."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        action()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def paired(one: Callable[[], object], other: Callable[[], object], *, times: int = 5) -> tuple[float, float, float]:
    """Median seconds of both actions, run in turn, and the median of their ratios pair by pair.

    A machine whose speed drifts slows both of a pair, so the ratio holds where single times do not.
    """
    first, second = [], []
    for _ in range(times):
        first.append(seconds(one, times=1))
        second.append(seconds(other, times=1))
    ratios = [a / b for a, b in zip(first, second, strict=True)]
    return statistics.median(first), statistics.median(second), statistics.median(ratios)
