"""Warm runs: planning cached nodes, look-ups and round trips, and what peers need for the same."""

from __future__ import annotations

import tempfile
from pathlib import Path

import joblib

from benchmarks.tables import Line, at_most, seconds
from penstock import INPUTS, TASK_SOURCE, flow, load_settings, task
from penstock.environments import Environment

NODES = 10_000


@task(cache_policy=INPUTS + TASK_SOURCE)
def small(x: int) -> int:
    return x + 1


@task(cache_policy=INPUTS + TASK_SOURCE)
def total(xs: list[int]) -> int:
    return sum(xs)


@flow
def many(n: int) -> None:
    for i in range(n):
        small(i)


@flow
def reduced(n: int) -> int:
    return total([small(i) for i in range(n)])


def plain(x: int) -> int:
    return x + 1


def run() -> list[Line]:
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(overrides={"store": f"{folder}/store"})
        many.run_with({"n": NODES}, settings=settings).result()
        reduced.run_with({"n": 1_000}, settings=settings).result()
        planned = seconds(lambda: many.plan_with({"n": NODES}, settings=settings))
        warm = seconds(lambda: many.run_with({"n": NODES}, settings=settings).result())
        again = many.run_with({"n": NODES}, settings=settings)
        one = reduced.run_with({"n": 1_000}, settings=settings)
        lines = [
            at_most(f"plan of {NODES:,} cached nodes, tracing included", planned, 0.5, "s"),
            Line(f"run of {NODES:,} cached nodes, record and log included", f"{warm:.2f} s"),
            Line("  tasks submitted", f"{again.counts['executed']}", "= 0", again.counts["executed"] == 0),
            Line("  look-ups / rounds of look-ups", f"{again.stats['lookups']:,} / {again.stats['rounds']}"),
            Line(
                "1,000 nodes into one result, warm: look-ups",
                f"{one.stats['lookups']}",
                "= 1 per output",
                one.stats["lookups"] == 1,
            ),
            Line("  round trips to the store", f"{_round_trips(settings)}"),
        ]
        return lines + _joblib(Path(folder) / "joblib", warm)


def _round_trips(settings: object) -> int:
    """Of the one look-up: the recipe, then the record."""
    from penstock.graph.planning import Planner
    from penstock.runners.lookups import Lookups
    from penstock.settings import in_force

    environment = Environment(settings)  # type: ignore[arg-type]
    with in_force(environment.settings):
        graph = reduced.trace(1_000)
    Lookups(graph, environment.results, environment.clock).drive(Planner(graph), graph.targets())
    return environment.results().counters.round_trips


def _joblib(folder: Path, ours: float) -> list[Line]:
    cached = joblib.Memory(folder, verbose=0).cache(plain)
    for i in range(NODES // 10):
        cached(i)
    taken = seconds(lambda: [cached(i) for i in range(NODES // 10)]) / (NODES // 10)
    return [
        Line("joblib.Memory, one cached call", f"{taken * 1e6:.1f} µs"),
        Line("one cached node of the run above", f"{ours / NODES * 1e6:.1f} µs"),
    ]
