"""DaskRunner: the conformance suite on clusters of processes and of threads, and what is Dask's own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from penstock.runners import DaskRunner, Runner
from penstock.testing.runners import RunnerTests

pytestmark = [pytest.mark.slow, pytest.mark.needs("distributed")]


@pytest.fixture(scope="module")
def cluster_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Clusters by their size and kind, each started once for all tests of the module."""
    from distributed import LocalCluster

    started: dict[Any, Any] = {}
    with contextlib.ExitStack() as stack:

        def get(workers: int, *, processes: bool, **options: Any) -> Any:
            wanted = (workers, processes, *sorted(options))
            if wanted not in started:
                started[wanted] = stack.enter_context(
                    LocalCluster(
                        n_workers=workers,
                        threads_per_worker=1,
                        processes=processes,
                        dashboard_address="127.0.0.1:0",
                        local_directory=str(tmp_path_factory.mktemp("dask")),
                        **options,
                    )
                )
            return started[wanted]

        yield get


class OnSharedClusters(RunnerTests):
    processes: bool
    keeps_processes = True

    @pytest.fixture(autouse=True)
    def _clusters(self, cluster_of: Callable[..., Any]) -> None:
        self.cluster_of = cluster_of

    def make_runner(self, workers: int) -> Runner:
        return DaskRunner(cluster=self.cluster_of(workers, processes=self.processes))


class TestDaskRunnerOnProcesses(OnSharedClusters):
    processes = True
    kills_workers = True


class TestDaskRunnerOnThreads(OnSharedClusters):
    processes = False
