"""The runners of this package against the suite that is shipped for all of them."""

from __future__ import annotations

import pytest

from penstock.runners import ProcessRunner, Runner, ThreadRunner
from penstock.testing.runners import RunnerTests


class TestThreadRunner(RunnerTests):
    def make_runner(self, workers: int) -> Runner:
        return ThreadRunner(workers)


@pytest.mark.slow  # each test starts its workers
class TestProcessRunner(RunnerTests):
    kills_workers = True

    def make_runner(self, workers: int) -> Runner:
        return ProcessRunner(workers)
