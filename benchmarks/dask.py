"""Flows on Dask beside bare Dask."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.engines import dask_engine, measure
from benchmarks.figures import Figure


def run() -> Iterator[Figure]:
    return measure(dask_engine)
