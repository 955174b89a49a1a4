"""Packages that are unpacked, not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import packages
from tests.servers.packages import Unavailable, Unpacked, unpacked, unpacked_or_failed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "darwin", reason="these are Debian's"),
]


def test_a_program_of_an_unpacked_package_runs() -> None:
    redis = unpacked_or_failed("redis-server")
    said = subprocess.run(
        [redis.program("redis-server"), "--version"],
        env=redis.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.startswith("Redis server")


def test_a_second_request_runs_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    first = unpacked("redis-server")
    monkeypatch.setattr(packages, "_run", None)
    assert unpacked("redis-server") == first


def test_the_error_for_an_unavailable_package_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(packages, "_run", lambda *_: (_ for _ in ()).throw(Unavailable("no-such-package: not found")))
    with pytest.raises(Unavailable, match="no-such-package"):
        unpacked("no-such-package")
    assert [path.name for path in tmp_path.rglob("*") if path.name.startswith(("no-such", "unfinished"))] == [
        path.name for path in tmp_path.rglob("*.lock") if path.name.startswith("no-such")
    ]


def test_the_error_for_a_missing_program_names_it(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no-such-program"):
        Unpacked(tmp_path).program("no-such-program")
