"""A folder for flows, and two ways to call the command line: in this process and in a new one."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from click.testing import CliRunner, Result

from penstock.cli.main import main

FLOWS = """
    import datetime as dt
    import time
    from pathlib import Path

    from penstock import INPUTS, TASK_SOURCE, flow, task

    HERE = Path(__file__).parent


    @task(cache_policy=INPUTS + TASK_SOURCE)
    def features(day: dt.date, n: int) -> int:
        return day.day * n


    @task(cache_policy=INPUTS + TASK_SOURCE)
    def train(values: list[int]) -> int:
        return sum(values)


    @task(cache_policy=INPUTS + TASK_SOURCE)
    def fragile(n: int) -> float:
        return divide(n)


    def divide(n):
        if (HERE / "broken").exists():
            return 1 / (n - n)
        return 1.0


    @task(cache_policy=INPUTS + TASK_SOURCE)
    def step(n: int) -> int:
        # Announces itself, then waits for as long as the test wants.
        (HERE / f"started-{n}").touch()
        while n and not (HERE / "go").exists():
            time.sleep(0.01)
        return n


    @flow
    def weekly(days: list[dt.date], n: int = 2) -> int:
        return train([features(day, n) for day in days])


    @flow
    def shaky(n: int = 1) -> float:
        return fragile(train([n]))


    @flow
    def steps(count: int = 2) -> list[int]:
        print("a flow may print")
        return [step(n) for n in range(count)]


    @flow
    def careless():
        raise LookupError("no such thing")


    if __name__ == "__main__":
        print(weekly([dt.date(2024, 1, 1)]))
"""


class Write(Protocol):
    def __call__(self, name: str, text: str) -> Path: ...


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The empty working folder. Modules imported from it are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    modules, path = set(sys.modules), list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def write(folder: Path) -> Write:
    """Write a file into the working folder."""

    def write(name: str, text: str) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write


@pytest.fixture
def flows(write: Write) -> Path:
    """The file `pipelines.py` in the working folder."""
    return write("pipelines.py", FLOWS)


@pytest.fixture
def call(folder: Path) -> Callable[..., Result]:
    """Run `penstock ...` in this process."""

    def call(*words: str, **options: Any) -> Result:
        return _invoked(list(words), **options)

    return call


class _Output(Result):
    """Both streams, separate and combined, as in click 8.2 and later."""

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


def _invoked(words: list[str], **options: Any) -> Result:
    if "mix_stderr" not in inspect.signature(CliRunner).parameters:
        return CliRunner().invoke(main, words, **options)
    done = CliRunner(mix_stderr=False).invoke(main, words, **options)  # type: ignore[call-arg, unused-ignore]
    done.__class__ = _Output
    return done


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Run `python ...` as a new process in the working folder, without a terminal."""
    processes: list[subprocess.Popen[str]] = []

    def start(*words: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def penstock(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python -m penstock ...` to its end."""

    def penstock(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = start("-m", "penstock", *words, **environment)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    return penstock
