"""Flows on Ray beside bare Ray."""

from __future__ import annotations

from benchmarks.engines import measure, ray_engine
from benchmarks.tables import Line


def run() -> list[Line]:
    return measure(ray_engine)
