"""Killed, stopped and restarted processes: one visible result, and no published result is computed again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock import INPUTS, TASK_SOURCE, flow, task
from penstock.locks import FileSystemLockManager, Lease
from penstock.runners import ProcessRunner

Note = Callable[[object], None]
Ran = Callable[[], list[str]]

LOCKED = """
    import os, pathlib, sys, time
    from penstock import INPUTS, flow, task
    from penstock.locks import FileSystemLockManager
    from penstock.transactions import IsolationLevel

    here = pathlib.Path(sys.argv[1])
    policy = INPUTS.configure(
        isolation_level=IsolationLevel.SERIALIZABLE,
        lock_manager=FileSystemLockManager(lock_files_directory=here / "locks", lease_seconds=1),
    )

    @task(cache_policy=policy, key_name="slow")
    def slow(x):
        (here / f"started-{os.getpid()}").touch()
        while not (here / f"go-{os.getpid()}").exists() and not (here / "go-all").exists():
            time.sleep(0.01)
        return os.getpid()

    @flow
    def pipeline():
        return slow(1)

    if __name__ == "__main__":
        print(pipeline())
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start a process that computes the locked key; kill those still alive at the end."""
    script = tmp_path / "locked.py"
    script.write_text(textwrap.dedent(LOCKED))
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        environment = {**os.environ, "PENSTOCK_STORE": str(tmp_path / "store")}
        command = [sys.executable, str(script), str(tmp_path)]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        process.kill()
        process.communicate()


def wait_until(condition: Callable[[], bool], seconds: float = 100.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


def records(store: Path) -> list[dict]:
    found = [json.loads(path.read_text()) for path in store.rglob("*.record.json")]
    return [record for record in found if record["kind"] == "final"]


@pytest.mark.slow
def test_a_killed_holder_is_replaced(tmp_path: Path, start) -> None:
    first = start()
    wait_until(lambda: (tmp_path / f"started-{first.pid}").exists())
    second = start()
    first.kill()
    wait_until(lambda: (tmp_path / f"started-{second.pid}").exists())
    (tmp_path / "go-all").touch()
    assert second.communicate(timeout=100)[0].strip() == str(second.pid)
    assert len(records(tmp_path / "store")) == 1


@pytest.mark.slow
def test_a_waiter_gets_the_holders_result(tmp_path: Path, start) -> None:
    first = start()
    wait_until(lambda: (tmp_path / f"started-{first.pid}").exists())
    second = start()
    (tmp_path / "go-all").touch()
    assert first.communicate(timeout=100)[0] == second.communicate(timeout=30)[0]
    assert len(records(tmp_path / "store")) == 1


@pytest.mark.slow
def test_a_holder_stopped_past_its_lease_gets_the_result_published_meanwhile(tmp_path: Path, start) -> None:
    first = start()
    wait_until(lambda: (tmp_path / f"started-{first.pid}").exists())
    first.send_signal(signal.SIGSTOP)
    second = start()
    wait_until(lambda: (tmp_path / f"started-{second.pid}").exists())
    (tmp_path / "go-all").touch()
    winner = second.communicate(timeout=100)[0]
    assert winner.strip() == str(second.pid)
    first.send_signal(signal.SIGCONT)
    assert first.communicate(timeout=100)[0] == winner
    assert len(records(tmp_path / "store")) == 1


@pytest.mark.slow
def test_a_dead_worker_does_not_run_published_tasks_again(tmp_path: Path, note: Note, ran: Ran) -> None:
    dead = tmp_path / "dead"

    @task(cache_policy=INPUTS)
    def prepare(n: int) -> bytes:
        note("prepare")
        return b"x" * n

    @task(cache_policy=INPUTS)
    def deadly(data: bytes) -> int:
        note("deadly")
        if not dead.exists():
            dead.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return len(data)

    @flow(runner=ProcessRunner(1))
    def pipeline() -> int:
        return deadly(prepare(200_000))

    assert pipeline() == 200_000
    assert ran() == ["prepare", "deadly", "deadly"]


@pytest.mark.slow
def test_a_killed_run_resumes_where_it_stopped(tmp_path: Path) -> None:
    script = tmp_path / "resumed.py"
    text = """
        import os, pathlib, signal, sys
        from penstock import flow, task, INPUTS, TASK_SOURCE

        here = pathlib.Path(sys.argv[1])

        @task(cache_policy=INPUTS + TASK_SOURCE)
        def step(n):
            with open(here / "steps", "a") as file:
                file.write(f"{n}\\n")
            return n

        @task
        def die(values):
            if not (here / "died").exists():
                (here / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return sum(values)

        @flow
        def pipeline():
            return die([step(n) for n in range(3)])

        if __name__ == "__main__":
            print(pipeline())
    """
    script.write_text(textwrap.dedent(text))
    environment = {**os.environ, "PENSTOCK_STORE": str(tmp_path / "store")}
    command = [sys.executable, str(script), str(tmp_path)]
    first = subprocess.run(command, env=environment, check=False, timeout=60)
    assert first.returncode == -signal.SIGKILL
    again = subprocess.run(command, env=environment, check=True, timeout=60, capture_output=True, text=True)
    assert again.stdout.strip() == "3"
    assert sorted((tmp_path / "steps").read_text().split()) == ["0", "1", "2"]


@pytest.mark.slow
def test_keys_are_the_same_in_every_process_and_for_every_hash_seed(tmp_path: Path) -> None:
    script = tmp_path / "keys.py"
    text = """
        from penstock import INPUTS, TASK_CODE, TASK_SOURCE, flow, task

        OPTIONS = {"a", "b", "c"}

        @task(cache_policy=INPUTS + TASK_SOURCE + TASK_CODE)
        def use(items, mode=frozenset({"x", "y"})):
            return {"p", "q", "r"} | OPTIONS

        @flow
        def pipeline():
            return use({"one", "two", "three", (1, 2)})

        print(pipeline.plan().nodes[0].key)
    """
    script.write_text(textwrap.dedent(text))
    keys = set()
    for seed in ("0", "1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, str(script)], env=environment, check=True, timeout=60, capture_output=True, text=True
        )
        keys.add(done.stdout)
    assert len(keys) == 1


@pytest.mark.slow
def test_a_script_and_its_import_share_results(tmp_path: Path) -> None:
    script = tmp_path / "sums.py"
    text = """
        from penstock import INPUTS, TASK_SOURCE, flow, task

        @task(cache_policy=INPUTS + TASK_SOURCE)
        def add(x, y):
            return x + y

        @flow
        def pipeline():
            return add(1, 2)

        if __name__ == "__main__":
            print(pipeline.run().counts["executed"])
    """
    script.write_text(textwrap.dedent(text))
    environment = {**os.environ, "PENSTOCK_STORE": str(tmp_path / "store")}
    importing = [sys.executable, "-c", 'import sums; print(sums.pipeline.run().counts["executed"])']
    said = [
        subprocess.run(command, env=environment, cwd=tmp_path, check=True, timeout=60, capture_output=True).stdout
        for command in ([sys.executable, "sums.py"], importing, [sys.executable, str(script)])
    ]
    assert [int(text) for text in said] == [1, 0, 0]


def test_file_locks_distinguish_keys_with_dots(tmp_path: Path) -> None:
    manager = FileSystemLockManager(tmp_path)
    with contextlib.closing(manager.open_session(info={}, lease_seconds=30.0)) as session:
        answers = session.try_acquire(["report.2024", "report.2025", "report", "report.2024.csv"])
    assert all(isinstance(answer, Lease) for answer in answers)


def test_a_source_policy_and_processes_agree(runner: str) -> None:
    @task(cache_policy=INPUTS + TASK_SOURCE)
    def unique(items: set[str]) -> list[str]:
        return sorted(items)

    @flow
    def pipeline() -> list[str]:
        return unique({"b", "a"})

    assert pipeline() == ["a", "b"]
    assert pipeline.run().counts["executed"] == 0
