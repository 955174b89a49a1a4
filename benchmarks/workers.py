"""What running costs: a plain call beside a bare pool, a cached call beside joblib.Memory."""

from __future__ import annotations

import itertools
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import joblib

from benchmarks.tables import Line, at_most, seconds
from penstock import INPUTS, TASK_SOURCE, flow, load_settings, task

CALLS = 1_000


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
        settings = load_settings(overrides={"store": f"{folder}/store", "runner": "threads?workers=1"})
        stores = itertools.count()

        def cold() -> None:
            fresh = settings.with_values(store=f"{folder}/store{next(stores)}")
            cached.run_with({"n": CALLS}, settings=fresh).result()

        bare = seconds(_bare_pool)
        uncached = seconds(lambda: plain.run_with({"n": CALLS}, settings=settings).result())
        chain = seconds(lambda: chained.run_with({"n": CALLS}, settings=settings).result())
        stored = seconds(cold)
        by_hand = seconds(lambda: _synced_by_hand(folder)) / 200
        peer = seconds(lambda: _joblib_cold(f"{folder}/joblib{next(stores)}"))
    each = 1e6 / CALLS
    return [
        Line("thread pool of concurrent.futures, one call", f"{bare * each:.1f} µs"),
        Line("plain task in a flow, one call", f"{uncached * each:.1f} µs"),
        Line("plain tasks in a chain, one link", f"{chain * each:.1f} µs"),
        at_most("cached task, run and published durably, one call", stored * each / 1000, 1, "ms"),
        Line("  a file, its link, folder and parent folder synced by hand", f"{by_hand * 1000:.2f} ms"),
        Line("joblib.Memory, run and stored (not synced to disk), one call", f"{peer * each / 1000:.2f} ms"),
    ]


def _synced_by_hand(folder: str) -> None:
    """200 times what any durable put-if-absent in a folder of its own needs: the disk's part of the figure above."""
    base = tempfile.mkdtemp(dir=folder)
    for i in range(200):
        own = f"{base}/{i}"
        os.mkdir(own)
        file = os.open(f"{base}/new", os.O_CREAT | os.O_WRONLY)
        os.write(file, b"x" * 500)
        os.fsync(file)
        os.close(file)
        os.link(f"{base}/new", f"{own}/record")
        os.unlink(f"{base}/new")
        for path in (own, base):
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)


def _bare_pool() -> None:
    with ThreadPoolExecutor(1) as pool:
        for future in [pool.submit(work, i) for i in range(CALLS)]:
            future.result()


def _joblib_cold(folder: str) -> None:
    memory = joblib.Memory(folder, verbose=0).cache(work)
    for i in range(CALLS):
        memory(i)
