"""Tracing and keys: microseconds per node, and the memory of a graph of a million nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from benchmarks.tables import Line, at_most, seconds
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


def run() -> list[Line]:
    lines = []
    for shape in (fan, chain, layers):
        taken = seconds(lambda shape=shape: shape.trace(NODES))
        lines.append(at_most(f"{shape.name} of {NODES:,} nodes, traced and keyed", taken / NODES * 1e6, 15, "µs"))
    for shape in ("fan", "chain"):
        lines.append(at_most(f"{shape} of 1,000,000 nodes, peak memory", _peak_megabytes(shape), 1000, "MB"))
    return lines


def _peak_megabytes(shape: str) -> float:
    """Measured in a process of its own: the peak of this one belongs to everything it did before."""
    code = (
        "import json, resource\n"
        "from benchmarks import tracing\n"
        f"graph = tracing.{shape}.trace(1_000_000)\n"
        "print(json.dumps([len(graph), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    nodes, peak = json.loads(done.stdout)
    assert nodes == 1_000_000
    return peak / (1024 if sys.platform == "linux" else 1024 * 1024)
