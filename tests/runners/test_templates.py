"""Worker processes that are copies of a template process differ in nothing from new ones."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
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


def test_a_run_may_outlast_the_block_that_keeps_its_template(runner: ProcessRunner) -> None:
    before = templates()

    def leaves() -> list[int]:
        first = add(1, 1).result()  # type: ignore[attr-defined]
        runner.__exit__(None, None, None)
        return [first, add(2, 2), add(3, 3)]

    assert flow(runner=runner)(leaves)() == [2, 4, 6]
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


# -- drivers in odd states ---------------------------------------------------------------------------------------------

PROGRAM = """
import os, signal, subprocess, sys
from penstock import flow, task
from penstock.runners import ProcessRunner
from penstock.runners.local import template

template.ENDING_SECONDS = 3600  # whoever waits for this long hangs

@task
def add(a, b):
    return a + b

@task
def own(kind):
    if kind == "umask":
        before = os.umask(0)
        os.umask(before)
        return before
    return os.nice(0)

def leave_a_child():
    child = subprocess.Popen(["sleep", "1000"], close_fds=False)
    with open("children", "a") as file:
        file.write(f"{child.pid} ")

def end_children():
    with open("children") as file:
        for pid in file.read().split():
            os.kill(int(pid), signal.SIGKILL)

@task
def leaves_a_child(x):
    leave_a_child()
    return x

@task
def dies_with_a_child():
    leave_a_child()
    os._exit(3)

@task
def holds_the_gil():
    import re
    print(os.getpid(), flush=True)
    re.match("(a+)+$", "a" * 60 + "b")

def adds(runner, count=3):
    return flow(runner=runner)(lambda: [add(n, 1) for n in range(count)])()
"""


def said(folder: Path, program: str, shell: str = "") -> str:
    """Run a program and return what it wrote to the file `out`. It must not print anything itself."""
    (folder / "program.py").write_text(PROGRAM + textwrap.dedent(program))
    command = f"exec {sys.executable} program.py {shell}"
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=110, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    return (folder / "out").read_text()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_drivers_may_have_closed_standard_streams(closed: str, tmp_path: Path) -> None:
    program = """
        with ProcessRunner(2) as runner:
            found = [adds(runner), adds(runner)]
        open("out", "w").write(str(found))
    """
    assert said(tmp_path, program, closed) == "[[1, 2, 3], [1, 2, 3]]"


def test_drivers_may_ignore_the_ends_of_their_children(tmp_path: Path) -> None:
    program = """
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        with ProcessRunner(2) as runner:
            open("out", "w").write(str([adds(runner), adds(runner)]))
    """
    assert said(tmp_path, program) == "[[1, 2, 3], [1, 2, 3]]"


def test_entries_of_the_import_path_may_be_paths(tmp_path: Path) -> None:
    program = """
        import pathlib
        sys.path.append(pathlib.Path("here"))
        open("out", "w").write(str(adds(ProcessRunner(1))))
    """
    assert said(tmp_path, program) == "[1, 2, 3]"


def test_modules_of_the_current_folder_do_not_replace_those_of_the_standard_library(tmp_path: Path) -> None:
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / "json.py").write_text("raise RuntimeError('imported from the current folder')\n")
    program = """
        os.chdir("cwd")
        found = adds(ProcessRunner(1))
        open("../out", "w").write(str(found))
    """
    assert said(tmp_path, program) == "[1, 2, 3]"


def test_a_run_does_not_wait_for_programs_that_a_task_leaves_behind(tmp_path: Path) -> None:
    program = """
        open("out", "w").write(str(flow(runner=ProcessRunner(1))(lambda: leaves_a_child(3))()))
        end_children()
    """
    assert said(tmp_path, program) == "3"


def test_a_worker_that_died_is_noticed_though_a_program_of_its_task_runs(tmp_path: Path) -> None:
    program = """
        from penstock.errors import WorkerLost
        try:
            flow(runner=ProcessRunner(1))(lambda: dies_with_a_child())()
        except WorkerLost as error:
            open("out", "w").write(error.because)
        end_children()
    """
    assert said(tmp_path, program) == "it exited with status 3"


def test_a_run_does_not_wait_for_processes_that_the_driver_has_forked_meanwhile(tmp_path: Path) -> None:
    program = """
        children = []

        def forks():
            first = add(1, 1).result()
            children.append(os.fork())
            if children[-1] == 0:
                signal.pause()
            return first, add(2, 2)

        with ProcessRunner(2) as runner:
            found = flow(runner=runner)(forks)()
        open("out", "w").write(str(found))
        os.kill(children[0], signal.SIGKILL)
    """
    assert said(tmp_path, program) == "(2, 4)"


@pytest.mark.parametrize(("kind", "change", "seen"), [("umask", "os.umask(0o77)", 0o77), ("nice", "os.nice(3)", 3)])
def test_workers_inherit_what_the_driver_is_at_their_start(kind: str, change: str, seen: int, tmp_path: Path) -> None:
    program = f"""
        with ProcessRunner(1) as runner:
            before = flow(runner=runner)(lambda: own({kind!r}))()
            {change}
            after = flow(runner=runner)(lambda: own({kind!r}))()
        open("out", "w").write(str(after - (before if {kind!r} == "nice" else 0)))
    """
    assert int(said(tmp_path, program)) == seen


def test_killed_templates_leave_no_tracebacks(tmp_path: Path) -> None:
    program = """
        import psutil
        found = []
        with ProcessRunner(2) as runner:
            for _ in range(3):
                found.append(adds(runner))
                for each in psutil.Process().children():
                    each.kill()
            found.append(adds(runner))
        assert psutil.Process().children() == []
        open("out", "w").write(str(found))
    """
    assert said(tmp_path, program) == str([[1, 2, 3]] * 4)


def test_workers_in_c_code_end_with_their_driver(tmp_path: Path) -> None:
    import psutil

    (tmp_path / "program.py").write_text(PROGRAM + "flow(runner=ProcessRunner(1))(lambda: holds_the_gil())()\n")
    command = [sys.executable, "program.py"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        worker = psutil.Process(int(driver.stdout.readline()))
        driver.kill()
        psutil.wait_procs([worker], timeout=100)
        assert not worker.is_running()
