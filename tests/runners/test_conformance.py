"""The runners of this package, tested with the suite that is shipped for all of them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from penstock.runners import ProcessRunner, Runner, ThreadRunner
from penstock.testing.runners import RunnerTests
from penstock.testing.runners.kills import KillTests, children_named
from tests.amounts import amount

pytestmark = pytest.mark.untraced


class TestThreadRunner(RunnerTests):
    lends_workers = True

    def make_runner(self, workers: int) -> Runner:
        return ThreadRunner(workers)


class _WithProcesses:
    """All runs of a class start their workers from the same templates."""

    kept: Callable[[int], Runner]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _keep(cls) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            cls.kept = functools.cache(lambda workers: stack.enter_context(ProcessRunner(workers)))
            yield

    def make_runner(self, workers: int) -> Runner:
        return type(self).kept(workers)


@pytest.mark.slow  # each test starts its workers
class TestProcessRunner(_WithProcesses, RunnerTests):
    kills_workers = True
    lends_workers = True


@pytest.mark.needs("psutil")
class TestProcessRunnerUnderFire(_WithProcesses, KillTests):
    flows = amount(here=10, in_ci=20)

    def worker_pids(self) -> list[int]:
        import psutil

        templates = children_named("penstock.runners.local.template_main")
        found: list[Any] = []
        for template in templates:
            with contextlib.suppress(psutil.NoSuchProcess):
                found += psutil.Process(template).children()
        return [worker.pid for worker in found]
