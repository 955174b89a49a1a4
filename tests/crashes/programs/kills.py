"""Kill a flow that writes results of every kind at random moments, and check the next run.

    python kills.py FOLDER COUNT SEED

Print a line of JSON for each kill. The flow runs in forked children, where everything is already imported.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from penstock import DEFAULT, INPUTS, events, flow, task
from penstock.journals.journal import list_records
from penstock.runners import ThreadRunner
from penstock.settings import load_settings
from penstock.storage import open_store
from penstock.storage.results import maintenance
from penstock.storage.results.store import ResultStore
from penstock.transactions import IsolationLevel

SERIALIZABLE = INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE)


class Model:
    """A value that only pickle can store."""

    def __init__(self, weights: list[float]) -> None:
        self.weights = weights


def mark(label: str) -> None:
    path = os.path.join(os.environ["MARKS"], f"{label}@{os.getpid()}-{time.monotonic_ns()}")
    os.close(os.open(path, os.O_CREAT | os.O_EXCL))


@task(cache_policy=INPUTS)
def number(n: int) -> int:
    mark(f"number {n}")
    return n * n


@task(cache_policy=INPUTS)
def text(n: int) -> str:
    mark(f"text {n}")
    return "0123456789" * 1000 * n


@task(cache_policy=INPUTS)
def array(n: int) -> Any:
    mark(f"array {n}")
    return np.arange(n * 1000, dtype=np.float64)


@task(cache_policy=SERIALIZABLE)
def frame(values: Any) -> Any:
    mark("frame")
    return pd.DataFrame({"x": values, "name": [f"row {int(v)}" for v in values]})


@task(cache_policy=SERIALIZABLE)
def table(data: Any) -> Any:
    mark("table")
    return pa.table({"x": data["x"].to_numpy()})


@task
def plain(n: int) -> int:
    mark("plain")
    return n + 1


@task(cache_policy=DEFAULT)
def of_this_run(n: int) -> int:
    mark("of_this_run")
    return n * 10


@task(cache_policy=SERIALIZABLE)
def model(data: Any, factor: int) -> Any:
    mark(f"model {factor}")
    return Model([float(data.column("x")[i].as_py()) * factor for i in range(5)])


@task(cache_policy=INPUTS)
def summary(models: list[Any], words: str, numbers: list[int]) -> dict[str, Any]:
    mark("summary")
    return {"weights": [m.weights for m in models], "length": len(words), "numbers": numbers}


@flow(runner=ThreadRunner(2))
def pipeline() -> Any:
    numbers = [number(n) for n in range(3)]
    data = table(frame(array(2)))
    kept = of_this_run(plain(1))
    models = [model(data, kept), model(data, numbers[2])]
    return summary(models, text(2), [*numbers, kept])


TASKS = 12
EXPECTED = {"weights": [[0.0, 20.0, 40.0, 60.0, 80.0], [0.0, 4.0, 8.0, 12.0, 16.0]], "length": 20_000,
            "numbers": [0, 1, 4, 20]}  # fmt: skip


def in_child(body: Any, *args: Any) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        body(*args)
        os._exit(0)
    except BaseException:  # noqa: BLE001 (a forked child must end here, whatever happens)
        traceback.print_exc()
        os._exit(1)


def settings_for(store: Path) -> Any:
    # On Linux a dead process is noticed at once; elsewhere, others wait for its lease to expire.
    lease = 60.0 if sys.platform == "linux" else 5.0
    return load_settings(cwd=store.parent, overrides={"store": str(store), "lease_seconds": lease})


def run_once(store: Path) -> None:
    assert pipeline.run_with({}, settings=settings_for(store)).result() == EXPECTED


def run_again(store: Path, report: Path) -> None:
    """Run again after the kill: resume the killed run if it was recorded."""
    settings = settings_for(store)
    results = ResultStore(open_store(str(store)))
    before = {(found.task, found.key) for found in maintenance.ls(results)}
    marked = set(os.listdir(os.environ["MARKS"]))
    broken = [problem.what for problem in maintenance.verify(results).problems]
    seen: list[Any] = []
    killed = next((record.id for record in list_records(open_store(str(store)))), None)
    options: dict[str, Any] = {"settings": settings, "subscribers": [seen.append]}
    run = pipeline.run_with({}, **options) if killed is None else pipeline.resume(killed, **options)
    executed = [e for e in seen if isinstance(e, events.NodeFinished) and e.how == "executed"]
    names = {run.graph[e.node].name: run.graph[e.node].entry.task.identity for e in executed}
    again = [e.task for e in executed if (names[e.task], e.key) in before]
    new_marks = sorted(
        name.partition("@")[0].partition(" ")[0] for name in set(os.listdir(os.environ["MARKS"])) - marked
    )
    third = pipeline.resume(run.id, settings=settings)
    maintenance.gc(results, grace_seconds=0)
    after = maintenance.verify(results)
    broken += [problem.what for problem in after.problems] + ["an orphan outlived gc"] * after.orphans
    fourth = pipeline.resume(run.id, settings=settings)
    report.write_text(
        json.dumps(
            {
                "resumed": killed is not None,
                "published_before": len(before),
                "executed": len(executed),
                "again": again,
                "marks_agree": new_marks == sorted(e.task for e in executed),
                "right": all(each.result() == EXPECTED for each in (run, third, fourth)),
                "executed_later": third.counts["executed"] + fourth.counts["executed"],
                "broken": broken,
            }
        )
    )


def fresh(folder: Path, number: int) -> Path:
    place = folder / str(number)
    (place / "marks").mkdir(parents=True)
    os.environ["MARKS"] = str(place / "marks")
    return place


def wait_for_marks(folder: Path, count: int, pid: int) -> None:
    """Return when that many tasks have started or the process has ended."""
    while len(os.listdir(folder)) < count:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.0005)


def import_what_runs_import(folder: Path) -> None:
    """Import everything that Penstock imports only on use, so that each child does not have to."""
    place = fresh(folder, -9)
    names = place / "modules"

    def both_runs() -> None:
        before = set(sys.modules)
        run_once(place / "store")
        run_again(place / "store", place / "report")
        names.write_text("\n".join(name for name in sys.modules if name not in before))

    _, status = os.waitpid(in_child(both_runs), 0)
    assert status == 0
    for name in names.read_text().splitlines():
        with contextlib.suppress(ImportError):  # an alias made by a module
            importlib.import_module(name)
    gc.freeze()  # garbage collection in a child would copy all of this memory


def measure(folder: Path) -> float:
    """Return the seconds that a whole run takes now."""
    taken = []
    for number in range(3):
        place = fresh(folder, -1 - number)
        started = time.perf_counter()
        _, status = os.waitpid(in_child(run_once, place / "store"), 0)
        taken.append(time.perf_counter() - started)
        assert status == 0
    return sorted(taken)[1]


def main(folder: Path, count: int, seed: int) -> None:
    rng = random.Random(seed)
    import_what_runs_import(folder)
    step = measure(folder) / TASKS
    begun = [number % (TASKS + 1) for number in range(count)]  # so that kills hit every part of a run
    rng.shuffle(begun)
    for number in range(count):
        place = fresh(folder, number)
        moment = rng.uniform(0, step)
        pid = in_child(run_once, place / "store")
        wait_for_marks(place / "marks", begun[number], pid)
        time.sleep(moment)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        _, status = os.waitpid(in_child(run_again, place / "store", place / "report"), 0)
        found = json.loads((place / "report").read_text()) if status == 0 else {"status": status}
        print(json.dumps({"number": number, "begun": begun[number], "moment": moment, **found}), flush=True)
        shutil.rmtree(place, ignore_errors=status == 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
