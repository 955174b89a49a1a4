"""The driver does not grow with results that it does not fetch, and only little with nodes."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from penstock import INPUTS, flow, load_settings, task
from penstock.runners import ThreadRunner
from tests.amounts import amount

pytestmark = pytest.mark.untraced

ROOT = Path(__file__).parents[2]
TOTAL_BYTES = amount(here=200, in_ci=400) * 2**20
LIMIT_MB = 50.0
PATIENCE = 600.0


@pytest.mark.slow
@pytest.mark.needs("distributed", "ray", "psutil")
@pytest.mark.parametrize("kind", [pytest.param("plain", marks=pytest.mark.in_ci), "cached"])
@pytest.mark.parametrize("engine", ["dask", pytest.param("ray", marks=pytest.mark.in_ci)])
def test_results_that_only_workers_need_do_not_make_the_driver_grow(engine: str, kind: str, tmp_path: Path) -> None:
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "PYTHONFAULTHANDLER": "1"}
    environment["RAY_AUTH_TOKEN"] = os.urandom(16).hex()
    command = [sys.executable, "-m", "benchmarks.memory", engine, str(TOTAL_BYTES), kind, str(tmp_path / "store")]
    driver = subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        said, errors = driver.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        driver.send_signal(signal.SIGABRT)  # it tells where its threads are
        said, errors = driver.communicate()
    assert driver.returncode == 0, errors
    assert float(said.split()[-1]) <= LIMIT_MB


NODE_BYTES = 1500


@pytest.mark.slow
def test_a_cached_node_takes_little_memory_in_runs_and_plans(tmp_path: Path) -> None:
    settings = load_settings(overrides={"store": str(tmp_path)})
    numbers = 1500

    @task(cache_policy=INPUTS)
    def part(n: int) -> int:
        return n

    def parts(count: int) -> int:
        futures = [part(n) for n in range(1000, 1000 + count)]
        return len(futures)

    bound = flow(parts).with_options(runner=ThreadRunner(2))
    bound.run_with({"count": 10}, settings=settings)
    bound.plan_with({"count": 10}, settings=settings)
    taken = {}
    for name, call in (("cold run", bound.run_with), ("plan", bound.plan_with), ("warm run", bound.run_with)):
        gc.collect()
        tracemalloc.start()
        try:
            kept: Any = call({"count": numbers}, settings=settings)
            gc.collect()
            taken[name] = tracemalloc.get_traced_memory()[0] / numbers
        finally:
            tracemalloc.stop()
        del kept
    assert {name: size for name, size in taken.items() if size > NODE_BYTES} == {}
