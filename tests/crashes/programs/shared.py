"""Processes that share serializable keys.

python shared.py FOLDER race PROCESSES KEYS      all at once; print what each got, as JSON
python shared.py FOLDER hold LEASE_SECONDS       hold one key until the file `go-PID` exists; print the value
python shared.py FOLDER collect SECONDS          run flows next to a garbage collector without a grace period
"""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from penstock import INPUTS, flow, task
from penstock.locks import FileSystemLockManager
from penstock.runners import ThreadRunner
from penstock.settings import load_settings
from penstock.storage import open_store
from penstock.storage.results import maintenance
from penstock.storage.results.store import ResultStore
from penstock.transactions import IsolationLevel

FOLDER = Path(sys.argv[1])
ROUNDS = 4
LEASE_SECONDS = float(sys.argv[3]) if sys.argv[2] == "hold" else 10.0
SHARED = INPUTS.configure(
    isolation_level=IsolationLevel.SERIALIZABLE,
    lock_manager=FileSystemLockManager(FOLDER / "locks", lease_seconds=LEASE_SECONDS),
)


def mark(name: str) -> None:
    os.close(os.open(FOLDER / "marks" / f"{name}@{os.getpid()}", os.O_CREAT | os.O_EXCL))


def settings() -> Any:
    return load_settings(overrides={"store": str(FOLDER / "store")})


@task(cache_policy=SHARED)
def once(n: int) -> list[Any]:
    mark(f"once {n}")
    time.sleep(0.002)
    return [n, os.getpid(), time.monotonic_ns()]


@flow(runner=ThreadRunner(4))
def race(order: list[int]) -> Any:
    return {str(n): once(n) for n in order}


@task(cache_policy=SHARED)
def held(n: int) -> int:
    mark("held")
    while not (FOLDER / f"go-{os.getpid()}").exists():
        time.sleep(0.005)
    return os.getpid()


@flow(runner=ThreadRunner(1))
def hold() -> Any:
    return held(1)


@task(cache_policy=INPUTS)
def words(number: int, n: int) -> str:
    return f"{number} {n} " * 5000


@task(cache_policy=SHARED)
def count(text: str, n: int) -> int:
    return len(text.split()) + n


@flow(runner=ThreadRunner(4))
def busy(number: int) -> Any:
    return [count(words(number, n), n) for n in range(6)]


def in_children(bodies: list[Callable[[], Any]]) -> list[Any]:
    """Run the functions in forked processes at the same time, and return what each returns."""
    pids = []
    for number, body in enumerate(bodies):
        pid = os.fork()
        if not pid:
            try:
                answer = {"value": body()}
            except BaseException:  # noqa: BLE001 (a forked child must end here, whatever happens)
                answer = {"error": traceback.format_exc()}
            (FOLDER / f"answer-{number}").write_text(json.dumps(answer))
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    return [json.loads((FOLDER / f"answer-{number}").read_text()) for number in range(len(bodies))]


def racer(seed: int, keys: int) -> Any:
    order = list(range(keys))
    random.Random(seed).shuffle(order)
    run = race.run_with({"order": order}, settings=settings())
    return {"values": run.result(), "executed": run.counts["executed"]}


def rounds(name: str, seconds: float) -> Iterator[int]:
    """Yield numbers until the time is up and all three have had enough rounds, or until one of them has ended."""
    deadline, mine = time.monotonic() + seconds, FOLDER / f"rounds-{name}"
    for number in itertools.count():
        with mine.open("ab") as file:
            file.write(b"." if number else b"")
        everybody = [path.stat().st_size for path in FOLDER.glob("rounds-*")]
        enough = len(everybody) == 3 and min(everybody) >= ROUNDS
        if (enough and time.monotonic() > deadline) or any(FOLDER.glob("answer-*")):
            return
        yield number


def writer(parity: int, seconds: float) -> int:
    """Run a writer. Two of them use the same numbers, so that each meets what the other is writing."""
    number = 0
    for number in rounds(f"writer-{parity}", seconds):
        expected = [10_000 + n for n in range(6)]
        assert busy.run_with({"number": number // 2}, settings=settings()).result() == expected, (parity, number)
    return number + 1


def collector(seconds: float) -> int:
    results = ResultStore(open_store(str(FOLDER / "store")))
    times = 0
    for _ in rounds("collector", seconds):
        maintenance.gc(results, grace_seconds=0)
        assert maintenance.verify(results).problems == []
        times += 1
    return times


def main() -> Any:
    mode = sys.argv[2]
    if mode == "race":
        processes, keys = int(sys.argv[3]), int(sys.argv[4])
        return in_children([lambda seed=seed: racer(seed, keys) for seed in range(processes)])
    if mode == "hold":
        return hold.run_with({}, settings=settings()).result()
    seconds = float(sys.argv[3])
    return in_children([lambda: writer(0, seconds), lambda: writer(1, seconds), lambda: collector(seconds)])


if __name__ == "__main__":
    (FOLDER / "marks").mkdir(exist_ok=True)
    print(json.dumps(main()))
