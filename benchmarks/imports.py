"""What `import penstock` costs, and what it leaves alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.figures import Figure, Spent, spend, timed

HEAVY = ("dask", "ray", "redis", "pyarrow", "pandas", "numpy")
TIMES = 9


def run() -> Iterator[Figure]:
    _python("import penstock")
    pairs = [(spend(lambda: _python("pass"), times=1), spend(_ours, times=1)) for _ in range(TIMES)]
    bare, ours = (Spent(tuple(p[n].wall[0] for p in pairs), tuple(p[n].cpu[0] for p in pairs)) for n in (0, 1))
    beyond = Spent(
        tuple(a - b for a, b in zip(ours.wall, bare.wall, strict=True)),
        tuple(a - b for a, b in zip(ours.cpu, bare.cpu, strict=True)),
    )
    yield timed("bare", "start of a bare interpreter", bare, better="beside", processor=True)
    yield timed("whole", "start of one that says from penstock import flow, task", ours, processor=True)
    yield timed("beyond", "  beyond a bare interpreter", beyond, promise=0.2, processor=True)
    code = f"import sys; from penstock import flow, task; print(sum(m in sys.modules for m in {HEAVY}))"
    yield Figure("heavy", f"  of {', '.join(HEAVY)} it imports", float(_python(code)), promise=0)


def _ours() -> None:
    _python("from penstock import flow, task")


def _python(code: str) -> str:
    # As on any user's machine: byte code is kept from one start to the next.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    return done.stdout
