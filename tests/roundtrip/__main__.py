"""`python -m tests.roundtrip [GROUP…]`: how each value of the table is stored, and whether reading restores it.

One process stores each value. Another one, which has only imported the task's module, reads it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from tests.roundtrip import values_python

OTHERS = {
    "json": "anything",
    "json/typed": "anything that reads JSON",
    "npy": "numpy and readers of .npy",
    "parquet": "anything that reads Parquet",
    "parts": "each part by its format",
    "pickle": "Python with the same packages",
}


def main(groups: list[str]) -> int:
    """Print the table. Return 1 if a value differs."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PENSTOCK_STORE": folder, "PENSTOCK_HOME": f"{folder}/home"}
        wanted = [(group, name) for group in groups for name in values_python.NEEDS[group][0]()]
        rows, found = run_step("store", wanted, environment), run_step("read", wanted, environment)
    for row, problem in zip(rows, found, strict=True):
        said = "same" if problem is None else f"DIFFERS: {problem or 'itself'}"
        name = f"{row['group']}: {row['name']}"
        print(f"{name:<48} {row['codec']:<14} {row['size']:>8}  {others(row['codec']):<30} {said}")
    differ = sum(problem is not None for problem in found)
    print(f"{len(rows)} values, {differ} differ")
    return min(differ, 1)


def others(codec: str) -> str:
    """Return the other programs that can read a codec."""
    return OTHERS.get(codec) or OTHERS.get(codec.partition("/")[0]) or "?"


def run_step(step: str, given: Any, environment: dict[str, str]) -> Any:
    """Return what a new process prints for its step."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.roundtrip.steps", step],
        env=environment,
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(values_python.NEEDS)))
