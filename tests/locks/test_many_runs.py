"""Many runs on two clusters at once that share all their keys: what is executed, what is visible."""

from __future__ import annotations

import contextlib
import importlib
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.locks import RedisLockManager
from tests.locks.drivers import Driver, Scene
from tests.servers.redis import RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis", "distributed")]

KEYS = 200
THREADS = 2
"""Of each cluster."""
BUNDLE = 10
"""At most so many tasks of 20 ms travel together."""


@pytest.fixture
def scene(tmp_path: Path, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    scene = Scene(tmp_path, own_redis.url)
    for name, value in scene.environment.items():
        monkeypatch.setenv(name, value)  # for the workers as well
    monkeypatch.setenv("SHARED_SECONDS", "0.02")
    yield scene
    for driver in scene.drivers:
        driver.end()


@pytest.fixture
def clusters(scene: Scene, tmp_path: Path) -> Iterator[list[str]]:
    """The addresses of two clusters of Dask."""
    distributed = importlib.import_module("distributed")
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                distributed.LocalCluster(
                    n_workers=1,
                    threads_per_worker=THREADS,
                    dashboard_address="127.0.0.1:0",
                    local_directory=str(tmp_path / f"dask-{number}"),
                )
            ).scheduler_address
            for number in range(2)
        ]


def drivers_on(scene: Scene, clusters: list[str], count: int) -> list[Driver]:
    """So many drivers, in turn on each cluster, each beginning with other keys."""
    return [
        scene.driver(KEYS, shift=number * KEYS // count, PENSTOCK_RUNNER=f"dask+{clusters[number % len(clusters)]}")
        for number in range(count)
    ]


def visible(store: Path) -> dict[str, list[str]]:
    """The values of all records there are, by key."""
    found: dict[str, list[str]] = {}
    for path in store.glob("results/*/*/*.record.json"):
        found.setdefault(path.parent.name, []).append(json.dumps(json.loads(path.read_text()), sort_keys=True))
    return found


def test_runs_on_two_clusters_compute_each_key_once(scene: Scene, clusters: list[str], tmp_path: Path) -> None:
    drivers = drivers_on(scene, clusters, 4)
    for driver in drivers:
        driver.go()
    answers: list[dict[str, Any]] = [driver.answer() for driver in drivers]
    assert scene.executions() == {str(key): 1 for key in range(KEYS)}
    assert sum(answer["counts"]["executed"] for answer in answers) == KEYS
    for answer in answers:
        assert answer["result"] == answers[0]["result"]
    assert len(set(answers[0]["result"].values())) == KEYS
    records = visible(tmp_path / "store")
    assert len(records) == KEYS
    assert {len(of_one_key) for of_one_key in records.values()} == {1}


def test_killed_drivers_cost_no_more_than_what_they_had_in_flight(
    scene: Scene, clusters: list[str], tmp_path: Path
) -> None:
    manager = RedisLockManager.from_url(scene.locks)
    store = tmp_path / "store"
    drivers = drivers_on(scene, clusters, 4)
    for driver in drivers:
        driver.go()
    in_flight = 0
    for number, done in enumerate((30, 70, 110)):
        scene.wait_for_executions(done)
        victim = drivers[number]
        victim.popen.send_signal(signal.SIGKILL)
        victim.popen.wait()
        held = {h.key for h in manager.ls() if h.info["pid"] == str(victim.popen.pid)}
        # What it held and had not published was running on the cluster, or waited there in a bundle.
        in_flight += min(len(held - visible(store).keys()), THREADS * BUNDLE)
        drivers[number] = scene.driver(KEYS, shift=17 * number, PENSTOCK_RUNNER=f"dask+{clusters[number % 2]}")
        drivers[number].go()
    answers = [driver.answer() for driver in drivers]
    executed = scene.executions().total()
    print(f"{executed} executions, {in_flight} in flight when their drivers were killed")
    assert KEYS <= executed <= KEYS + in_flight
    for answer in answers:
        assert answer["result"] == answers[0]["result"]
    records = visible(store)
    assert len(records) == KEYS
    assert {len(of_one_key) for of_one_key in records.values()} == {1}
    deadline = time.monotonic() + 30
    while manager.ls():
        assert time.monotonic() < deadline, "locks are left"
        time.sleep(0.1)
