"""Warm runs: planning cached nodes, look-ups and round trips, and what peers need for the same."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import joblib

from benchmarks.figures import Figure, spend, timed
from penstock import INPUTS, TASK_SOURCE, Settings, flow, load_settings, task
from penstock.environments import Environment

NODES = 10_000
CALLS = 1_000


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


def run() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(overrides={"store": f"{folder}/store"})
        many.run_with({"n": NODES}, settings=settings).result()
        reduced.run_with({"n": 1_000}, settings=settings).result()
        planned = spend(lambda: many.plan_with({"n": NODES}, settings=settings), times=5)
        yield timed("plan", f"plan of {NODES:,} cached nodes, tracing included", planned, promise=0.5, processor=True)
        warm = spend(lambda: many.run_with({"n": NODES}, settings=settings).result(), times=5)
        yield timed("run", f"run of {NODES:,} cached nodes, record and log included", warm, processor=True)
        yield timed("node", "  one of them", warm, count=NODES, unit="µs", processor=True)
        again = many.run_with({"n": NODES}, settings=settings)
        yield Figure("run.executed", "  tasks submitted", again.counts["executed"], promise=0)
        yield Figure("run.lookups", "  look-ups", again.stats["lookups"])
        yield Figure("run.rounds", "  rounds of look-ups", again.stats["rounds"])
        one = reduced.run_with({"n": 1_000}, settings=settings)
        yield Figure("fan_in.lookups", "1,000 nodes into one result, warm: look-ups", one.stats["lookups"], promise=1)
        yield Figure("fan_in.executed", "  tasks submitted", one.counts["executed"], promise=0)
        yield Figure("fan_in.trips", "  round trips to the store", _round_trips(settings))
        cached = joblib.Memory(f"{folder}/joblib", verbose=0).cache(plain)
        for i in range(CALLS):
            cached(i)
        peer = spend(lambda: [cached(i) for i in range(CALLS)])
        yield timed(
            "joblib", "joblib.Memory, one cached call", peer, count=CALLS, unit="µs", better="beside", processor=True
        )


def _round_trips(settings: Settings) -> int:
    """Of the one look-up: the recipe, then the record."""
    from penstock.driver.effects.lookups import Lookups
    from penstock.graph.planning import Planner
    from penstock.settings import in_force

    environment = Environment(settings)
    with in_force(environment.settings):
        graph = reduced.trace(1_000)
    Lookups(graph, environment.results, environment.clock).drive(Planner(graph), graph.targets())
    return environment.results().counters.round_trips
