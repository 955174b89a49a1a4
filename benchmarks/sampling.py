"""One measurement in a process of its own, of the package in this checkout or in another."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.figures import Measured, from_json, measured, to_json

ROOT = Path(__file__).resolve().parent.parent
MEASUREMENTS = {
    "imports": "Import",
    "tracing": "Tracing and keys",
    "graphs": "Memory of large graphs",
    "warm": "Warm runs, local store",
    "workers": "Running, this machine",
    "tables_io": "Large results",
    "dask": "Flows on Dask, beside bare Dask",
    "ray": "Flows on Ray, beside bare Ray",
    "memory": "Memory of the driver, engines of this machine",
    "locks": "Locks in Redis and in files",
    "clusters": "Runs on many clusters that share their keys",
    "buckets": "A store in a bucket, real S3 server on this machine",
    "growth": "What grows with the work, as exponents",
    "large": "Results larger than a worker, in a bucket of a real S3 server on this machine",
}
QUICK = ("imports", "tracing", "warm", "workers", "tables_io")
"""Those that need a minute at most, and no server."""


def sample(name: str, root: Path = ROOT) -> Measured:
    """Take the figures of one measurement with `benchmarks` and `penstock` of a folder, in a new process.

    What a measurement leaves in its process, such as memory and threads, would be part of the next one's figures.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "figures.json")
        code = "import sys; from benchmarks.sampling import take; take(*sys.argv[1:])"
        subprocess.run(
            [sys.executable, "-c", code, name, str(file), str(root)],
            check=True,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        return from_json(file)[name]


def take(name: str, file: str, root: str) -> None:
    """In the new process."""
    import penstock

    assert Path(penstock.__file__).is_relative_to(root), f"{penstock.__file__} is not the penstock of {root}"
    found = measured(MEASUREMENTS[name], lambda: importlib.import_module(f"benchmarks.{name}").run())
    to_json({name: found}, Path(file))
