"""The driver does not grow with results that it does not ask for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOTAL_BYTES = 400 * 2**20
LIMIT_MB = 50.0


@pytest.mark.slow
@pytest.mark.needs("distributed", "ray", "psutil")
@pytest.mark.parametrize("kind", ["plain", "cached"])
@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_results_that_only_workers_need_do_not_make_the_driver_grow(engine: str, kind: str, tmp_path: Path) -> None:
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"}
    environment["RAY_AUTH_TOKEN"] = os.urandom(16).hex()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", engine, str(TOTAL_BYTES), kind, str(tmp_path / "store")],
        cwd=ROOT,
        env=environment,
        text=True,
        capture_output=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) <= LIMIT_MB
