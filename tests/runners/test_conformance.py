"""The runners of this package, tested with the suite that is shipped for all of them."""

from __future__ import annotations

import pytest

from penstock.runners import ProcessRunner, Runner, ThreadRunner
from penstock.testing.runners import RunnerTests
from penstock.testing.runners.kills import KillTests, children_named

pytestmark = pytest.mark.untraced


class TestThreadRunner(RunnerTests):
    lends_workers = True

    def make_runner(self, workers: int) -> Runner:
        return ThreadRunner(workers)


@pytest.mark.slow  # each test starts its workers
class TestProcessRunner(RunnerTests):
    kills_workers = True
    lends_workers = True

    def make_runner(self, workers: int) -> Runner:
        return ProcessRunner(workers)


@pytest.mark.needs("psutil")
class TestProcessRunnerUnderFire(KillTests):
    flows = 6  # each starts its workers

    def make_runner(self, workers: int) -> Runner:
        return ProcessRunner(workers)

    def worker_pids(self) -> list[int]:
        return children_named("penstock.runners.local.process_main")
