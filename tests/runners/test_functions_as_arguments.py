"""Functions among the arguments of cached calls: on every runner, with the keys that the driver computes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import dataclasses, functools, sys
from penstock import INPUTS, flow, task

@dataclasses.dataclass
class Adds:
    k: int
    def to(self, x): return x + self.k

@task(cache_policy=INPUTS)
def apply(fn, x): return fn(x)

@task(cache_policy=INPUTS)
def apply_all(fns, x): return [fn(x) for fn in fns]

@task(cache_policy=INPUTS)
def one(): return 1

def add(k, x): return x + k

@flow
def every(k):
    return [
        apply(Adds(k).to, 1),
        apply(functools.partial(add, k), 1),
        apply(lambda x: add(1, x), 1),
        apply(lambda x: x + k, 1),
        apply(lambda x: x + k, one()),
        apply_all([lambda x: x + k], 1),
    ]

if __name__ == "__main__":
    for _ in range(2):
        run = every.run(1)
        print([getattr(each, "result", lambda: each)() for each in run.result()], run.counts["executed"])
"""


@pytest.mark.parametrize(
    "runner",
    [
        "threads",
        pytest.param("processes?workers=1", marks=pytest.mark.slow),
        pytest.param("dask?workers=1", marks=[pytest.mark.slow, pytest.mark.needs("dask", "distributed")]),
        pytest.param("ray?workers=1", marks=[pytest.mark.slow, pytest.mark.in_ci, pytest.mark.needs("ray")]),
    ],
)
def test_functions_among_the_arguments_of_a_script_run_and_are_hits(tmp_path: Path, runner: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {"PENSTOCK_STORE": str(tmp_path / "store"), "PENSTOCK_RUNNER": runner}
    done = [
        subprocess.run(
            [sys.executable, str(script)],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | environment,
        )
        for _ in range(2)
    ]
    values = "[2, 2, 2, 2, 2, [2]]"
    assert done[0].stdout.splitlines() == [f"{values} 6", f"{values} 0"], done[0].stderr
    assert done[1].stdout.splitlines() == [f"{values} 0", f"{values} 0"], done[1].stderr
