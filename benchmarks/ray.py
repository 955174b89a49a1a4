"""Flows on Ray beside bare Ray."""

from __future__ import annotations

from benchmarks.engines import ray_engine, measure
from benchmarks.tables import Line


def run() -> list[Line]:
    return measure(ray_engine)
