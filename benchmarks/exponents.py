"""By which power of its size the cost of an action grows."""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence

from benchmarks.figures import Figure

REPEATS = 3
LINEAR = 1.1
"""What is linear may come out so much above 1: caches and the machine's other work."""

BEYOND = 0.2
"""What is by less above the cost of a size of 1 is no more than noise."""

Prepare = Callable[[int], Callable[[], object]]
"""Gives, for a size, the action to measure; what it takes to prepare it does not count."""


def linear(name: str, what: str, sizes: Sequence[int], prepare: Prepare, *, fresh: bool = False) -> Figure:
    """The exponent of the processor's time, of all threads, beyond what a size of 1 takes.

    All sizes take turns, so that whatever disturbs the machine meets all. `fresh`: each turn needs a new action.
    """
    sizes = (1, *sizes)
    actions = {} if fresh else {size: prepare(size) for size in sizes}
    spent: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(REPEATS):
        for size in sizes:
            action = prepare(size) if fresh else actions[size]
            began = time.process_time()
            action()
            spent[size].append(time.process_time() - began)
    least = {size: min(each) for size, each in spent.items()}
    fixed = least.pop(1)
    if any(each < (1 + BEYOND) * fixed for each in least.values()):
        fixed = 0.0  # what grows is lost in what does not: the whole grows as little
    return Figure(name, what, slope({size: each - fixed for size, each in least.items()}), promise=LINEAR)


def slope(costs: Mapping[int, float]) -> float:
    """The slope of a line through the logarithms of costs and sizes."""
    xs = [math.log(size) for size in costs]
    ys = [math.log(max(cost, 1e-9)) for cost in costs.values()]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def peak_bytes(action: Callable[[], object]) -> float:
    """The most memory that Python took for it."""
    tracemalloc.start()
    try:
        action()
        return float(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
