"""Flows on Dask beside bare Dask."""

from __future__ import annotations

from benchmarks.engines import dask_engine, measure
from benchmarks.tables import Line


def run() -> list[Line]:
    return measure(dask_engine)
