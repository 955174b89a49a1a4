"""What the shipped suites report to their subclasses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from penstock.testing.locks.suite import LockManagerTests
from penstock.testing.runners.kills import KillTests
from penstock.testing.runners.suite import RunnerTests
from penstock.testing.stores.suite import StoreTests


@pytest.mark.parametrize(
    ("suite", "needed"),
    [
        (StoreTests, "make_store, raw_get, raw_put"),
        (LockManagerTests, "make_manager"),
        (RunnerTests, "make_runner"),
        (KillTests, "make_runner, worker_pids"),
    ],
)
def test_a_subclass_that_overrides_nothing_is_told_what_it_must(suite: type, needed: str) -> None:
    with pytest.raises(pytest.UsageError) as caught:
        type("TestMine", (suite,), {})
    first, *methods = str(caught.value).splitlines()
    assert first == f"TestMine must override {needed}:"
    assert [line.split(":")[0].strip() for line in methods] == needed.split(", ")
    assert all(line.split(":")[1].strip().startswith(("Return", "Write", "Read")) for line in methods)


def test_a_base_of_several_suites_can_leave_methods_to_them() -> None:
    def nothing(*_: Any) -> None:
        return None

    base = type("_OverMemory", (StoreTests,), {"raw_put": nothing, "raw_get": nothing})
    type("TestMine", (base,), {"make_store": nothing})
    with pytest.raises(pytest.UsageError, match="TestOther must override make_store:"):
        type("TestOther", (base,), {})


@pytest.mark.slow
def test_pytest_names_what_is_missing_once(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "from penstock.testing.locks.suite import LockManagerTests\nclass TestMine(LockManagerTests): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "TestMine must override make_manager:" in done.stdout
    assert "make_manager: Return a manager with unused locks." in done.stdout
    assert "1 error" in done.stdout
