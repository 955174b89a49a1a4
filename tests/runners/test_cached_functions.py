"""Functions wrapped in `functools.lru_cache` reach workers: by name from modules, otherwise with their code."""

from __future__ import annotations

import functools
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.objects.live import dumps


@functools.lru_cache
def of_a_module(n: int) -> int:
    return n


def test_a_cached_function_of_a_module_is_pickled_by_its_name() -> None:
    assert pickle.loads(dumps(of_a_module)) is of_a_module


def test_a_local_cached_function_is_pickled_with_its_content() -> None:
    def make(step: int) -> Callable[[int], int]:
        @functools.lru_cache(maxsize=7)
        def add(n: int) -> int:
            return n + step

        return add

    again = pickle.loads(dumps(make(2)))
    assert again(3) == 5
    assert again.cache_parameters() == {"maxsize": 7, "typed": False}


SCRIPT = """
    import functools
    from penstock import INPUTS, TASK_CODE, flow, task
    from penstock.runners import ProcessRunner

    @functools.cache
    def fibonacci(n):
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    @task(cache_policy=INPUTS + TASK_CODE)
    def number(n):
        return fibonacci(n)

    @flow(runner=ProcessRunner(1))
    def numbers():
        return number(80)

    if __name__ == "__main__":
        print(numbers())
"""


@pytest.mark.slow
def test_a_cached_recursive_function_of_a_script_runs_on_workers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.split() == ["23416728348467685"]
