"""Many runs on several Dask clusters that share all their keys: started, killed on the way, and counted."""

from __future__ import annotations

import contextlib
import importlib
import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock.locks import RedisLockManager
from tests.locks.drivers import PATIENCE, Driver, Scene

BUNDLE = 10
"""The maximum number of 20 ms tasks in a bundle."""
LOOK_SECONDS = 0.02


@contextlib.contextmanager
def dask_clusters(folder: Path, count: int, *, threads: int) -> Iterator[list[str]]:
    """Start that many clusters with one worker process each, and return them as `PENSTOCK_RUNNER` addresses."""
    distributed = importlib.import_module("distributed")
    with contextlib.ExitStack() as stack:
        yield [
            "dask+"
            + stack.enter_context(
                distributed.LocalCluster(
                    n_workers=1,
                    threads_per_worker=threads,
                    dashboard_address="127.0.0.1:0",
                    local_directory=str(folder / f"dask-{number}"),
                )
            ).scheduler_address
            for number in range(count)
        ]


@dataclass(slots=True)
class Kill:
    """A driver that was killed, and what became of its locks."""

    held: int
    """Keys without a result."""
    longest: float
    """Seconds until the last of them was somebody else's or had a result."""


@dataclass(slots=True)
class ManyRuns:
    """Drivers on several clusters in turn that all need the same keys, each in a different order."""

    scene: Scene
    folder: Path
    runners: list[str]
    keys: int
    threads: int
    """Per cluster."""
    seconds: float = 0.0
    in_flight: int = 0
    """The maximum number of executions under way when their drivers were killed."""
    kills: list[Kill] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    _drivers: list[Driver] = field(default_factory=list)
    _begun: float = 0.0

    def begin(self, runs: int) -> None:
        self._drivers = [self._driver(number, number * self.keys // runs) for number in range(runs)]
        self._begun = time.monotonic()
        for driver in self._drivers:
            driver.go()

    def kill_when(self, executed: int) -> None:
        """Once that many tasks have run, kill the driver that holds the most keys, and start another in its place."""
        self.scene.wait_for_executions(executed)
        manager = RedisLockManager.from_url(self.scene.locks)
        holding = Counter(holder.info["pid"] for holder in manager.ls())
        victim = max(self._drivers, key=lambda driver: holding[str(driver.popen.pid)])
        number, pid = self._drivers.index(victim), str(victim.popen.pid)
        victim.popen.send_signal(signal.SIGKILL)
        victim.popen.wait()
        killed = time.monotonic()
        missing = {holder.key for holder in manager.ls() if holder.info["pid"] == pid} - self._published()
        # The keys that it held and had not published were running on the cluster, or waited there in a bundle.
        self.in_flight += min(len(missing), self.threads * BUNDLE)
        self.kills.append(Kill(len(missing), self._taken_over(missing, pid, manager) - killed))
        self._drivers[number] = self._driver(number, 17 * len(self.kills))
        self._drivers[number].go()

    def _taken_over(self, missing: set[str], pid: str, manager: RedisLockManager) -> float:
        """Return when the last of these keys had another holder or a result."""
        limit = time.monotonic() + PATIENCE
        while missing := missing - {h.key for h in manager.ls() if h.info["pid"] != pid} - self._published():
            assert time.monotonic() < limit, f"{len(missing)} keys of a killed driver are nobody's"
            time.sleep(LOOK_SECONDS)
        return time.monotonic()

    def _published(self) -> set[str]:
        return {path.parent.name for path in (self.folder / "store").glob("results/*/*/*.record.json")}

    def end(self) -> None:
        """Wait for all runs."""
        self.answers = [driver.answer() for driver in self._drivers]
        self.seconds = time.monotonic() - self._begun

    @property
    def executions(self) -> int:
        return self.scene.executions().total()

    @property
    def longest_wait(self) -> float:
        """Return the longest time that a node was parked, in seconds."""
        return max(float(answer["longest_wait"]) for answer in self.answers)

    def visible(self) -> dict[str, list[str]]:
        """Return the values of all records, by key."""
        found: dict[str, list[str]] = {}
        for path in (self.folder / "store").glob("results/*/*/*.record.json"):
            found.setdefault(path.parent.name, []).append(json.dumps(json.loads(path.read_text()), sort_keys=True))
        return found

    def check_results(self) -> None:
        """Check that each key has one result, which all runs got."""
        for answer in self.answers:
            assert answer["result"] == self.answers[0]["result"], "runs got different results"
        records = self.visible()
        assert len(records) == self.keys
        assert {len(of_one_key) for of_one_key in records.values()} == {1}, "a key has two results"

    def _driver(self, number: int, shift: int) -> Driver:
        runner = self.runners[number % len(self.runners)]
        return self.scene.driver(self.keys, shift=shift, PENSTOCK_RUNNER=runner)
