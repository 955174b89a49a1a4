"""Worker processes that are copies of a template process differ in nothing from new ones."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock import flow, task
from penstock.checksums import PARALLEL_BYTES, new_hash
from penstock.errors import WorkerLost
from penstock.runners import ProcessRunner
from penstock.testing.runners.kills import children_named

pytestmark = [pytest.mark.needs("psutil"), pytest.mark.slow]  # workers start for each run


@pytest.fixture
def runner() -> Iterator[ProcessRunner]:
    with ProcessRunner(2) as kept:
        yield kept


def templates() -> set[int]:
    return set(children_named("penstock.runners.local.template_main"))


@task
def surroundings(name: str) -> tuple[str | None, str, list[str]]:
    return os.environ.get(name), os.getcwd(), sys.path


@task
def add(a: int, b: int) -> int:
    return a + b


@task
def shout() -> None:
    print("from a worker", flush=True)


@task
def sums(counts: list[int]) -> int:
    return sum(sum(add(n, 1) for n in range(count)) for count in counts)


def test_workers_have_the_environment_folder_and_path_that_the_driver_has_at_their_start(
    runner: ProcessRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = flow(runner=runner)(lambda: surroundings("SAMPLE"))
    assert look()[0] is None
    monkeypatch.setenv("SAMPLE", "odd \udcff")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert look() == ("odd \udcff", str(tmp_path), sys.path)
    monkeypatch.delenv("SAMPLE")
    assert look()[0] is None


def test_workers_write_to_the_standard_output_that_the_driver_has_at_their_start(
    runner: ProcessRunner, capfd: pytest.CaptureFixture[str]
) -> None:
    with capfd.disabled():
        flow(runner=runner)(lambda: add(1, 1))()  # the template starts
    flow(runner=runner)(lambda: shout())()
    assert "from a worker" in capfd.readouterr().out


def test_workers_import_again_what_workers_of_former_runs_have_imported(runner: ProcessRunner, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    (tmp_path / "versioned.py").write_text("VALUE = 1\n")
    program.write_text("""
import importlib, pathlib
from penstock import flow, task
from penstock.runners import ProcessRunner
import versioned

@task
def value() -> int:
    return versioned.VALUE

with ProcessRunner(1) as runner:
    print(flow(runner=runner)(lambda: value())())
    pathlib.Path(versioned.__file__).write_text("VALUE = 22\\n")
    importlib.reload(versioned)
    print(flow(runner=runner)(lambda: value())())
""")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=240, check=False)
    assert done.stdout.split() == ["1", "22"], done.stderr


def test_the_runs_of_a_block_share_one_template_that_ends_with_it() -> None:
    before = templates()
    with ProcessRunner(2) as runner:
        bound = flow(runner=runner)(lambda: [add(n, 1) for n in range(4)])
        bound()
        first = templates() - before
        bound()
        assert templates() - before == first
        assert len(first) == 1
    assert templates() - before == set()
    assert bound() == [1, 2, 3, 4]  # with a template for the run
    assert templates() - before == set()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_template_that_was_killed_is_replaced(runner: ProcessRunner, number: int) -> None:
    bound = flow(runner=runner)(lambda: [add(n, 1) for n in range(4)])
    before = templates()
    assert bound() == [1, 2, 3, 4]
    (template,) = templates() - before
    os.kill(template, number)
    assert bound() == [1, 2, 3, 4]


def test_a_run_completes_though_its_template_is_killed_meanwhile(runner: ProcessRunner) -> None:
    before = templates()

    @task
    def kill_parent() -> int:
        os.kill(os.getppid(), signal.SIGKILL)
        return 7

    bound = flow(runner=runner)(lambda: [kill_parent(), *[add(n, 1) for n in range(4)]])
    assert bound() == [7, 1, 2, 3, 4]
    runner.__exit__(None, None, None)
    assert templates() - before == set()


def test_flows_at_the_same_time_can_share_a_template(runner: ProcessRunner) -> None:
    inner = flow(runner=runner)(sums.fn)
    assert flow(runner=runner)(lambda: [sums([2, 3]), add(1, 1), inner([2])])() == [9, 2, 3]


def test_a_process_that_the_driver_forks_meanwhile_starts_a_template_of_its_own(tmp_path: Path) -> None:
    program = tmp_path / "forks.py"
    program.write_text("""
import os
from penstock import flow, task
from penstock.runners import ProcessRunner

@task
def add(a: int, b: int) -> int:
    return a + b

with ProcessRunner(2) as runner:
    bound = flow(runner=runner)(lambda n: [add(n, k) for k in range(3)])
    print(bound(1), flush=True)
    if (child := os.fork()) == 0:
        print(bound(2), flush=True)
        runner.__exit__(None, None, None)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print(bound(3), flush=True)
""")
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.stdout.splitlines() == ["[1, 2, 3]", "[2, 3, 4]", "[3, 4, 5]"], done.stderr


def test_a_copy_of_a_runner_has_no_template(runner: ProcessRunner) -> None:
    flow(runner=runner)(lambda: add(1, 1))()
    copy = pickle.loads(pickle.dumps(runner))
    assert copy == runner
    assert flow(runner=copy)(lambda: add(1, 1))() == 2


def test_a_template_has_loaded_no_package_with_threads() -> None:
    program = "import sys; from penstock.runners.local import template_main; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split()
    assert not {"numpy", "pandas", "polars", "pyarrow", "dask", "ray"} & set(loaded)


@task
def closes_everything(folder: str) -> None:
    """Look dead, but stay."""
    Path(folder, "pid").write_text(str(os.getpid()))
    os.closerange(3, 1000)
    threading.Event().wait()


def test_a_worker_that_closes_all_its_descriptors_is_a_lost_one(runner: ProcessRunner, tmp_path: Path) -> None:
    with pytest.raises(WorkerLost, match="killed by signal 9"):
        flow(runner=runner)(lambda: closes_everything(str(tmp_path)))()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@task
def hashed_here_and_in_a_fork() -> list[str]:
    """Hash with several cores, and with what a forked child gets then, which would hang if that were several, too."""
    data = b"x" * (2 * PARALLEL_BYTES)
    here = new_hash(nbytes=len(data)).update(data).hexdigest()
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, new_hash(nbytes=len(data)).update(data).hexdigest().encode())
        os._exit(0)
    os.waitpid(child, 0)
    return [here, os.read(reading, 1000).decode()]


def test_workers_and_their_children_hash_large_values(runner: ProcessRunner) -> None:
    here, there = flow(runner=runner)(lambda: hashed_here_and_in_a_fork())()
    assert here == there == new_hash(nbytes=1).update(b"x" * (2 * PARALLEL_BYTES)).hexdigest()
