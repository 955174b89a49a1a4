"""Many concurrent runs on two clusters that share all their keys: what is executed, what is visible.

`python -m benchmarks clusters` does the same on a larger scale.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.locks import RedisLockManager
from tests.locks.clusters import ManyRuns, dask_clusters
from tests.locks.drivers import LEASE_SECONDS, Scene
from tests.servers.redis import RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis", "distributed"), pytest.mark.untraced]

KEYS = 200
THREADS = 2
"""Per cluster."""
SLACK = 60.0
"""The delay that a busy machine may add to what is promised."""


@pytest.fixture
def runs(tmp_path: Path, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[ManyRuns]:
    scene = Scene(tmp_path, own_redis.url)
    for name, value in scene.environment.items():
        monkeypatch.setenv(name, value)  # for the workers, too
    monkeypatch.setenv("SHARED_SECONDS", "0.02")
    with dask_clusters(tmp_path, 2, threads=THREADS) as clusters:
        yield ManyRuns(scene, tmp_path, clusters, KEYS, THREADS)
        for driver in scene.drivers:
            driver.end()


def test_runs_on_two_clusters_compute_each_key_once(runs: ManyRuns) -> None:
    runs.begin(4)
    runs.end()
    assert runs.scene.executions() == {str(key): 1 for key in range(KEYS)}
    assert sum(answer["counts"]["executed"] for answer in runs.answers) == KEYS
    assert len(set(runs.answers[0]["result"].values())) == KEYS
    runs.check_results()


def test_killed_drivers_cost_no_more_than_what_they_had_in_flight(runs: ManyRuns) -> None:
    manager = RedisLockManager.from_url(runs.scene.locks)
    runs.begin(4)
    for done in (30, 70, 110):
        runs.kill_when(done)
    runs.end()
    print(f"{runs.executions} executions, {runs.in_flight} in flight when their drivers were killed, {runs.kills}")
    assert KEYS <= runs.executions <= KEYS + runs.in_flight
    runs.check_results()
    assert max(kill.longest for kill in runs.kills) < LEASE_SECONDS + 1 + SLACK
    deadline = time.monotonic() + 200
    while manager.ls():
        assert time.monotonic() < deadline, "locks are left"
        time.sleep(0.1)
