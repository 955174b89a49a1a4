"""Benchmark figures are stored as measured, compared between versions, and written into the README."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").exists(), reason="an installed wheel has no benchmarks")
figures: Any = pytest.importorskip("benchmarks.figures") if (ROOT / "benchmarks").exists() else None


def samples(*values: float, name: str = "a", better: str = "lower", cpu: float | None = None) -> list[Any]:
    """Return samples of one figure."""
    return [figures.Figure(name, "what", value, "s", better, None, value, value, cpu, cpu) for value in values]


def compared(other: list[Any], this: list[Any]) -> Any:
    from benchmarks import comparing

    def sample(figure: Any) -> Any:
        return figures.Measured("title", (figure,), "machine", "now", 1.0, (0.0, 0.0))

    pairs = [(sample(a), sample(b)) for a, b in zip(other, this, strict=True)]
    return list(comparing._compared(pairs))


def test_the_readme_has_the_stored_figures_of_this_version() -> None:
    from benchmarks import readme

    assert readme.is_current(), "run `python -m benchmarks readme`"


def test_slower_in_every_sample_is_worse() -> None:
    (found,) = compared(samples(1.0, 1.2, 1.1), samples(1.1, 1.3, 1.25))
    assert found.worse
    assert found.value.best == pytest.approx(1.1)


def test_one_slow_sample_is_noise() -> None:
    (found,) = compared(samples(1.0, 1.0, 1.0), samples(1.0, 9.0, 1.01))
    assert not found.worse


def test_more_processor_time_is_worse_however_long_it_waits() -> None:
    (found,) = compared(samples(1.0, 1.0, 1.0, cpu=0.1), samples(1.0, 1.0, 1.0, cpu=0.2))
    assert found.worse


def test_less_is_worse_where_more_is_better() -> None:
    (found,) = compared(samples(90, 91, 92, better="higher"), samples(80, 81, 82, better="higher"))
    assert found.worse
    (found,) = compared(samples(80, 81, 82, better="higher"), samples(90, 91, 92, better="higher"))
    assert not found.worse


def test_a_new_cost_is_worse_and_a_peer_never_is() -> None:
    (found,) = compared(samples(0.0, 0.0), samples(0.0, 0.0))
    assert not found.worse
    (found,) = compared(samples(0.0, 0.0), samples(1.0, 1.0))
    assert found.worse
    (found,) = compared(samples(1.0, 1.0, better="beside"), samples(2.0, 2.0, better="beside"))
    assert not found.worse


def test_a_figure_that_one_version_lacks_is_not_compared() -> None:
    assert compared(samples(1.0), samples(1.0, name="new")) == []


def test_failed_measurements_are_reported_beside_the_others(tmp_path: Path) -> None:
    def run() -> Iterator[Any]:
        yield from samples(1.0)
        raise ImportError("no engine here")

    found = figures.measured("title", run)
    assert [figure.name for figure in found.figures] == ["a"]
    assert found.failed == "ImportError: no engine here"


def test_storing_figures_keeps_the_others_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "results" / "1.json"
    one, other = (figures.measured("title", lambda name=name: samples(1.5, name=name)) for name in "ab")
    figures.to_json({"one": one}, file)
    figures.to_json({"other": other}, file)
    kept = figures.from_json(file)
    assert [kept[name].figures for name in ("one", "other")] == [one.figures, other.figures]


def test_a_promise_is_kept_up_to_its_bound() -> None:
    at_most = [figures.Figure("a", "what", value, promise=1.0).kept for value in (0.5, 1.0, 1.1)]
    at_least = [figures.Figure("a", "what", value, better="higher", promise=1.0).kept for value in (0.5, 1.0, 1.1)]
    assert (at_most, at_least) == ([True, True, False], [False, True, True])
    assert figures.Figure("a", "what", 1.0).kept is None


def test_a_figure_without_waiting_counts_processor_time() -> None:
    spent = figures.Spent((3.0, 2.0, 4.0), (0.5, 0.6, 0.7))
    on_the_wall, busy = (
        figures.timed("a", "what", spent, count=2, unit="ms", processor=each) for each in (False, True)
    )
    assert (on_the_wall.value, on_the_wall.wall_median) == (1000, 1500)
    assert (busy.value, busy.wall, busy.cpu_median) == (250, 1000, 300)
