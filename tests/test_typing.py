"""Type checkers see `Task[P, R]`: `mypy --strict` accepts correct code and rejects wrong code."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.needs("mypy"), pytest.mark.untraced]

CORRECT = """
from penstock import INPUTS, Future, flow, task, unmapped
from penstock.graph.futures import FutureList


@task(cache_policy=INPUTS)
def double(x: int, by: int = 2) -> int:
    return x * by


@task
def total(xs: list[int]) -> int:
    return sum(xs)


@task
async def fetched(x: int) -> str:
    return str(x)


@flow
def main(n: int) -> int:
    first: int = double(n)
    later: Future[int] = double.submit(n)
    after: Future[int] = double.submit(n, wait_for=[later])
    many: FutureList[int] = double.map([1, 2], by=unmapped(3))
    text: str = fetched.submit(n).result()
    texts: list[str] = fetched.map([1, 2]).result()
    if later.result() > 3 or text or texts:
        return total([first, double(1)])
    return total(many)


result: int = main(3)
run_result: int = main.run(3).result()
waits: int = main(3, wait_for=[])
raw: int = double.fn(1)
same: int = double.with_options(retries=2)(1)
"""

WRONG = """
from penstock import flow, task


@task
def double(x: int) -> int:
    return x * 2


@flow
def main(n: int) -> str:
    double("three")
    return double(n)
"""


LARGE = ["_pytest", "dask", "distributed", "hypothesis", "numpy", "pandas", "polars", "pyarrow", "pydantic", "ray"]
"""Packages that no type of a flow's own code depends on, and whose stubs take mypy ten times as long as Penstock."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of mypy for Penstock itself, which takes longest to check."""
    return tmp_path_factory.mktemp("mypy")


def check(code: str, folder: Path, cache: Path) -> tuple[str, int]:
    file = folder / "user.py"
    file.write_text(textwrap.dedent(code), encoding="utf-8")
    settings = folder / "mypy.ini"
    settings.write_text("[mypy]\n" + "".join(f"[mypy-{name}.*]\nfollow_imports = skip\n" for name in LARGE))
    # In a process of its own, because mypy raises the recursion limit.
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(settings)]
    command += ["--cache-dir", str(cache), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout, done.returncode


def test_correct_code_passes(tmp_path: Path, cache: Path) -> None:
    out, status = check(CORRECT, tmp_path, cache)
    assert status == 0, out


def test_wrong_arguments_and_results_are_reported(tmp_path: Path, cache: Path) -> None:
    out, status = check(WRONG, tmp_path, cache)
    assert status == 1
    assert 'No overload variant of "__call__" of "Task" matches argument type "str"' in out
    assert "Incompatible return value type" in out
