"""Memory of large graphs: a million traced nodes, and cached ones that are run and planned."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.figures import Figure
from benchmarks.warm import many
from penstock import load_settings
from penstock.runners import ThreadRunner

TRACED = 1_000_000
CACHED = 10_000
NODE_BYTES = 1500


def run() -> Iterator[Figure]:
    for name in ("fan", "chain"):
        peak = _peak_bytes(name, TRACED)
        yield Figure(f"{name}.memory", f"{name} of {TRACED:,} nodes, peak memory", peak / 1e6, "MB", promise=1000)
        yield Figure(f"{name}.node", "  beyond an empty graph, a node", (peak - _peak_bytes(name, 1)) / TRACED, "B")
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(overrides={"store": folder})
        bound = many.with_options(runner=ThreadRunner(2))
        bound.run_with({"n": 10}, settings=settings)  # what is imported and kept once does not count
        bound.plan_with({"n": 10}, settings=settings)
        for name, what, call in (
            ("cold", f"run of {CACHED:,} cached nodes, cold", bound.run_with),
            ("warm", "the same, warm", bound.run_with),
            ("plan", "the same, planned", bound.plan_with),
        ):
            kept, most = _traced_bytes(partial(call, {"n": CACHED}, settings=settings))
            yield Figure(f"{name}.node", f"{what}, kept of a node", kept / CACHED, "B", promise=NODE_BYTES)
            yield Figure(f"{name}.node.most", "  at most while it runs", most / CACHED, "B")


def _traced_bytes(action: Callable[[], object]) -> tuple[float, float]:
    """What Python's allocator gave out for the action and what came of it: at the end, and at most."""
    gc.collect()
    tracemalloc.start()
    try:
        result = action()
        gc.collect()
        kept, most = tracemalloc.get_traced_memory()
        del result
        return float(kept), float(most)
    finally:
        tracemalloc.stop()


def _peak_bytes(shape: str, nodes: int) -> float:
    """Measured in a process of its own: the peak of this one belongs to everything it did before."""
    code = (
        "import json, resource\n"
        "from benchmarks import tracing\n"
        f"graph = tracing.{shape}.trace({nodes})\n"
        "print(json.dumps([len(graph), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    traced, peak = json.loads(done.stdout)
    assert traced == nodes
    return float(peak) * (1024 if sys.platform == "linux" else 1)
