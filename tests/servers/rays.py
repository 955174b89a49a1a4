"""Ray clusters for tests and programs that use them. Tests fail if processes are left behind."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 600.0
"""The time that anything may take on a busy machine. Only reached if something is wrong."""
START_PATIENCE = 700.0
"""The time that all tries to start a cluster may take. Ray gives up when its agents take 15 s, or a machine 30 s."""
TRACING = "COVERAGE_PROCESS_CONFIG"
"""With this variable, `make coverage` traces each Python process. Ray's own processes then start too slowly for Ray."""
PREPARED = """
import os, sys, threading, time
os.environ.pop("COVERAGE_PROCESS_CONFIG", None)  # this program is traced, the processes of its Ray are not
from pathlib import Path
from penstock import INPUTS, IsolationLevel, flow, task
from penstock.errors import PenstockError
from penstock.runners import RayRunner, runner_from

@task
def double(n):
    return n * 2

@flow
def doubles(count):
    return sum(double(n) for n in range(count))

def say(*words):
    print(">", *words, flush=True)

def processes():
    # Of this program's Ray: all that came from it, however indirectly.
    import psutil
    return [child.pid for child in psutil.Process().children(recursive=True)]
"""

_TOKEN = os.urandom(16).hex()
"""One for all modules, because a process reads it only once."""
_traced: dict[str, str] = {}
"""The environment in which a program of a test is traced."""


@pytest.fixture(scope="module")
def ray_environment() -> Iterator[None]:
    """Rays of this module are private, require a token, and keep their files apart.

    Coverage does not trace their processes. When the module ends, none of them may be left, and the files are removed.
    """
    psutil: Any = importlib.import_module("psutil")
    before = set(psutil.Process().children(recursive=True))
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short, because the paths of sockets are limited
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", _TOKEN)
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_gcs_server_port_wait_time_s", "300")
        patch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "300")
        patch.delenv("RAY_ADDRESS", raising=False)
        _traced.update({TRACING: os.environ[TRACING]} if TRACING in os.environ else {})
        patch.delenv(TRACING, raising=False)
        yield
    left = set(psutil.Process().children(recursive=True)) - before
    left |= {process for process in psutil.process_iter() if folder in " ".join(cmdline(process))}
    _, left = psutil.wait_procs(left, timeout=PATIENCE)
    assert [cmdline(process) for process in left] == []
    shutil.rmtree(folder)


def cmdline(process: Any) -> list[str]:
    """Return the command line of a process; empty if it has ended."""
    psutil: Any = importlib.import_module("psutil")
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


@contextlib.contextmanager
def started(folder: Path, program: str) -> Iterator[subprocess.Popen[str]]:
    """Run the program in its own process group, and kill it at the end."""
    path = folder / "program.py"
    path.write_text(PREPARED + textwrap.dedent(program))
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(path)],
        cwd=folder,
        env={**os.environ, **_traced},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def outcome(folder: Path, program: str) -> list[str]:
    """Return the lines that the program prints. Fail the test if the program fails."""
    with started(folder, program) as process:
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
    return [line[2:] for line in out.splitlines() if line.startswith("> ")]  # Ray prints to it as well


def gone(pids: list[int]) -> bool:
    """Tell whether none of them is running, after a moment if need be."""
    deadline = time.monotonic() + PATIENCE
    while any(alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def alive(pid: int) -> bool:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


LOSES = textwrap.dedent("""
        @task(cache_policy=INPUTS)
        def keep(n):
            with open("kept", "a") as file:
                file.write("x")
            return n

        @task
        def spin(path):
            Path(path).write_text("running")
            while not Path("calm").exists():
                time.sleep(0.01)
            return 1

        @flow
        def loses():
            kept = [keep(n) for n in range(4)]
            for each in kept:
                each.wait()
            return spin("mark"), sum(kept)

        def when_running(act):
            def wait():
                while not Path("mark").exists():
                    time.sleep(0.01)
                act()
            threading.Thread(target=wait, daemon=True).start()

        def one_error(bound):
            try:
                bound()
            except PenstockError as error:
                say(type(error).__name__, "-", error.what)
""")


MACHINES = textwrap.dedent("""
        import ray

        def two_machines():
            # A Ray of two machines, and the one that is `far`. Ray gives up on busy machines, so try again.
            from ray.cluster_utils import Cluster

            # A machine whose process has ended is noticed at once, a slow one is not taken for dead.
            health = {"initial_delay_ms": 0, "period_ms": 200, "timeout_ms": 60_000, "failure_threshold": 2}
            config = {f"health_check_{name}": value for name, value in health.items()}
            head = {"num_cpus": 1, "include_dashboard": False, "_system_config": config}
            deadline = time.monotonic() + START_PATIENCE
            while True:
                cluster = Cluster()
                try:
                    cluster.add_node(**head)
                    far = cluster.add_node(num_cpus=1, resources={"far": 1})
                    ray.init(cluster.address, log_to_driver=False, logging_level="error")
                    return cluster, far
                except Exception as error:
                    if "timed out" not in str(error).lower() or time.monotonic() > deadline:
                        raise
                    ray.shutdown()
                    cluster.shutdown()
""").replace("START_PATIENCE", str(PATIENCE / 2))


@pytest.fixture(scope="module")
def cluster(ray_environment: None) -> Iterator[dict[str, str]]:
    """Start a cluster of one machine as an operator does, and return its addresses.

    Only one at a time on a machine: its server gives each client one of the same few ports, whatever the cluster.
    """
    with open(Path(tempfile.gettempdir(), "penstock-ray-cluster.lock"), "w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        with one_cluster() as (addresses, _):
            yield addresses


@contextlib.contextmanager
def one_cluster() -> Iterator[tuple[dict[str, str], subprocess.Popen[bytes]]]:
    """Start a head as an operator does, and again until it comes up, because Ray gives up on busy machines."""
    deadline = time.monotonic() + START_PATIENCE
    while True:
        ports = free_ports(2)
        process = _start_head(*ports)
        try:
            if all(answers(port, process) for port in ports):
                yield {"direct": f"127.0.0.1:{ports[0]}", "client": f"ray://127.0.0.1:{ports[1]}"}, process
                return
            assert time.monotonic() < deadline, f"ray start fails: {_log().read_text()[-2000:]}"
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _log() -> Path:
    """Return the file for what a head that is started here says."""
    return Path(os.environ["RAY_TMPDIR"], "head.log")


def _start_head(port: int, client_port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2"]
    command += [f"--port={port}", f"--ray-client-server-port={client_port}", "--include-dashboard=false"]
    with _log().open("wb") as out:
        folder = os.environ["RAY_TMPDIR"]
        return subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, start_new_session=True)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Wait until a server listens there. Return False if the process ends instead."""
    while process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        time.sleep(0.1)
    return False


def kill_with_children(process: subprocess.Popen[bytes]) -> None:
    import psutil

    for each in [*psutil.Process(process.pid).children(recursive=True), process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()


def wait_for(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.01)
