"""What `import penstock` costs, and what it leaves alone."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.tables import Line, at_most, seconds

HEAVY = ("dask", "ray", "redis", "pyarrow", "pandas", "numpy")


def run() -> list[Line]:
    _python("import penstock")
    bare = seconds(lambda: _python("pass"), times=7)
    ours = seconds(lambda: _python("from penstock import flow, task"), times=7)
    code = f"import sys; from penstock import flow, task; print([m for m in {HEAVY} if m in sys.modules])"
    loaded = _python(code).strip()
    return [
        at_most("from penstock import flow, task, beyond a bare interpreter", ours - bare, 0.2, "s"),
        Line("heavy packages it imports", loaded, "= []", loaded == "[]"),
    ]


def _python(code: str) -> str:
    # As on any user's machine: byte code is kept from one start to the next.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    return done.stdout
