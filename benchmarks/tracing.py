"""Tracing and keys: microseconds per node."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks.figures import Figure, spend, timed
from penstock import INPUTS, TASK_SOURCE, flow, task

NODES = 100_000


@task(cache_policy=INPUTS + TASK_SOURCE)
def leaf(x: int, scale: int = 2) -> int:
    return x * scale


@task(cache_policy=INPUTS + TASK_SOURCE)
def link(x: int) -> int:
    return x + 1


@task(cache_policy=INPUTS + TASK_SOURCE)
def pair(xs: list[int]) -> int:
    return sum(xs)


@flow
def fan(n: int) -> None:
    for i in range(n):
        leaf(i)


@flow
def chain(n: int) -> Any:
    x = leaf(0)
    for _ in range(n - 1):
        x = link(x)
    return x


@flow
def layers(n: int) -> None:
    below = [leaf(i) for i in range(n // 2)]
    for i in range(n // 2):
        pair([below[i], below[i - 1]])


def run() -> Iterator[Figure]:
    for shape in (fan, chain, layers):
        taken = spend(partial(shape.trace, NODES))
        yield timed(
            shape.name, f"{shape.name} of {NODES:,} nodes, traced and keyed, each", taken, count=NODES, unit="µs",
            promise=15, processor=True,
        )  # fmt: skip
