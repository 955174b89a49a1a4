"""`python -m benchmarks [NAME …]`: run the measurements and print each figure beside its promise."""

from __future__ import annotations

import importlib
import os
import platform
import sys

from benchmarks.tables import show

MEASUREMENTS = {
    "imports": "Import",
    "tracing": "Tracing and keys",
    "warm": "Warm runs, local store",
    "workers": "Running, this machine",
    "tables_io": "Large results",
    "dask": "Flows on Dask, beside bare Dask",
    "ray": "Flows on Ray, beside bare Ray",
    "memory": "Memory of the driver, engines of this machine",
    "locks": "Locks in Redis",
    "clusters": "Runs on many clusters that share their keys",
    "buckets": "A store in a bucket, real S3 server on this machine",
    "growth": "What grows with the work, as exponents",
    "large": "Results larger than a worker, in a bucket of a real S3 server on this machine",
}


def main() -> None:
    names = sys.argv[1:] or list(MEASUREMENTS)
    unknown = [name for name in names if name not in MEASUREMENTS]
    if unknown:
        sys.exit(f"no measurement is called {unknown[0]}; there are {', '.join(MEASUREMENTS)}")
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}")
    for name in names:
        show(MEASUREMENTS[name], importlib.import_module(f"benchmarks.{name}").run())


if __name__ == "__main__":
    main()
