"""Run the demo as a reader does, and check what it prints about reuse on every available runner."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.untraced,
    pytest.mark.needs("polars", "sklearn", "duckdb"),
]

ROOT = Path(__file__).parents[2]
CLEANING = {"read": 17, "clean": 8}
FEATURES = {"partition_features": 16, "customer_features": 2}


@dataclass
class Step:
    """One printed step: its summary, and per task name what was hit, pruned and executed."""

    text: str
    hit: dict[str, int]
    pruned: dict[str, int]
    executed: dict[str, int]
    reused: int
    ran: int


def parse(text: str) -> Step:
    rows = re.findall(r"^   (\w+) +(\d+|\.) +(\d+|\.) +(\d+|\.)$", text, re.MULTILINE)
    hit, pruned, executed = ({row[0]: int(row[column]) for row in rows if row[column] != "."} for column in (1, 2, 3))
    summary = re.search(r"^   reused (\d+), ran (\d+), [\d.]+ s$", text, re.MULTILINE)
    assert summary, f"no summary in\n{text}"
    return Step(text, hit, pruned, executed, int(summary[1]), int(summary[2]))


@pytest.fixture(scope="module", params=["threads", pytest.param("processes", marks=pytest.mark.evidence)])
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """Return the printed text of each numbered step; 0 is the heading."""
    folder = tmp_path_factory.mktemp(f"demo-{request.param}")
    command = [sys.executable, "-m", "examples.tpch.demo", "--runner", request.param, "--scale", "0.01"]
    command += ["--data", str(folder / "tables"), "--store", str(folder / "store")]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONWARNINGS": "error::ResourceWarning"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    parts = re.split(r"^(\d)  ", done.stdout, flags=re.MULTILINE)
    return {0: parts[0]} | {int(number): text for number, text in zip(parts[1::2], parts[2::2], strict=True)}


@pytest.fixture(scope="module")
def steps(story: dict[int, str]) -> dict[int, Step]:
    return {number: parse(story[number]) for number in range(1, 7)}


def test_the_first_run_computes_every_task_and_reuses_none(steps: dict[int, Step]) -> None:
    cold = steps[1]
    assert cold.reused == 0
    assert cold.executed.items() >= (CLEANING | FEATURES).items()
    assert cold.ran == sum(cold.executed.values())


def test_the_second_pipeline_reuses_the_features_of_the_first(steps: dict[int, Step]) -> None:
    forecast = steps[2]
    assert not forecast.executed.keys() & (CLEANING | FEATURES).keys()
    assert forecast.hit["customer_features"] == 2
    assert forecast.executed["train_forecast"] == 1


@pytest.mark.parametrize("number", [3, 4], ids=["again", "moved data"])
def test_a_run_with_nothing_new_looks_up_its_two_outputs_and_runs_nothing(steps: dict[int, Step], number: int) -> None:
    assert steps[number].ran == 0
    assert steps[number].hit == {"evaluate_churn": 1, "evaluate_forecast": 1}
    assert steps[number].pruned.items() >= (CLEANING | FEATURES).items()


def test_a_new_definition_runs_only_what_depends_on_it(steps: dict[int, Step]) -> None:
    edited = steps[5]
    assert edited.executed.items() >= FEATURES.items()
    assert edited.executed.items() >= {"train_churn": 1, "train_forecast": 1}.items()
    assert not edited.executed.keys() & (CLEANING.keys() | {"active_customers", "revenue_between"})


def test_after_a_refactoring_only_the_edited_task_runs(steps: dict[int, Step]) -> None:
    assert steps[6].executed == {"clean": 8}


def test_the_metrics_do_not_depend_on_how_they_were_computed(steps: dict[int, Step]) -> None:
    def metrics(*numbers: int) -> list[str]:
        return [
            line
            for number in numbers
            for line in steps[number].text.splitlines()
            if "customers" in line and "," in line
        ]

    assert len(metrics(1, 2)) == 2
    assert metrics(1, 2) == metrics(3) == metrics(4)
    assert metrics(5) == metrics(6) != metrics(4)


def test_the_feature_table_can_be_read_without_penstock(story: dict[int, str]) -> None:
    assert re.search(r"customer_features.*\n.*\.parquet$", story[7], re.MULTILINE)
    rows = re.findall(r"^   [A-Z]+ +(\d+) +[\d,]+ +[\d.]+ %$", story[7], re.MULTILINE)
    assert len(rows) == 5
    assert 900 < sum(map(int, rows)) <= 1000


def test_the_output_fits_a_terminal_of_80_columns(story: dict[int, str]) -> None:
    """Lines with paths are exempt."""
    too_long = [line for text in story.values() for line in text.splitlines() if len(line) > 80 and "/" not in line]
    assert too_long == []


@pytest.mark.needs("ray", "distributed")
@pytest.mark.in_ci
@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_a_step_runs_on_the_requested_engine(runner: str, tmp_path: Path) -> None:
    def step() -> Step:
        command = [sys.executable, "-m", "examples.tpch.demo", "--step", "churn", "--runner", runner]
        command += ["--scale", "0.01", "--data", str(tmp_path / "tables"), "--store", str(tmp_path / "store")]
        environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": str(rays)}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return parse(done.stdout)

    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as rays:  # short: Ray's sockets have long paths
        cold, warm = step(), step()
    assert cold.executed.items() >= (CLEANING | FEATURES).items()
    assert (warm.ran, warm.hit) == (0, {"evaluate_churn": 1})
