"""Drivers in separate processes that share keys, and a count of what they executed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import penstock
from tests.locks import shared_work

PATIENCE = 240.0
"""The time that a test waits for what must happen, in seconds. Only reached if something is wrong."""


LEASE_SECONDS = 2


class Driver:
    """A process that runs `shared_work`."""

    def __init__(self, environment: dict[str, str], keys: int, shift: int = 0) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, shared_work.__file__, str(keys), str(shift)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(penstock.__file__).parents[1]), **environment},
        )
        assert "ready" in self.answer()

    def answer(self) -> dict[str, Any]:
        assert self.popen.stdout
        line = self.popen.stdout.readline()
        assert line, "the driver died"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def go(self) -> None:
        assert self.popen.stdin
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()

    def end(self) -> None:
        self.popen.kill()
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            assert pipe
            pipe.close()


class Scene:
    """A store, locks, and drivers that share both."""

    def __init__(self, folder: Path, locks: str) -> None:
        self.notes = folder / "notes"
        self.locks = locks
        self.environment = {
            "PENSTOCK_STORE": str(folder / "store"),
            "PENSTOCK_LOCKS": locks,
            "PENSTOCK_LEASE_SECONDS": str(LEASE_SECONDS),
            "SHARED_NOTES": str(self.notes),
        }
        self.drivers: list[Driver] = []

    def driver(self, keys: int, shift: int = 0, **environment: str) -> Driver:
        driver = Driver({**self.environment, **environment}, keys, shift)
        self.drivers.append(driver)
        return driver

    def executions(self) -> Counter[str]:
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return Counter(line.split()[0] for line in lines)

    def wait_for_executions(self, count: int) -> None:
        limit = time.monotonic() + PATIENCE
        while self.executions().total() < count:
            assert time.monotonic() < limit
            time.sleep(0.01)
