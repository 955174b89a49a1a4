"""A flow to interrupt: `python interrupted.py FOLDER RUNNER [RUN_ID]`. A run id resumes that run.

Some tasks finish at once; the others hold locks and run until the file `go` exists.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from penstock import DEFAULT, INPUTS, flow, task
from penstock.locks import FileSystemLockManager
from penstock.runners import runner_from
from penstock.settings import load_settings
from penstock.transactions import IsolationLevel

FOLDER = Path(sys.argv[1])
SHARED = INPUTS.configure(
    isolation_level=IsolationLevel.SERIALIZABLE, lock_manager=FileSystemLockManager(FOLDER / "locks")
)


@task(cache_policy=DEFAULT)
def quick(folder: str, n: int) -> int:
    os.close(os.open(f"{folder}/quick-{n}", os.O_CREAT | os.O_EXCL))
    return n


@task(cache_policy=SHARED)
def slow(folder: str, n: int) -> int:
    Path(folder, f"slow-{n}-{os.getpid()}").touch()
    try:
        while not Path(folder, "go").exists():
            time.sleep(0.005)
    finally:
        Path(folder, f"left-{n}-{os.getpid()}").touch()
    return n


@flow(runner=runner_from(f"{sys.argv[2]}?workers=2"))
def interrupted(folder: str) -> Any:
    return [quick(folder, n) for n in range(3)] + [slow(folder, n) for n in range(4)]


if __name__ == "__main__":
    settings = load_settings(overrides={"store": str(FOLDER / "store"), "lease_seconds": 30.0})
    if len(sys.argv) > 3:
        run = interrupted.resume(sys.argv[3], settings=settings)
    else:
        run = interrupted.run_with({"folder": str(FOLDER / "marks")}, settings=settings)
    print(json.dumps([run.result(), run.counts]))
