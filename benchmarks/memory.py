"""How much the driver grows while a flow makes results that it does not ask for."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psutil

from benchmarks.figures import Figure
from penstock import INPUTS, events, flow, load_settings, task
from penstock.runners import DaskRunner, RayRunner, Runner

VALUE_BYTES = 10 * 2**20
TOTAL_BYTES = 2 * 2**30
GROUP = 5
LIMIT_MB = 50.0


@task
def make(n: int, size: int) -> bytes:
    return n.to_bytes(8, "big") * (size // 8)


@task
def measure(values: list[bytes]) -> int:
    return sum(map(len, values))


def consume(total: int, *, cached: bool) -> int:
    """As the body of a flow: `total` bytes in values of 10 MB, consumed on the workers in groups, a few at a time."""
    made = make.with_options(cache_policy=INPUTS) if cached else make
    numbers = range(total // VALUE_BYTES)
    sizes: list[Any] = []
    for start in numbers[::GROUP]:
        # Some groups at a time, so that it fits into the memory of a small machine.
        wait = sizes[-3:-2]
        sizes.append(measure([made.submit(n, VALUE_BYTES, wait_for=wait) for n in numbers[start : start + GROUP]]))
    return sum(sizes)


def growth(runner: Runner, total: int, *, cached: bool, store: str) -> float:
    """By how many MB this process was at most larger than when the first value was there."""
    process = psutil.Process()
    seen: list[int] = []

    def sample(event: events.Event) -> None:
        if isinstance(event, events.NodeFinished):
            seen.append(process.memory_info().rss)

    bound = flow(runner=runner)(lambda: consume(total, cached=cached))
    run = bound.run_with({}, settings=load_settings(overrides={"store": store}), subscribers=[sample])
    expected = total // VALUE_BYTES * VALUE_BYTES
    assert run.result() == expected, "not everything was consumed"
    return (max(seen) - seen[0]) / 1e6


def run() -> Iterator[Figure]:
    for engine, start in ENGINES.items():
        for cached in (False, True):
            with start() as runner, tempfile.TemporaryDirectory() as folder:
                found = growth(runner, TOTAL_BYTES, cached=cached, store=os.path.join(folder, "store"))
            kind = "cached" if cached else "plain"
            what = f"driver's growth, 2 GB of {kind} results, {engine}"
            yield Figure(f"{engine}.{kind}", what, found, "MB", promise=LIMIT_MB)


@contextmanager
def _dask() -> Iterator[Runner]:
    with DaskRunner(workers=2) as runner:
        yield runner


@contextmanager
def _ray() -> Iterator[Runner]:
    with RayRunner(num_cpus=2, object_store_memory=2**30) as runner:
        yield runner


ENGINES: dict[str, Callable[[], AbstractContextManager[Runner]]] = {"dask": _dask, "ray": _ray}


if __name__ == "__main__":  # Dask's workers import the program that started them
    engine, total, cached, store = sys.argv[1:]
    with ENGINES[engine]() as chosen:
        print(growth(chosen, int(total), cached=cached == "cached", store=store))
