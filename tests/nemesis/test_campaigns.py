"""Real processes, servers and faults for a few seconds each, and controls with a deliberate mistake.

PENSTOCK_NEMESIS_SECONDS=600 makes them longer; PENSTOCK_NEMESIS_SEED repeats an order of faults.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nemesis.sabotage import SABOTAGES
from tests.servers.fixtures import Bucket

ROOT = Path(__file__).parents[2]
SECONDS = float(os.environ.get("PENSTOCK_NEMESIS_SECONDS", "5"))
SEED = os.environ.get("PENSTOCK_NEMESIS_SEED")
CONTROL_SECONDS = {"stays": 3.0}
"""A control usually ends within seconds, when its fault is found; this fault shows only at the end."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="clients are forked after packages were imported"),
    pytest.mark.untraced,
]


def campaign(folder: Path, combination: str, *options: str, seconds: float = SECONDS) -> tuple[int, str]:
    """Return the exit code of a campaign and its output."""
    command = [sys.executable, "-m", "tests.nemesis", combination, "--folder", str(folder), "--seconds", str(seconds)]
    command += ["--seed", SEED] if SEED else []
    process = subprocess.Popen(
        [*command, *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=seconds + 100)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)  # clients that are stopped, too
        except ProcessLookupError:
            pass
        process.wait()
    print(said)
    return process.returncode, said


@pytest.mark.timeout(SECONDS + 110)
@pytest.mark.parametrize("combination", [pytest.param("redis+local", marks=pytest.mark.needs("redis")), "folder+local"])
def test_every_promise_is_kept_with_a_local_store(combination: str, tmp_path: Path) -> None:
    code, said = campaign(tmp_path, combination)
    assert code == 0, said


@pytest.mark.timeout(SECONDS + 110)
@pytest.mark.parametrize(
    ("combination", "clocks"),
    [
        # Only Redis decides when a lease has ended.
        pytest.param("redis+local", ["right", "ahead", "behind", "fast"], marks=pytest.mark.needs("redis")),
        # Here the waiters decide, so clocks must run at about the same speed.
        ("folder+local", ["right", "ahead", "behind"]),
    ],
)
def test_wrong_clocks_break_no_promise(combination: str, clocks: list[str], tmp_path: Path) -> None:
    code, said = campaign(tmp_path, combination, "--clocks", *clocks, seconds=min(SECONDS, 4.0))
    assert code == 0, said


@pytest.mark.needs("s3fs", "boto3", "redis")
@pytest.mark.timeout(SECONDS + 115)
@pytest.mark.parametrize("combination", ["redis+s3", "store+s3"])
def test_every_promise_is_kept_with_a_store_in_a_bucket(combination: str, bucket: Bucket, tmp_path: Path) -> None:
    code, said = campaign(tmp_path, combination, "--store", f"s3://{bucket.name}/nemesis", seconds=SECONDS + 3)
    assert code == 0, said


@pytest.mark.needs("redis")
@pytest.mark.parametrize("sabotage", SABOTAGES)
def test_every_sabotage_is_found(sabotage: str, tmp_path: Path) -> None:
    code, said = campaign(tmp_path, "redis+local", "--sabotage", sabotage, seconds=CONTROL_SECONDS.get(sabotage, 60.0))
    assert code == 1
    assert any(line.startswith(f"{invariant}:") for invariant in SABOTAGES[sabotage] for line in said.splitlines()), (
        said
    )
