"""What running costs: a plain call beside a bare pool, a cached call beside joblib.Memory."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import joblib

from benchmarks.figures import Figure, Spent, spend, timed
from penstock import INPUTS, TASK_SOURCE, flow, load_settings, task
from penstock.runners import ProcessRunner

CALLS = 1_000
BY_HAND = 200
RUNS = 20


def work(x: int) -> int:
    return x + 1


plain_work = task(name="plain_work")(work)
cached_work = task(name="cached_work", cache_policy=INPUTS + TASK_SOURCE)(work)


@flow
def plain(n: int) -> None:
    for i in range(n):
        plain_work(i)


magnitude = task(name="magnitude")(abs)  # for which workers import no module


@flow
def magnitudes(n: int) -> None:
    for i in range(n):
        magnitude(i)


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


def run() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(overrides={"store": f"{folder}/store", "runner": "threads?workers=1"})
        numbers = itertools.count()

        def cold() -> None:
            fresh = settings.with_values(store=f"{folder}/store{next(numbers)}")
            cached.run_with({"n": CALLS}, settings=fresh).result()

        def timed_call(name: str, what: str, spent: Spent, unit: str = "µs", **more: Any) -> Figure:
            return timed(name, what, spent, count=CALLS, unit=unit, **more)

        bare = spend(_bare_pool, times=5)
        yield timed_call("pool", "thread pool of concurrent.futures, one call", bare, better="beside", processor=True)
        uncached = spend(lambda: plain.run_with({"n": CALLS}, settings=settings).result(), times=5)
        yield timed_call("plain", "plain task in a flow, one call", uncached, processor=True)
        chain = spend(lambda: chained.run_with({"n": CALLS}, settings=settings).result(), times=5)
        yield timed_call("chain", "plain tasks in a chain, one link", chain, processor=True)
        stored = spend(cold)
        yield timed_call("cached", "cached task, run and published durably, one call", stored, "ms", promise=1)
        with _no_syncs():
            unsynced = spend(cold)
        yield timed_call("cached.unsynced", "  the same where no sync takes any time", unsynced, "ms", processor=True)
        by_hand = spend(lambda: _synced_by_hand(folder))
        what = "  a file, its link, folder and parent folder synced by hand"
        yield timed("by_hand", what, by_hand, count=BY_HAND, unit="ms", better="beside")
        peer = spend(lambda: _joblib_cold(f"{folder}/joblib{next(numbers)}"))
        what = "joblib.Memory, run and stored (not synced to disk), one call"
        yield timed_call("joblib", what, peer, "ms", better="beside", processor=True)
        started = spend(lambda: _on_processes(ProcessRunner(2), 1))
        yield timed("processes", "a run that starts two worker processes", started, unit="ms", processor=True)
        kept = spend(lambda: _in_one_block(RUNS))
        what = f"  one of {RUNS} such runs in a block of one runner"
        yield timed("processes.kept", what, kept, count=RUNS, unit="ms", processor=True)


def _in_one_block(runs: int) -> None:
    with ProcessRunner(2) as runner:
        _on_processes(runner, runs)


def _on_processes(runner: ProcessRunner, runs: int) -> None:
    for _ in range(runs):
        magnitudes.with_options(runner=runner)(4)


@contextmanager
def _no_syncs() -> Iterator[None]:
    """As on a disk that syncs at once: what is left of a figure is not the disk's."""
    names = [name for name in ("fsync", "fdatasync", "sync") if hasattr(os, name)]
    with ExitStack() as patches:
        for name in names:
            patches.enter_context(mock.patch.object(os, name, _at_once))
        yield


def _at_once(descriptor: int) -> None:
    """In the place of a sync."""


def _synced_by_hand(folder: str) -> None:
    """So many times what a durable put-if-absent in a folder of its own needs: the disk's part of the figure above."""
    base = tempfile.mkdtemp(dir=folder)
    for i in range(BY_HAND):
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
