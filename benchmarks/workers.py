"""What running costs: a plain call beside a bare pool, a cached call beside joblib.Memory."""

from __future__ import annotations

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import joblib

from benchmarks.tables import Line, at_most, seconds
from penstock import INPUTS, TASK_SOURCE, flow, load_settings, task

CALLS = 2_000


def work(x: int) -> int:
    return x + 1


plain_work = task(name="plain_work")(work)
cached_work = task(name="cached_work", cache_policy=INPUTS + TASK_SOURCE)(work)


@flow
def plain(n: int) -> None:
    for i in range(n):
        plain_work(i)


@flow
def cached(n: int) -> None:
    for i in range(n):
        cached_work(i)


@flow
def chained(n: int) -> Any:
    x = plain_work(0)
    for _ in range(n - 1):
        x = plain_work(x)
    return x


def run() -> list[Line]:
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(overrides={"store": f"{folder}/store", "runner": "threads?workers=2"})

        def cold() -> None:
            shutil.rmtree(f"{folder}/store", ignore_errors=True)
            cached.run_with({"n": CALLS}, settings=settings).result()

        bare = seconds(_bare_pool)
        uncached = seconds(lambda: plain.run_with({"n": CALLS}, settings=settings).result())
        chain = seconds(lambda: chained.run_with({"n": CALLS}, settings=settings).result())
        stored = seconds(cold)
        peer = seconds(lambda: _joblib_cold(f"{folder}/joblib"))
    each = 1e6 / CALLS
    return [
        Line("thread pool of concurrent.futures, one call", f"{bare * each:.1f} µs"),
        Line("plain task in a flow, one call", f"{uncached * each:.1f} µs"),
        Line("plain tasks in a chain, one link", f"{chain * each:.1f} µs"),
        at_most("cached task, run and published durably, one call", stored * each / 1000, 1, "ms"),
        Line("joblib.Memory, run and stored (not synced to disk), one call", f"{peer * each / 1000:.2f} ms"),
    ]


def _bare_pool() -> None:
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(work, i) for i in range(CALLS)]:
            future.result()


def _joblib_cold(folder: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    memory = joblib.Memory(folder, verbose=0).cache(work)
    for i in range(CALLS):
        memory(i)
