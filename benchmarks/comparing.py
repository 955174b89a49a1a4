"""Figures of two checkouts, taken in turn on one machine: what got worse, and is it more than noise?

The benchmarks are this checkout's for both, only the package differs. Each sample is a process of its own, and the two
take turns, so whatever else the machine does meets both. A figure is called worse if it is by more than 5 % in the
median of all pairs of samples and in the best of all samples too: noise seldom moves both. Of times the processor's
count as well, which other programs disturb the least.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import statistics
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.figures import Figure, Measured, machine, told
from benchmarks.sampling import ROOT, sample

ALLOWED = 1.05


@dataclass(frozen=True)
class Ratio:
    """How much worse this checkout is than the other, of one kind of value: 1 is as good, 2 takes twice as much."""

    median: float
    best: float

    @property
    def worse(self) -> bool:
        return min(self.median, self.best) > ALLOWED


@dataclass(frozen=True)
class Comparison:
    """One figure of both, from all samples."""

    name: str
    what: str
    unit: str
    other: float
    this: float
    value: Ratio
    cpu: Ratio | None
    """Of the processor's time, where it was measured."""
    beside: bool
    """A peer's figure: the same code on both sides, so it shows how much of all this is noise."""

    @property
    def worse(self) -> bool:
        return not self.beside and (self.value.worse or (self.cpu is not None and self.cpu.worse))


def compare(names: Iterable[str], against: Path, *, samples: int, json_file: Path | None = None) -> bool:
    """Print every figure of the measurements for both; returns whether any is worse."""
    print(f"{machine()}; load {os.getloadavg()[0]:.1f}. {samples} samples each, in turn. Ratios are this to the other,")
    print("turned so that more than 1 is worse: of medians, of the best, of the processor's medians and best.")
    worse, kept = False, {}
    with tempfile.TemporaryDirectory() as folder:
        roots = [_tree(Path(folder, side), package) for side, package in (("other", against), ("this", ROOT))]
        for name in names:
            pairs = []
            for number in range(samples):
                turn = roots if number % 2 == 0 else roots[::-1]
                taken = {root: sample(name, root) for root in turn}
                pairs.append((taken[roots[0]], taken[roots[1]]))
            compared = list(_compared(pairs))
            _show(name, pairs, compared)
            worse = worse or any(each.worse for each in compared)
            kept[name] = [[asdict(side) for side in pair] for pair in pairs]
    if json_file is not None:
        json_file.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return worse


def _tree(folder: Path, package: Path) -> Path:
    """A folder with one checkout's package and this one's benchmarks, as they are now: both may change meanwhile."""
    for source in (package / "penstock", ROOT / "benchmarks", ROOT / "tests"):
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder.resolve()


def _compared(pairs: Sequence[tuple[Measured, Measured]]) -> Iterable[Comparison]:
    """Of the figures that every sample has."""
    both = [tuple({figure.name: figure for figure in side.figures} for side in pair) for pair in pairs]
    for figure in pairs[0][1].figures:
        if all(figure.name in side for pair in both for side in pair):
            yield _comparison(figure, [(other[figure.name], this[figure.name]) for other, this in both])


def _comparison(figure: Figure, pairs: list[tuple[Figure, Figure]]) -> Comparison:
    higher = figure.better == "higher"
    bests = [(_or(other.wall, other.value), _or(this.wall, this.value)) for other, this in pairs]
    medians = [(_or(other.wall_median, other.value), _or(this.wall_median, this.value)) for other, this in pairs]
    with_cpu = [(other, this) for other, this in pairs if other.cpu is not None and this.cpu is not None]
    cpu = [(_or(other.cpu, 0), _or(this.cpu, 0)) for other, this in with_cpu]
    cpu_medians = [(_or(other.cpu_median, 0), _or(this.cpu_median, 0)) for other, this in with_cpu]
    return Comparison(
        figure.name,
        figure.what.strip(),
        figure.unit,
        statistics.median(other for other, _ in medians),
        statistics.median(this for _, this in medians),
        _ratio(medians, bests, higher=higher),
        _ratio(cpu_medians, cpu, higher=False) if cpu else None,
        figure.better == "beside",
    )


def _ratio(values: list[tuple[float, float]], bests: list[tuple[float, float]], *, higher: bool) -> Ratio:
    best = max if higher else min
    return Ratio(
        statistics.median(_by(other, this, higher=higher) for other, this in values),
        _by(best(other for other, _ in bests), best(this for _, this in bests), higher=higher),
    )


def _by(other: float, this: float, *, higher: bool) -> float:
    if other == this:
        return 1.0
    above, below = (other, this) if higher else (this, other)
    return above / below if below > 0 else math.inf


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _show(name: str, pairs: Sequence[tuple[Measured, Measured]], compared: list[Comparison]) -> None:
    loads = [load for pair in pairs for side in pair for load in side.load]
    print(f"\n{pairs[0][1].title}  (load {min(loads):.1f} to {max(loads):.1f})")
    print(f"  {'':<34} {'other':>12} {'this':>12}   median   best   cpu        best")
    for each in compared:
        ratios = [each.value, *([each.cpu] if each.cpu is not None else [])]
        shown = "  ".join(f"{ratio.median:>6.2f} {ratio.best:>6.2f}" for ratio in ratios)
        mark = "beside" if each.beside else "WORSE" if each.worse else ""
        print(
            f"  {f'{name}.{each.name}':<34} {told(each.other, each.unit):>12} {told(each.this, each.unit):>12}"
            f"   {shown:<30} {mark}".rstrip()
        )
    for side, word in enumerate(("the other", "this")):
        failed = sorted({pair[side].failed for pair in pairs if pair[side].failed})
        if failed:
            print(f"  skipped from there on, {word} cannot: {failed[0]}")
