"""Figures are told as they were measured: kept, compared with another version, and written into the README."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").exists(), reason="an installed wheel has no benchmarks")
figures: Any = pytest.importorskip("benchmarks.figures") if (ROOT / "benchmarks").exists() else None


def of(*values: float, name: str = "a", better: str = "lower", cpu: float | None = None) -> list[Any]:
    """Samples of one figure."""
    return [figures.Figure(name, "what", value, "s", better, None, value, value, cpu, cpu) for value in values]


def compared(other: list[Any], this: list[Any]) -> Any:
    from benchmarks import comparing

    def sample(figure: Any) -> Any:
        return figures.Measured("title", (figure,), "machine", "now", 1.0, (0.0, 0.0))

    pairs = [(sample(a), sample(b)) for a, b in zip(other, this, strict=True)]
    return list(comparing._compared(pairs))


def test_the_readme_has_the_figures_that_are_kept_for_this_version() -> None:
    from benchmarks import readme

    assert readme.is_current(), "run `python -m benchmarks readme`"


def test_what_is_slower_in_every_sample_is_worse() -> None:
    (found,) = compared(of(1.0, 1.2, 1.1), of(1.1, 1.3, 1.25))
    assert found.worse
    assert found.value.best == pytest.approx(1.1)


def test_one_slow_sample_is_noise() -> None:
    (found,) = compared(of(1.0, 1.0, 1.0), of(1.0, 9.0, 1.01))
    assert not found.worse


def test_what_costs_the_processor_more_is_worse_however_long_it_waits() -> None:
    (found,) = compared(of(1.0, 1.0, 1.0, cpu=0.1), of(1.0, 1.0, 1.0, cpu=0.2))
    assert found.worse


def test_where_more_is_better_less_is_worse() -> None:
    (found,) = compared(of(90, 91, 92, better="higher"), of(80, 81, 82, better="higher"))
    assert found.worse
    (found,) = compared(of(80, 81, 82, better="higher"), of(90, 91, 92, better="higher"))
    assert not found.worse


def test_something_where_there_was_nothing_is_worse_and_a_peer_never_is() -> None:
    (found,) = compared(of(0.0, 0.0), of(0.0, 0.0))
    assert not found.worse
    (found,) = compared(of(0.0, 0.0), of(1.0, 1.0))
    assert found.worse
    (found,) = compared(of(1.0, 1.0, better="beside"), of(2.0, 2.0, better="beside"))
    assert not found.worse


def test_a_figure_that_one_version_lacks_is_not_compared() -> None:
    assert compared(of(1.0), of(1.0, name="new")) == []


def test_what_cannot_be_measured_is_told_beside_what_was(tmp_path: Path) -> None:
    def run() -> Iterator[Any]:
        yield from of(1.0)
        raise ImportError("no engine here")

    found = figures.measured("title", run)
    assert [figure.name for figure in found.figures] == ["a"]
    assert found.failed == "ImportError: no engine here"


def test_kept_figures_come_back_and_others_of_the_file_stay(tmp_path: Path) -> None:
    file = tmp_path / "results" / "1.json"
    one, other = (figures.measured("title", lambda name=name: of(1.5, name=name)) for name in "ab")
    figures.to_json({"one": one}, file)
    figures.to_json({"other": other}, file)
    kept = figures.from_json(file)
    assert [kept[name].figures for name in ("one", "other")] == [one.figures, other.figures]


def test_a_promise_is_kept_up_to_its_bound() -> None:
    at_most = [figures.Figure("a", "what", value, promise=1.0).kept for value in (0.5, 1.0, 1.1)]
    at_least = [figures.Figure("a", "what", value, better="higher", promise=1.0).kept for value in (0.5, 1.0, 1.1)]
    assert (at_most, at_least) == ([True, True, False], [False, True, True])
    assert figures.Figure("a", "what", 1.0).kept is None


def test_the_figure_of_what_waits_for_nothing_is_the_processors() -> None:
    spent = figures.Spent((3.0, 2.0, 4.0), (0.5, 0.6, 0.7))
    on_the_wall, busy = (
        figures.timed("a", "what", spent, count=2, unit="ms", processor=each) for each in (False, True)
    )
    assert (on_the_wall.value, on_the_wall.wall_median) == (1000, 1500)
    assert (busy.value, busy.wall, busy.cpu_median) == (250, 1000, 300)
