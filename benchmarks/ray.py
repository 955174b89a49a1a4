"""Flows on Ray beside bare Ray."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.engines import measure, ray_engine
from benchmarks.figures import Figure


def run() -> Iterator[Figure]:
    return measure(ray_engine)
