"""Single flight over clusters: many runs on several clusters of Dask want the same keys, with and without kills.

PENSTOCK_BENCH_RAYS=2 puts Rays in the place of so many clusters, one for each run, in the measurement without kills.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.tables import Line, at_most
from tests.locks.clusters import ManyRuns, dask_clusters
from tests.locks.drivers import LEASE_SECONDS, Scene
from tests.servers.redis import running

CLUSTERS = 4
RUNS = 8
KEYS = 1_000
THREADS = 1
"""Of each cluster."""
KILLS = 6
RAYS = int(os.environ.get("PENSTOCK_BENCH_RAYS", "0"))
TASK_SECONDS = "0.02"


def run() -> list[Line]:
    """Every figure; raises if a key has two results, or runs got different ones."""
    return [*undisturbed(), *with_kills()]


def undisturbed() -> list[Line]:
    with _runs(CLUSTERS - RAYS) as runs:
        runs.runners += ["ray?workers=1"] * RAYS
        runs.begin(RUNS)
        runs.end()
        runs.check_results()
        kinds = f"{CLUSTERS - RAYS} clusters of Dask" + (f" and {RAYS} Rays" if RAYS else "")
        return [
            Line(f"{RUNS} runs on {kinds}, {KEYS:,} keys of 20 ms", f"{runs.seconds:.1f} s"),
            _exactly("  executions", runs.executions, KEYS),
            Line("  a call waited for another run, at most", f"{runs.longest_wait:.2f} s"),
        ]


def with_kills() -> list[Line]:
    with _runs(CLUSTERS) as runs:
        runs.begin(RUNS)
        for number in range(KILLS):
            runs.kill_when((number + 1) * KEYS // (KILLS + 2))
        runs.end()
        runs.check_results()
        longest, held = max(kill.longest for kill in runs.kills), [kill.held for kill in runs.kills]
        return [
            Line(f"the same, {KILLS} drivers killed and begun again", f"{runs.seconds:.1f} s"),
            Line("  keys that they held, without a result yet", ", ".join(map(str, held))),
            at_most("  executions", runs.executions, KEYS + runs.in_flight, ""),
            at_most("  what a killed driver held was free again, at most", longest, LEASE_SECONDS + 1, "s"),
        ]


def _exactly(what: str, value: int, wanted: int) -> Line:
    return Line(what, f"{value:,}", f"= {wanted:,}", value == wanted)


@contextmanager
def _runs(clusters: int) -> Iterator[ManyRuns]:
    with tempfile.TemporaryDirectory(prefix="penstock-clusters-") as name, running() as server:
        folder = Path(name)
        scene = Scene(folder, server.url)
        before = dict(os.environ)
        os.environ.update({**scene.environment, "SHARED_SECONDS": TASK_SECONDS})  # for the workers as well
        try:
            with dask_clusters(folder, clusters, threads=THREADS) as runners:
                yield ManyRuns(scene, folder, runners, KEYS, THREADS)
                for driver in scene.drivers:
                    driver.end()
        finally:
            os.environ.clear()
            os.environ.update(before)
