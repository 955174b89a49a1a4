"""Single flight over clusters: many runs on several clusters of Dask want the same keys, with and without kills.

PENSTOCK_BENCH_RAYS=2 puts Rays in the place of so many clusters, one for each run, in the measurement without kills.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import Figure
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


def run() -> Iterator[Figure]:
    """Every figure; raises if a key has two results, or runs got different ones."""
    yield from undisturbed()
    yield from with_kills()


def undisturbed() -> Iterator[Figure]:
    with _runs(CLUSTERS - RAYS) as runs:
        runs.runners += ["ray?workers=1"] * RAYS
        runs.begin(RUNS)
        runs.end()
        runs.check_results()
        kinds = f"{CLUSTERS - RAYS} clusters of Dask" + (f" and {RAYS} Rays" if RAYS else "")
        yield Figure("seconds", f"{RUNS} runs on {kinds}, {KEYS:,} keys of 20 ms", runs.seconds, "s")
        yield Figure("executions", "  executions", runs.executions, promise=KEYS)
        yield Figure("wait", "  a call waited for another run, at most", runs.longest_wait, "s")


def with_kills() -> Iterator[Figure]:
    with _runs(CLUSTERS) as runs:
        runs.begin(RUNS)
        for number in range(KILLS):
            runs.kill_when((number + 1) * KEYS // (KILLS + 2))
        runs.end()
        runs.check_results()
        longest, held = max(kill.longest for kill in runs.kills), sum(kill.held for kill in runs.kills)
        yield Figure("kills.seconds", f"the same, {KILLS} drivers killed and begun again", runs.seconds, "s")
        yield Figure("kills.held", "  keys that they held, without a result yet", held, better="beside")
        yield Figure("kills.executions", "  executions", runs.executions, promise=KEYS + runs.in_flight)
        what = "  what a killed driver held was free again, at most"
        yield Figure("kills.free", what, longest, "s", promise=LEASE_SECONDS + 1)


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
