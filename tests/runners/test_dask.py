"""DaskRunner: the conformance suite on clusters of processes and of threads, and what is specific to Dask."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock import INPUTS, task
from penstock.errors import ConfigurationError, RunnerError, ValuesChanged
from penstock.runners import DaskRunner, Runner
from penstock.settings import load_settings
from penstock.testing.runners import RunnerTests, tasks
from penstock.testing.runners.kills import KillTests
from penstock.testing.runners.nested import NestedWorkTests
from penstock.testing.runners.results import ResultTests
from penstock.testing.runners.support import PATIENCE, RunnerBench
from penstock.testing.runners.values import ValueTests
from tests.amounts import amount

pytestmark = [pytest.mark.slow, pytest.mark.needs("distributed")]
t: Any = tasks
Clusters = Callable[..., Any]


@pytest.fixture(scope="module")
def cluster_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clusters]:
    """Clusters by size and kind, each started once for all tests of the module."""
    distributed = importlib.import_module("distributed")
    started: dict[Any, Any] = {}
    with contextlib.ExitStack() as stack:
        # A LocalCluster checks a dead worker 15 s later, and gives up on it if it has just died again.
        patient = {"distributed.deploy.lost-worker-timeout": "1h"}
        stack.enter_context(importlib.import_module("dask").config.set(patient))

        def get(workers: int, *, processes: bool = True, **options: Any) -> Any:
            wanted = (workers, processes, *sorted(options))
            if wanted not in started:
                cluster = distributed.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=processes,
                    dashboard_address="127.0.0.1:0",
                    local_directory=str(tmp_path_factory.mktemp("dask")),
                    **options,
                )
                started[wanted] = stack.enter_context(cluster)
            return started[wanted]

        yield get


class OnSharedClusters(RunnerBench):
    processes: bool
    keeps_processes = True

    @pytest.fixture(autouse=True)
    def _clusters(self, cluster_of: Clusters) -> None:
        self.cluster_of = cluster_of

    def make_runner(self, workers: int) -> Runner:
        return DaskRunner(cluster=self.cluster_of(workers, processes=self.processes))


class OnThreads(OnSharedClusters):
    processes = False


class TestDaskRunnerOnProcesses(OnSharedClusters, RunnerTests):
    processes = True
    kills_workers = True


class TestDaskRunnerOnThreads(OnThreads, ResultTests, ValueTests, NestedWorkTests):
    """What may differ where workers share one process."""


@pytest.mark.evidence
class TestAllOfDaskRunnerOnThreads(OnThreads, RunnerTests):
    pass


@task
def payload(log: str, size: int) -> bytes:
    tasks.mark(log, "payload")
    return os.urandom(16) * (size // 16)


@task
def random_bytes(log: str, size: int) -> bytes:
    tasks.mark(log, "random_bytes")
    return os.urandom(size)


@task
def beginning(log: str, value: bytes, size: int) -> bytes:
    tasks.mark(log, "beginning")
    return value[:size]


@task
def size_of(log: str, value: bytes) -> int:
    tasks.mark(log, "size_of")
    return len(value)


@task
def worker_pid(log: str) -> int:
    return os.getpid()


@pytest.mark.untraced
@pytest.mark.needs("psutil")
class TestDaskRunnerUnderFire(KillTests):
    flows = amount(here=4, in_ci=12)

    @pytest.fixture(autouse=True)
    def _clusters(self, cluster_of: Clusters) -> None:
        self.cluster = cluster_of(2)

    def make_runner(self, workers: int) -> Runner:
        return DaskRunner(cluster=self.cluster)

    def worker_pids(self) -> list[int]:
        return [nanny.pid for nanny in list(self.cluster.workers.values()) if nanny.pid is not None]


class TestDask(RunnerBench):
    """What applies to Dask and not to every runner."""

    keeps_processes = True

    @pytest.fixture(autouse=True)
    def _clusters(self, cluster_of: Clusters) -> None:
        self.cluster_of = cluster_of
        self.runner: Runner | None = None

    def make_runner(self, workers: int) -> Runner:
        return self.runner or DaskRunner(cluster=self.cluster_of(workers))

    # -- clusters

    def test_a_cluster_of_our_own_ends_with_the_run(self) -> None:
        psutil = importlib.import_module("psutil")
        children = set(psutil.Process().children(recursive=True))
        before = {thread.name for thread in threading.enumerate()}
        self.runner = DaskRunner(workers=1)
        log = self.log

        def uses() -> Any:
            return t.double(log, 2), worker_pid(log)

        value, pid = self.value(uses)
        assert value == 4
        assert pid != os.getpid()
        left = [p for p in set(psutil.Process().children(recursive=True)) - children if "tracker" not in cmdline(p)]
        assert left == []
        named = {thread.name for thread in threading.enumerate()} - before
        assert not [name for name in named if name.startswith(("penstock", "IO loop"))]
        assert [path.name for path in Path(os.environ["TMPDIR"]).glob("penstock*")] == []

    def test_runs_in_a_with_block_share_one_cluster(self) -> None:
        log = self.log
        pids = []
        with DaskRunner(workers=1) as self.runner:
            pids = [self.value(lambda: worker_pid(log)) for _ in range(2)]
        assert len(set(pids)) == 1
        psutil = importlib.import_module("psutil")
        assert not psutil.pid_exists(pids[0])

    @pytest.mark.parametrize("name", ["data", "value", "argument"])
    def test_a_task_can_have_the_name_of_a_message_field(self, name: str) -> None:
        log = self.log

        def uses() -> Any:
            parts = [t.double.with_options(name=name)(log, n) for n in range(3)]
            return t.total(log, parts)

        assert self.value(uses) == 6

    def test_a_given_client_stays_unchanged(self) -> None:
        distributed = importlib.import_module("distributed")
        log = self.log
        with distributed.Client(self.cluster_of(2)) as client:
            self.runner = DaskRunner(client=client)

            def uses() -> Any:
                return t.double(log, 2)

            assert self.value(uses) == 4
            assert client.status == "running"
            assert distributed.get_client() is client
            assert client.submit(sum, [1, 2]).result() == 3

    def test_an_address_without_a_scheduler_is_one_clear_error(self) -> None:
        self.runner = DaskRunner("tcp://127.0.0.1:9", timeout=1)
        before = set(threading.enumerate())

        def uses() -> Any:
            return t.double("", 2)

        began = time.monotonic()
        with pytest.raises(RunnerError, match="does not answer"):
            self.value(uses)
        assert time.monotonic() - began < PATIENCE
        assert [x.name for x in set(threading.enumerate()) - before if x.name.startswith(("IO loop", "penstock"))] == []

    def test_a_store_in_memory_needs_threads_of_this_process(self) -> None:
        self.settings = load_settings(overrides={"store": "memory://dask-threads"})
        log = self.log

        def uses() -> Any:
            return t.double.with_options(cache_policy=INPUTS)(log, 2)

        with pytest.raises(ConfigurationError, match="cannot use MemoryStore"):
            self.value(uses)
        self.runner = DaskRunner(cluster=self.cluster_of(2, processes=False))
        assert self.value(uses) == 4

    def test_a_warm_run_submits_nothing(self) -> None:
        log, cluster = self.log, self.cluster_of(2)

        def cached() -> Any:
            return t.total.with_options(cache_policy=INPUTS)(
                log, [t.double.with_options(cache_policy=INPUTS)(log, n) for n in range(5)]
            )

        assert self.value(cached) == 20
        before = cluster.scheduler.transition_counter, len(cluster.scheduler.tasks)
        assert self.value(cached) == 20
        assert (cluster.scheduler.transition_counter, len(cluster.scheduler.tasks)) == before

    def test_single_calls_wait_in_the_scheduler_for_their_inputs(self) -> None:
        log, cluster = self.log, self.cluster_of(2)
        self.settings = self.settings.with_values(bundle_seconds=0)

        def chain() -> Any:
            x = t.wait_for_mark(log, "go", PATIENCE)
            for _ in range(10):
                x = t.show(log, x)
            return x

        def all_there() -> bool:
            return sum(1 for key in list(cluster.scheduler.tasks) if str(key[0]).startswith("show-")) == 10

        def go_once_all_are_there() -> None:
            deadline = time.monotonic() + PATIENCE / 4
            while not all_there() and time.monotonic() < deadline:
                time.sleep(0.005)
            seen.append(all_there())
            tasks.mark(log, "go")

        seen: list[bool] = []
        watcher = threading.Thread(target=go_once_all_are_there)
        watcher.start()
        self.value(chain)
        watcher.join()
        assert seen == [True]

    def test_nothing_of_a_run_stays_in_the_scheduler(self) -> None:
        log, cluster = self.log, self.cluster_of(2)
        large = t.text.with_options(cache_policy=INPUTS)

        def uses() -> Any:
            return [t.length(log, large(log, 100_000 + n)) for n in range(4)], payload(log, 50_000)

        self.value(uses)
        deadline = time.monotonic() + PATIENCE / 4
        while cluster.scheduler.tasks and time.monotonic() < deadline:
            time.sleep(0.01)
        assert dict(cluster.scheduler.tasks) == {}

    # -- versions and stores

    def test_another_version_of_dask_is_one_clear_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        distributed = importlib.import_module("distributed")
        real = distributed.Client.get_versions

        def older(client: Any, **options: Any) -> Any:
            found = real(client, **options)
            found["scheduler"]["packages"]["distributed"] = "2024.1.0"
            return found

        monkeypatch.setattr(distributed.Client, "get_versions", older)
        with pytest.raises(RunnerError, match="the scheduler has another version of distributed") as caught:
            self.value(lambda: t.double("", 1))
        assert "2024.1 there" in str(caught.value)

    def test_another_version_of_penstock_on_a_worker_is_one_clear_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("penstock.__version__", "0.0.0")
        with pytest.raises(RunnerError, match="a worker has other versions than the driver"):
            self.value(lambda: t.double("", 1))

    def test_a_worker_that_does_not_see_the_store_is_one_clear_error(self, tmp_path: Path) -> None:
        cluster = self.cluster_of(2)
        self.runner = DaskRunner(cluster.scheduler_address)  # an address can be anywhere
        log = self.log
        cached = t.double.with_options(cache_policy=INPUTS)

        def uses() -> Any:
            return cached(log, 5)

        with elsewhere(cluster, str(tmp_path / "another")), pytest.raises(RunnerError, match="does not see the run's"):
            self.value(uses)
        assert self.value(uses) == 10

    # -- values

    def test_large_values_stay_with_the_workers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from penstock.runners.remote.workers import batching

        heard: list[int] = []
        real = batching.expanded
        monkeypatch.setattr(batching, "expanded", lambda data: (heard.append(len(data)), real(data))[1])
        monkeypatch.setattr("distributed.Client.gather", None)
        log = self.log

        def passes_on() -> Any:
            return [size_of(log, payload(log, 20_000_000)) for _ in range(4)]

        assert self.value(passes_on) == [20_000_000] * 4
        assert sum(heard) < 50_000

    def test_each_consumer_gets_its_own_large_value_of_a_bundle(self) -> None:
        log = self.log

        def picks() -> Any:
            made = [t.text(log, 20_000 + n) for n in range(60)]
            return [t.length(log, one) for one in made], [len(one) for one in made]

        lengths, own = self.value(picks)
        assert own == [20_000 + n for n in range(60)]
        assert lengths == [(n, True) for n in own]
        assert self.executions() == {"text": 60, "length": 60}

    def test_arguments_and_functions_can_be_large(self) -> None:
        log, ballast = self.log, os.urandom(6_000_000)

        @task
        def heavy(n: int) -> int:
            return len(ballast) + n

        def uses() -> Any:
            return size_of(log, ballast * 2), [heavy(n) for n in range(4)]

        assert self.value(uses) == (12_000_000, [6_000_000 + n for n in range(4)])

    # -- workers that die or join ----------

    @pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
    def test_a_value_is_available_after_its_worker_died(self, cached: bool) -> None:
        log, cluster = self.log, self.cluster_of(2)
        made = payload.with_options(cache_policy=INPUTS) if cached else payload

        def loses() -> Any:
            value = made(log, 1_000_000)
            value.wait()
            kill_holders(cluster)
            return size_of(log, value), len(value)

        assert self.value(loses) == (1_000_000, 1_000_000)
        assert self.executions()["payload"] == (1 if cached else 2)

    @pytest.mark.parametrize("seen", [False, True], ids=["not seen", "seen"])
    def test_a_lost_value_is_not_mixed_with_the_one_computed_in_its_place(self, seen: bool) -> None:
        log, cluster = self.log, self.cluster_of(2)
        head = beginning.with_options(cache_policy=INPUTS)

        def loses() -> Any:
            value = random_bytes(log, 1_000_000)
            short = head(log, value, 8)
            short.result() if seen else short.wait()
            kill_holders(cluster)
            return short, head(log, value, 9)

        if seen:
            with pytest.raises(ValuesChanged, match="it is not cached, and was computed a second time"):
                self.value(loses)
        else:
            short, longer = self.value(loses)
            assert longer[:8] == short
            assert self.executions() == {"random_bytes": 2, "beginning": 3}

    def test_calls_queued_behind_one_that_killed_the_worker_do_not_count_as_attempts(self) -> None:
        log = self.log
        attempts = t.about_the_run.with_options(retries=1)

        def deadly() -> Any:
            failure = t.die(log).result(raise_on_failure=False)
            return type(failure).__name__, [attempts(log, n) for n in range(3)]

        name, others = self.value(deadly, workers=1)
        assert name == "WorkerLost"
        assert [other["task"][1] for other in others] == [2, 2, 2]
        assert self.executions() == {"die": 4}

    def test_a_cluster_without_workers_is_awaited_and_then_an_error(self) -> None:
        distributed = importlib.import_module("distributed")
        log = self.log
        with distributed.LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as cluster:
            self.runner = DaskRunner(cluster=cluster, worker_timeout=0.5)
            with pytest.raises(RunnerError, match="has no workers"):
                self.value(lambda: t.double(log, 1))
            greedy = t.double.with_options(resources={"memory": "1MB"})
            with pytest.raises(RunnerError, match="has no workers"):
                self.value(lambda: greedy(log, 1))
            self.runner = DaskRunner(cluster=cluster)
            threading.Timer(1.5, cluster.scale, [1]).start()
            assert self.value(lambda: [t.double(log, 1), greedy(log, 2)]) == [2, 4]

    def test_dask_respects_declared_resources(self) -> None:
        log = self.log
        exclusive = t.alone.with_options(resources={"gpu": 1})
        self.runner = DaskRunner(cluster=self.cluster_of(2, processes=False, resources={"GPU": 1}))

        def asks() -> Any:
            return [t.nap.with_options(resources={"gpu": 1})(log, f"nap {n}", 0.01) for n in range(4)], exclusive(
                log, 7
            )

        naps, value = self.value(asks)
        assert (len(naps), value) == (4, 7)
        two = t.double.with_options(resources={"gpu": 2})
        with pytest.raises(RunnerError, match="no worker can ever run"):
            self.value(lambda: two(log, 1))

    # -- drivers and schedulers that die

    def test_the_running_calls_of_a_dead_driver_end(self) -> None:
        script = textwrap.dedent(
            f"""
            import time
            from penstock import flow, task
            from penstock.runners import DaskRunner
            from penstock.testing.runners.tasks import mark

            @task
            def until_interrupted():
                mark({self.log!r}, "began")
                try:
                    deadline = time.monotonic() + {PATIENCE}
                    while time.monotonic() < deadline:
                        time.sleep(0.001)
                finally:
                    mark({self.log!r}, "ended")

            @flow(runner=DaskRunner({self.cluster_of(2).scheduler_address!r}))
            def endless():
                until_interrupted()

            endless()
            """
        )
        environment = {**os.environ, "PENSTOCK_STORE": str(self.settings.store)}
        driver = subprocess.Popen([sys.executable, "-c", script], env=environment)
        try:
            assert tasks.until_marked(self.log, "began", PATIENCE / 2)
        finally:
            driver.kill()
            driver.wait()
        assert tasks.until_marked(self.log, "ended", PATIENCE / 2)

    def test_the_scheduler_needs_neither_penstock_nor_the_users_code(self, tmp_path: Path) -> None:
        blocked = tmp_path / "blocked"
        blocked.mkdir()
        (blocked / "penstock.py").write_text("raise ImportError('not on the scheduler')\n")
        (tmp_path / "user_code.py").write_text(
            "from penstock import task\nclass Mine:\n    n = 4\n@task\ndef make(n: int) -> Mine:\n    return Mine()\n"
            "@task\ndef read(mine: Mine) -> int:\n    return mine.n\n"
        )
        sys.path.insert(0, str(tmp_path))
        try:
            code: Any = importlib.import_module("user_code")
            with separate_cluster(tmp_path, scheduler_path=str(blocked), worker_path=str(tmp_path)) as (address, _):
                self.runner = DaskRunner(address)

                def uses() -> Any:
                    return [code.read(code.make(n)) for n in range(4)]

                assert self.value(uses) == [4] * 4
        finally:
            sys.path.remove(str(tmp_path))

    def test_a_dead_scheduler_ends_the_run_with_one_clear_error(self, tmp_path: Path) -> None:
        log = self.log
        with separate_cluster(tmp_path) as (address, scheduler):
            self.runner = DaskRunner(address)

            def kill() -> None:
                tasks.until_marked(log, "spin", PATIENCE / 2)
                scheduler.kill()

            def loses() -> Any:
                return t.spin(log, PATIENCE)

            threading.Thread(target=kill).start()
            with pytest.raises(RunnerError, match="connection to the Dask scheduler is lost"):
                self.value(loses)


# -- the tests' own tools


def cmdline(process: Any) -> str:
    return " ".join(process.cmdline())


@contextlib.contextmanager
def elsewhere(cluster: Any, folder: str) -> Iterator[None]:
    """In the block, workers open another folder, whatever store they are given."""
    distributed = importlib.import_module("distributed")

    def look_at(other: str | None) -> None:
        from penstock.storage import open_store
        from penstock.worker import remote as worker_processes

        worker_processes.open_store = open_store if other is None else lambda _: open_store(other)  # type: ignore[attr-defined]

    with distributed.Client(cluster, set_as_default=False) as client:
        client.run(look_at, folder)
        try:
            yield
        finally:
            client.run(look_at, None)


def kill_holders(cluster: Any) -> None:
    """Kill the workers that hold values, and wait until the scheduler knows."""
    scheduler = cluster.scheduler
    deadline = time.monotonic() + PATIENCE / 4
    while not any(state.has_what for state in scheduler.workers.values()) and time.monotonic() < deadline:
        time.sleep(0.01)  # the value is reported before Dask has heard of it
    held = [state.address for state in scheduler.workers.values() if state.has_what]
    assert held
    for address in held:
        os.kill(pid_of(cluster, address), signal.SIGKILL)
    while set(held) & set(scheduler.workers) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(held) & set(scheduler.workers)


def pid_of(cluster: Any, address: str) -> int:
    pid: int = next(nanny.pid for nanny in cluster.workers.values() if nanny.worker_address == address)
    return pid


@contextlib.contextmanager
def separate_cluster(folder: Path, *, scheduler_path: str = "", worker_path: str = "") -> Iterator[tuple[str, Any]]:
    """Start a scheduler and a worker in separate processes. Return the scheduler's address and process."""
    contact = folder / "scheduler.json"
    with contextlib.ExitStack() as stack:

        def start(command: str, path: str, *arguments: str) -> subprocess.Popen[bytes]:
            environment = {**os.environ, "PYTHONPATH": path}
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{command}", *arguments],
                env=environment,
                cwd=folder,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        listen = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
        scheduler = start("dask_scheduler", scheduler_path, *listen, "--port", "0", "--scheduler-file", str(contact))
        deadline = time.monotonic() + PATIENCE / 2
        while not (contact.exists() and contact.read_text()) and time.monotonic() < deadline:  # created, then written
            time.sleep(0.01)
        address: str = json.loads(contact.read_text())["address"]
        start("dask_worker", worker_path, address, *listen, "--no-nanny", "--nthreads", "1")
        yield address, scheduler
