"""DaskRunner: the failures of docs/runners.md that need a separate cluster or driver."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock import INPUTS, events, flow, task
from penstock.errors import RunnerError
from penstock.flows import Flow
from penstock.runners import DaskRunner, Runner
from penstock.runtime import task_run
from penstock.testing.runners import tasks
from penstock.testing.runners.support import PATIENCE, RunnerBench

pytestmark = [pytest.mark.slow, pytest.mark.needs("distributed", "psutil")]
t: Any = tasks
SMALL, LARGE = 400 * 2**20, 900 * 2**20


@task
def eats_memory(log: str) -> int:
    """Use all memory at the first attempt and be killed; then return how much memory the worker has."""
    tasks.mark(log, "eats_memory")
    import distributed

    limit: int = distributed.get_worker().memory_manager.memory_limit
    if task_run.run_count > 1:
        return limit
    taken = [os.urandom(limit)]
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        time.sleep(0.01)
    return len(taken)


class TestDaskFailures(RunnerBench):
    keeps_processes = True
    runner: Runner

    def make_runner(self, workers: int) -> Runner:
        return self.runner

    def test_a_call_killed_by_its_nanny_for_its_memory_is_retried_with_more(self, tmp_path: Path) -> None:
        log = self.log
        growing = eats_memory.with_options(resources=lambda attempt: {"memory": "100MB" if attempt == 1 else "700MB"})
        with cluster_of_two_sizes(tmp_path) as cluster:
            self.runner = DaskRunner(cluster=cluster)
            assert self.value(lambda: growing(log)) == LARGE
        assert self.executions() == {"eats_memory": 2}
        [retried] = [event for event in self.seen if isinstance(event, events.NodeRetried)]
        assert "its worker died" in retried.reason

    def test_losing_a_cluster_in_mid_run_loses_only_unpublished_results(self, tmp_path: Path) -> None:
        log = self.log
        keep = t.double.with_options(cache_policy=INPUTS)

        def long() -> Any:
            kept = [keep(log, n) for n in range(3)]
            for each in kept:
                each.wait()
            return t.until(log, "go", PATIENCE, 7), kept

        with separate_cluster(tmp_path / "first") as (address, processes):

            def kill() -> None:
                tasks.until_marked(log, "until 7", PATIENCE / 2)
                for process in processes:
                    process.kill()

            threading.Thread(target=kill).start()
            bound: Flow[Any, Any] = flow(runner=DaskRunner(address))(long)
            run = self.within(lambda: bound.run_with({}, settings=self.settings))
        assert run.state == "failed"
        assert isinstance(run.error, RunnerError)
        assert "connection to the Dask scheduler is lost" in str(run.error)
        tasks.mark(log, "go")
        with separate_cluster(tmp_path / "second") as (address, _):
            again = bound.with_options(runner=DaskRunner(address))
            resumed = self.within(lambda: again.resume(run.id, settings=self.settings))
        assert resumed.result() == (7, [0, 2, 4])
        assert self.executions()["double"] == 3

    def test_ctrl_c_stops_the_calls_and_leaves_no_process(self, tmp_path: Path) -> None:
        psutil = importlib.import_module("psutil")
        program = f"""
            import time
            from penstock import flow, task
            from penstock.runners import DaskRunner
            from penstock.testing.runners.tasks import mark

            @task
            def endless():
                mark({self.log!r}, "began")
                deadline = time.monotonic() + {PATIENCE}
                while time.monotonic() < deadline:
                    time.sleep(0.001)

            @flow(runner=DaskRunner(workers=1))
            def runs():
                endless()

            if __name__ == "__main__":
                try:
                    runs()
                except KeyboardInterrupt:
                    print("interrupted", flush=True)
            """
        with started(tmp_path, program, store=self.settings.store) as driver:
            assert tasks.until_marked(self.log, "began", PATIENCE / 2)
            children = psutil.Process(driver.pid).children(recursive=True)
            os.killpg(driver.pid, signal.SIGINT)
            out, err = driver.communicate(timeout=PATIENCE)
        assert "interrupted" in out, err
        _, alive = psutil.wait_procs(children, timeout=PATIENCE)
        assert alive == []
        [record] = Path(self.settings.store).glob("runs/*/run.json")
        assert json.loads(record.read_text())["state"] == "cancelled"

    def test_an_address_that_accepts_connections_but_never_answers_is_one_clear_error(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            self.runner = DaskRunner(f"tcp://127.0.0.1:{deaf.getsockname()[1]}", timeout=1)
            with pytest.raises(RunnerError, match="does not answer"):
                self.value(lambda: t.double("", 1))

    def test_the_error_for_missing_dask_says_how_to_install_it(self, tmp_path: Path) -> None:
        program = """
            import sys
            sys.modules["distributed"] = sys.modules["dask"] = None
            from penstock import flow, task
            from penstock.errors import RunnerError
            from penstock.runners import runner_from

            @task
            def double(n):
                return 2 * n

            @flow(runner="dask")
            def doubles():
                return double(1)

            print(runner_from("dask"))
            try:
                doubles()
            except RunnerError as error:
                print(error.what, "-", error.hint)
            """
        with started(tmp_path, program, store=self.settings.store) as process:
            out, err = process.communicate(timeout=PATIENCE)
        assert out.splitlines() == [
            "DaskRunner(LocalCluster)",
            'Dask is not installed - pip install "penstock[dask]"',
        ], err


# -- the tests' own tools


@contextlib.contextmanager
def cluster_of_two_sizes(folder: Path) -> Iterator[Any]:
    """A worker with little memory and one with more, each watched by a nanny."""
    distributed = importlib.import_module("distributed")
    common = {"nthreads": 1, "local_directory": str(folder), "dashboard": False}
    cluster = distributed.SpecCluster(
        scheduler={
            "cls": distributed.Scheduler,
            "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"},
        },
        workers={
            size: {"cls": distributed.Nanny, "options": {**common, "memory_limit": size}} for size in (SMALL, LARGE)
        },
    )
    with cluster:
        yield cluster


@contextlib.contextmanager
def started(folder: Path, program: str, *, store: str) -> Iterator[subprocess.Popen[str]]:
    """Run the program in its own process group, and kill it at the end."""
    path = folder / "program.py"
    path.write_text(textwrap.dedent(program))
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(path)],
        cwd=folder,
        env={**os.environ, "PENSTOCK_STORE": store},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@contextlib.contextmanager
def separate_cluster(folder: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Return the address and the processes of a scheduler and a worker."""
    folder.mkdir()
    contact = folder / "scheduler.json"
    processes: list[subprocess.Popen[bytes]] = []
    with contextlib.ExitStack() as stack:

        def start(command: str, *arguments: str) -> None:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{command}", *arguments], cwd=folder, stderr=subprocess.DEVNULL
            )
            processes.append(process)
            stack.callback(process.wait)
            stack.callback(process.kill)

        listen = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
        start("dask_scheduler", *listen, "--port", "0", "--scheduler-file", str(contact))
        deadline = time.monotonic() + PATIENCE / 2
        while not (contact.exists() and contact.read_text()) and time.monotonic() < deadline:  # created, then written
            time.sleep(0.01)
        address: str = json.loads(contact.read_text())["address"]
        start("dask_worker", address, *listen, "--no-nanny", "--nthreads", "1")
        yield address, processes
