"""A process killed after each system call of publishing leaves an absent or complete result, and others continue."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are traced on Linux"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory if possible: a kill loses nothing that was written, synced or not."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


def test_a_writer_killed_at_any_system_call_leaves_nothing_or_a_whole_result(folder: Path) -> None:
    program = str(Path(__file__).with_name("programs_killed.py"))
    # Tracing the lines of a process that is stopped at each of its system calls would take hours.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, program, str(folder)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    kills = [json.loads(line) for line in done.stdout.splitlines()]
    scenes = {name: list(them) for name, them in itertools.groupby(kills, key=lambda kill: kill["scene"])}
    assert list(scenes) == [
        "small, into an empty folder",
        "large, into an empty folder",
        "large, in the place of another",
    ]
    for name, them in scenes.items():
        assert len(them) > 30, name
        assert [kill["calls"] for kill in them] == list(range(len(them)))
        assert {kill["problems"] for kill in them} == {0}
        # The next writer publishes, and the collection keeps only that result's file.
        assert {kill["after"] for kill in them} == {"again"}
        assert {kill["payloads"] for kill in them} == {1}
        # Only in this order: the old result, nothing while the old one is closed, the new one.
        stages = [stage for stage, _ in itertools.groupby(kill["before"] for kill in them)]
        if name == "large, in the place of another":
            assert stages == ["older", "redirected", "large"]
        else:
            assert stages == ["never", name.partition(",")[0]]
