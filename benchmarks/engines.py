"""Flows on Dask and Ray beside the bare engine, on one cluster, in turn: `python -m benchmarks dask ray`.

Bare is the engine's own best way: one `Client.get` of the whole graph in Dask, `f.remote` with references in Ray. Both
sides bring the same values to the driver. What a flow's run costs besides, such as connecting and its record, counts.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import Figure, Spent, paired, spend, timed
from penstock import INPUTS, Flow, Settings, flow, load_settings, task

WORKERS = 2
INDEPENDENT = 10_000
CHAIN = 1_000
LAYERS, WIDTH = 20, 100
SLEEP_SECONDS = 0.1


def add(*values: float) -> float:
    return sum(values) + 1


def wait(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


add_task: Any = task(name="add")(add)
wait_task: Any = task(name="wait")(wait)


@dataclass(frozen=True)
class Shape:
    """A graph: calls of one function, each with numbers and numbers of earlier calls."""

    name: str
    function: Callable[..., float]
    calls: list[tuple[tuple[float, ...], tuple[int, ...]]]
    wanted: list[int]
    """Whose values the driver asks for."""
    times: int = 3

    def flow(self, *, cached: bool = False) -> Flow[..., Any]:
        called: Any = {add: add_task, wait: wait_task}[self.function]
        if cached:
            called = called.with_options(cache_policy=INPUTS)

        def run() -> list[float]:
            made: list[Any] = []
            for numbers, sources in self.calls:
                made.append(called(*numbers, *[made[s] for s in sources]))
            return [made[w] for w in self.wanted]

        return flow(name=self.name)(run)


def independent(nodes: int = INDEPENDENT) -> Shape:
    return Shape("independent", add, [((i,), ()) for i in range(nodes)], list(range(nodes)))


def chain(links: int = CHAIN) -> Shape:
    calls = [((0.0,), ()), *[((), (i,)) for i in range(links - 1)]]
    return Shape("chain", add, calls, [links - 1])


def reduction() -> Shape:
    calls: list[Any] = [((i,), ()) for i in range(1_000)]
    return Shape("reduction", add, [*calls, ((), tuple(range(1_000)))], [1_000])


def layered() -> Shape:
    """A random graph of 2 000 nodes in 20 layers, each with two inputs from the layer above."""
    rng = random.Random(7)
    calls: list[Any] = [((i,), ()) for i in range(WIDTH)]
    for layer in range(1, LAYERS):
        above = range((layer - 1) * WIDTH, layer * WIDTH)
        calls += [((), tuple(rng.sample(above, 2))) for _ in range(WIDTH)]
    used = {s for _, sources in calls for s in sources}
    return Shape("layered", add, calls, [n for n in range(len(calls)) if n not in used])


def sleeping() -> Shape:
    return Shape("sleeping", wait, [((SLEEP_SECONDS,), ()) for _ in range(100)], list(range(100)))


def log_normal() -> Shape:
    """Times between 0.1 ms and 1 s, half of them below 10 ms."""
    rng = random.Random(7)
    times = [min(1.0, max(1e-4, rng.lognormvariate(-4.6, 1.5))) for _ in range(400)]
    return Shape("log-normal", wait, [((t,), ()) for t in times], list(range(400)))


@dataclass(frozen=True)
class Engine:
    """A cluster that both sides use in turn."""

    name: str
    runner: Any
    bare: Callable[[Shape], list[float]]
    counter: Callable[[], int]
    """How much the engine itself says it has done so far: the same before and after if it was given nothing."""


@contextmanager
def dask_engine() -> Iterator[Engine]:
    import distributed

    from penstock.runners import DaskRunner

    with (
        distributed.LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        DaskRunner(cluster=cluster) as runner,
    ):

        def bare(shape: Shape) -> list[float]:
            unique = os.urandom(4).hex()  # a key that the scheduler knows would not run
            graph = {
                f"{unique}-{n}": (shape.function, *numbers, *[f"{unique}-{s}" for s in sources])
                for n, (numbers, sources) in enumerate(shape.calls)
            }
            return list(client.get(graph, [f"{unique}-{w}" for w in shape.wanted]))

        yield Engine("Dask", runner, bare, lambda: _transitions(cluster.scheduler))


@contextmanager
def ray_engine() -> Iterator[Engine]:
    import ray

    from penstock.runners import RayRunner

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with RayRunner(num_cpus=WORKERS) as runner:
        remote = {function: ray.remote(function) for function in (add, wait)}

        def bare(shape: Shape) -> list[float]:
            function = remote[shape.function]
            made: list[Any] = []
            for numbers, sources in shape.calls:
                made.append(function.remote(*numbers, *[made[s] for s in sources]))
            return list(ray.get([made[w] for w in shape.wanted]))

        yield Engine("Ray", runner, bare, _tasks_ray_ran)


def _transitions(scheduler: Any) -> int:
    """Of the scheduler's tasks, once it has forgotten all of them: what was let go of goes a moment later."""
    while scheduler.tasks:
        time.sleep(0.01)
    return int(scheduler.transition_counter)


def _tasks_ray_ran() -> int:
    """Of all tasks, by the events that Ray's workers tell."""
    from ray._private.state import state

    time.sleep(2.5)  # they tell once a second
    return sum(1 for event in state.chrome_tracing_dump() if str(event.get("cat", "")).startswith("task::"))


def measure(open_engine: Callable[[], Any]) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder, open_engine() as engine:
        settings = load_settings(overrides={"store": f"{folder}/store"})
        single = load_settings(overrides={"store": f"{folder}/store", "bundle_seconds": 0})
        for shape, promise in (
            (independent(), 5.0),
            (chain(), 30.0),
            (reduction(), 4.0),
            (layered(), 2.0),
        ):
            yield from _faster(engine, shape, settings, promise)
        yield from _no_slower(engine, sleeping(), settings, 1.02)
        yield from _no_slower(engine, log_normal(), settings, 1.0)
        for shape in (independent(2_000), chain(300), layered()):
            yield from _no_slower(engine, shape, single, 1.15, single=True)
        for shape in (independent(1_000), chain(300), layered()):
            yield from _cached(engine, shape, folder)


def _faster(engine: Engine, shape: Shape, settings: Settings, promise: float) -> Iterator[Figure]:
    bare, ours, ratio = _paired(engine, shape, settings)
    name, nodes = shape.name, len(shape.calls)
    what = f"{engine.name}, {name}, {nodes:,} nodes: bare, a node"
    yield timed(f"{name}.bare", what, bare, count=nodes, unit="µs", better="beside")
    yield timed(name, "  as a flow, a node", ours, count=nodes, unit="µs")
    yield Figure(f"{name}.faster", "  faster by", ratio, "x", "higher", promise)


def _no_slower(
    engine: Engine, shape: Shape, settings: Settings, promise: float, *, single: bool = False
) -> Iterator[Figure]:
    bare, ours, ratio = _paired(engine, shape, settings)
    name, note = (f"{shape.name}.single", ", bundling off") if single else (shape.name, "")
    what = f"{engine.name}, {shape.name}, {len(shape.calls):,} nodes{note}: bare"
    yield timed(f"{name}.bare", what, bare, better="beside")
    yield timed(name, "  as a flow", ours)
    yield Figure(f"{name}.against_bare", "  time against bare", 1 / ratio, "x", promise=promise)


def _cached(engine: Engine, shape: Shape, folder: str) -> Iterator[Figure]:
    """Without cache, cold and warm, in turn; each time in a store of its own."""
    plain, kept = (shape.flow(cached=cached).with_options(runner=engine.runner) for cached in (False, True))
    cold, extra, warm = [], [], []
    given = 0
    for number in range(shape.times):
        settings = load_settings(overrides={"store": f"{folder}/{shape.name}-{number}"})

        def run(bound: Flow[..., Any], settings: Settings = settings) -> Any:
            return bound.run_with({}, settings=settings).result()

        uncached = spend(lambda: run(plain), times=1).median
        cold.append(spend(lambda: run(kept), times=1).median)
        extra.append(cold[-1] - uncached)
        before = engine.counter()
        warm.append(spend(lambda: run(kept), times=1).median)
        given += engine.counter() - before
    nodes, name = len(shape.calls), f"{shape.name}.cached"
    micros = [statistics.median(each) / nodes * 1e6 for each in (cold, extra, warm)]
    yield Figure(f"{name}.cold", f"{engine.name}, {shape.name}, {nodes:,} cached nodes, cold, a node", micros[0], "µs")
    yield Figure(f"{name}.extra", "  beyond the same uncached", micros[1], "µs")
    yield Figure(f"{name}.warm", "  warm, every value looked at", micros[2], "µs")
    yield Figure(f"{name}.given", "  work of the engine while warm, by its own counter", given, promise=0)


def _paired(engine: Engine, shape: Shape, settings: Settings) -> tuple[Spent, Spent, float]:
    """Seconds bare and as a flow, and the median of their ratios."""
    bound = shape.flow().with_options(runner=engine.runner)
    expected = engine.bare(shape)

    def ours() -> None:
        assert bound.run_with({}, settings=settings).result() == expected

    ours()  # both sides have met their workers
    return paired(lambda: engine.bare(shape), ours, times=shape.times)
