"""What `import penstock` costs, and what it leaves alone."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.tables import Line, at_most, seconds

HEAVY = ("dask", "ray", "redis", "pyarrow", "pandas", "numpy")


def run() -> list[Line]:
    bare = seconds(lambda: _python("pass"), times=7)
    ours = seconds(lambda: _python("import penstock"), times=7)
    loaded = _python(f"import sys, penstock; print([m for m in {HEAVY} if m in sys.modules])").strip()
    return [
        at_most("import penstock, beyond a bare interpreter", ours - bare, 0.2, "s"),
        Line("heavy packages it imports", loaded, "= []", loaded == "[]"),
    ]


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
