"""A place for the Rays that tests start: what they leave behind is seen here, and fails the tests."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

_TOKEN = os.urandom(16).hex()
"""One for all modules: a process reads it once, and then goes on using it."""


@pytest.fixture(scope="module")
def ray_environment() -> Iterator[None]:
    """Rays of this module tell nobody about themselves, serve who knows the token, and keep their files apart.

    When the module is over no process of theirs may be left, and the files are removed.
    """
    psutil: Any = importlib.import_module("psutil")
    before = set(psutil.Process().children(recursive=True))
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: the paths of sockets have a limit
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", _TOKEN)
        patch.setenv("RAY_TMPDIR", folder)
        patch.delenv("RAY_ADDRESS", raising=False)
        yield
    left = set(psutil.Process().children(recursive=True)) - before
    left |= {process for process in psutil.process_iter() if folder in " ".join(cmdline(process))}
    _, left = psutil.wait_procs(left, timeout=20)
    assert [cmdline(process) for process in left] == []
    shutil.rmtree(folder)


def cmdline(process: Any) -> list[str]:
    """The command line of a process, empty if it is gone."""
    psutil: Any = importlib.import_module("psutil")
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
