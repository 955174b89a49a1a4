"""A module that runs a flow on other processes at its import does not start processes without end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from penstock.testing.runners.kills import children_named

pytestmark = pytest.mark.slow

MODULE = """
from penstock import flow, task
from penstock.runners import DaskRunner, ProcessRunner

class Row:
    pass

@task
def double(x):
    return 2 * x

@task
def row():
    return Row()

@task
def kind(x):
    return type(x).__name__

@flow
def doubles(n):
    return [double(x) for x in range(n)]

RUNNER = {runner}
if {when}:
    print(doubles.with_options(runner=RUNNER)(3), flush=True)
"""
ALWAYS, IN_WORKERS = (
    "True",
    "'__main__' in dir() or __import__('os').environ.get('DRIVER') != str(__import__('os').getpid())",
)
EXPLAINED = "doubles was called while a worker imported the module of a task or a value"


def outcome(folder: Path, module: str, main: str) -> tuple[int, str]:
    (folder / "lots.py").write_text(module)
    (folder / "main.py").write_text(main)
    command = [sys.executable, str(folder / "main.py")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "runner", ["ProcessRunner(2)", pytest.param("DaskRunner(workers=2)", marks=pytest.mark.needs("distributed"))]
)
def test_a_flow_called_at_the_import_of_a_module_is_refused_in_workers(runner: str, tmp_path: Path) -> None:
    code, said = outcome(
        tmp_path, MODULE.format(runner=runner, when=ALWAYS), "if __name__ == '__main__':\n    import lots\n"
    )
    assert code != 0
    assert EXPLAINED in said
    assert '__name__ == "__main__"' in said


@pytest.mark.needs("psutil")
def test_a_class_of_a_value_may_not_run_a_flow_at_its_import_either(tmp_path: Path) -> None:
    before = set(children_named("template_main"))
    main = """
import os
os.environ["DRIVER"] = str(os.getpid())
import lots
from penstock import flow
print(flow(runner=lots.RUNNER)(lambda: lots.kind(lots.row()))())
"""
    code, said = outcome(tmp_path, MODULE.format(runner="ProcessRunner(2)", when=IN_WORKERS), main)
    assert code != 0
    assert EXPLAINED in said
    assert set(children_named("template_main")) <= before


def test_flows_called_at_the_import_may_run_in_threads(tmp_path: Path) -> None:
    main = """
import lots
from penstock import flow
from penstock.runners import ProcessRunner
print(lots.doubles.with_options(runner=ProcessRunner(1))(4))
"""
    code, said = outcome(tmp_path, MODULE.format(runner='"threads"', when=ALWAYS), main)
    assert code == 0, said
    assert said.splitlines()[-1] == "[0, 2, 4, 6]"


def test_a_guarded_script_runs_on_processes(tmp_path: Path) -> None:
    guarded = MODULE.format(runner="ProcessRunner(2)", when="__name__ == '__main__'")
    code, said = outcome(tmp_path, guarded, guarded)
    assert code == 0, said
    assert said.splitlines()[-1] == "[0, 2, 4]"
