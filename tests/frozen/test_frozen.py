"""This version finds all results of an earlier version and executes nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.digests.python import digest
from tests.frozen import flows

FOLDER = Path(__file__).parent


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, because reading writes a log into the store."""
    shutil.copytree(FOLDER / "store", tmp_path / "store")
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(FOLDER)
    flows.RAN.clear()
    return tmp_path / "store"


@pytest.mark.needs("numpy", "pandas", "polars")
@pytest.mark.usefixtures("store")
def test_every_result_of_the_frozen_store_is_a_hit_with_the_same_value() -> None:
    run = flows.everything.run(5, "files")
    assert flows.RAN == []
    assert run.counts["executed"] == run.counts["miss"] == 0
    expected = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))["values"]
    assert {name: digest(value) for name, value in run.result().items()} == expected


@pytest.mark.needs("numpy", "pandas", "polars")
@pytest.mark.usefixtures("store")
def test_a_plan_for_the_frozen_store_has_nothing_to_run() -> None:
    counts = flows.everything.plan(5, "files").counts
    assert counts["miss"] == 0
    assert counts["hit"] >= 30


@pytest.mark.slow
def test_the_frozen_script_finds_its_results(store: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parents[1]), "PENSTOCK_STORE": str(store)}
    said = subprocess.run([sys.executable, "script.py"], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == [json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))["script"]]


def test_the_frozen_store_stays_small() -> None:
    assert sum(file.stat().st_size for file in (FOLDER / "store").rglob("*") if file.is_file()) < 300_000
