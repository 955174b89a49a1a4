"""What costs more than the work grows: cost against size, as an exponent (1: twice the work, twice the cost)."""

from __future__ import annotations

import gc
import importlib.util
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.exponents import Prepare, linear, peak_bytes, slope
from benchmarks.figures import Figure
from penstock import INPUTS, TASK_CODE, Settings, flow, load_settings, task
from penstock.runners import ProcessRunner, ThreadRunner
from penstock.storage import LocalStore
from penstock.storage.results import maintenance
from penstock.storage.results.generations import Absent, Found
from penstock.storage.results.store import ResultStore

TRACED = (4000, 8000, 16000, 32000)
NODES = (250, 500, 1000, 2000)
LOOKED = (1000, 2000, 4000, 8000)  # what a run costs itself hides the growth of fewer
CALLS = (64, 128, 256, 512)
LOGGED = (8, 16, 32, 64)
RESULTS = (250, 500, 1000, 2000)
RUNS = (50, 100, 200, 400)
FUNCTIONS = (100, 200, 400, 800)
ARRAY_BYTES = 4 << 20
LOADED_BYTES = 64 << 20


@task(cache_policy=INPUTS)
def part(n: int) -> int:
    return n


@task(cache_policy=INPUTS)
def whole(parts: list[int]) -> int:
    return sum(parts)


@task
def weighed(data: bytearray, n: int) -> int:
    return len(data) + n


@flow(runner=ThreadRunner(2))
def fan(n: int) -> None:
    whole([part(i) for i in range(n)])


@flow(runner=ThreadRunner(2))
def looks(n: int) -> int:
    """A flow that looks at each of its values."""
    parts: list[Any] = [part(i) for i in range(n)]
    total: Any = whole(parts)
    return int(total.result()) + sum(int(each.result()) for each in parts)


@flow(runner=ThreadRunner(2))
def one_argument(data: bytearray, calls: int) -> None:
    for n in range(calls):
        weighed(data, n)


def run() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        for each in (_flows, _arguments, _functions, _loads, _stores, _leftovers, _runs):
            yield from each(folder)
            gc.collect()


# -- flows ------------------------------------------------------------------------------------------------------------


def _flows(folder: str) -> Iterator[Figure]:
    yield linear("trace", "trace a fan of n nodes", TRACED, lambda n: lambda: fan.trace(n))

    def plan(n: int) -> Callable[[], object]:
        settings = _new(folder)
        return lambda: fan.plan_with({"n": n}, settings=settings)

    def cold(n: int) -> Callable[[], object]:
        settings = _new(folder)
        return lambda: _ran(fan, settings, n=n)

    yield linear("plan", "plan it, nothing cached", NODES, plan)
    yield linear("cold", "run it cold", NODES, cold, fresh=True)
    yield linear("warm", "run it warm", NODES, _warm(fan, folder))
    yield linear("looks", "look at n cached values", LOOKED, _warm(looks, folder))
    planned = _warm(fan, folder, plan=True)
    memory = slope({n: peak_bytes(planned(n)) for n in NODES})
    yield Figure("plan.memory", "memory of a plan of n cached nodes", memory, promise=1.1)


def _new(folder: str) -> Settings:
    return load_settings(overrides={"store": tempfile.mkdtemp(dir=folder)})


def _ran(bound: Any, settings: Settings, **parameters: Any) -> None:
    bound.run_with(parameters, settings=settings).result()


def _warm(bound: Any, folder: str, *, plan: bool = False) -> Prepare:
    def prepare(n: int) -> Callable[[], object]:
        settings = _new(folder)
        _ran(bound, settings, n=n)
        return lambda: bound.plan_with({"n": n}, settings=settings) if plan else _ran(bound, settings, n=n)

    return prepare


# -- large arguments and results --------------------------------------------------------------------------------------


def _arguments(folder: str) -> Iterator[Figure]:
    data, settings = bytearray(ARRAY_BYTES), _new(folder)

    def trace(calls: int) -> Callable[[], object]:
        return lambda: one_argument.trace(data, calls)

    yield linear("argument.trace", "trace k calls with one large argument", CALLS, trace)
    yield linear(
        "argument.run", "run them", CALLS, lambda calls: lambda: _ran(one_argument, settings, data=data, calls=calls)
    )
    with ProcessRunner(2) as runner:
        there = one_argument.with_options(runner=runner)
        yield linear(
            "argument.processes", "run them in processes, the driver's time", CALLS,
            lambda calls: lambda: _ran(there, settings, data=data, calls=calls),
        )  # fmt: skip
    memory = slope({calls: peak_bytes(trace(calls)) for calls in CALLS})
    yield Figure("argument.memory", "memory of the trace", memory, promise=0.1)


def _loads(folder: str) -> Iterator[Figure]:
    import numpy

    results = ResultStore(LocalStore(tempfile.mkdtemp(dir=folder), durable=False))
    results.publish("task", "k", numpy.ones(LOADED_BYTES // 8), after=Absent(0, "never"), attempt="a", digest="d")
    found = results.look_up("task", "k")
    assert isinstance(found, Found)
    results.load(found.record)
    gc.collect()
    times = peak_bytes(lambda: results.load(found.record)) / LOADED_BYTES
    yield Figure("load.memory", "memory to load an array, in sizes of the array", times, promise=1.1)


# -- stores -----------------------------------------------------------------------------------------------------------


class Asked:
    """Another store; counts what it is asked for."""

    def __init__(self, inner: LocalStore) -> None:
        self.inner, self.requests = inner, Counter[str]()

    def get_many(self, names: list[str]) -> list[bytes | None]:
        self.requests["get"] += len(names)
        return self.inner.get_many(names)

    def __getattr__(self, name: str) -> Any:
        if name in ("get", "open"):
            self.requests["get"] += 1
        return getattr(self.inner, name)


def _filled(folder: str, n: int) -> tuple[Asked, ResultStore]:
    store: Any = Asked(LocalStore(tempfile.mkdtemp(dir=folder), durable=False))
    results = ResultStore(store)
    for i in range(n):
        results.publish("task", f"{i:040x}", i, after=Absent(0, "never"), attempt="a", digest="d")
    return store, results


def _stores(folder: str) -> Iterator[Figure]:
    from penstock.storage.results import purging

    stores = {n: _filled(folder, n) for n in (1, *RESULTS)}
    key = f"{7:040x}"
    commands: dict[str, Callable[[ResultStore], object]] = {
        "ls": lambda results: list(maintenance.ls(results)),
        "show": lambda results: maintenance.find(results, key),
        "du": maintenance.du,
        "verify": maintenance.verify,
        "gc": lambda results: (maintenance.gc(results), purging.purge(results)),
    }
    for name, command in commands.items():
        what = f"cache {name}{' KEY' if name == 'show' else ' --purge' if name == 'gc' else ''}, n results"
        yield linear(name, what, RESULTS, lambda n, c=command: lambda: c(stores[n][1]))  # type: ignore[misc]
    store, results = stores[RESULTS[-1]]
    for name, removing in (("show", False), ("rm", True)):
        store.requests.clear()
        found = maintenance.find(results, key)
        if removing:
            maintenance.rm(results, found[0].task, found[0].key)
        what = f"cache {name} KEY, {RESULTS[-1]:,} results: files read"
        yield Figure(f"{name}.requests", what, store.requests["get"], promise=10)


def _leftovers(folder: str) -> Iterator[Figure]:
    """What is left of results that a run made, once they are removed, collected and purged."""
    from penstock.storage.results import purging

    settings, n = _new(folder), NODES[0]
    _ran(fan, settings, n=n)
    store = LocalStore(settings.store)
    results = ResultStore(store)
    for name in maintenance.tasks(results):
        maintenance.rm(results, name)
    maintenance.gc(results, grace_seconds=0)
    purging.purge(results, older_than=0)
    files = [path for path in Path(settings.store).rglob("*") if path.is_file() and "runs" not in path.parts]
    folders = [path for path in Path(settings.store, "results").rglob("*") if path.is_dir()]
    yield Figure("left.files", "files that remain of a removed result", len(files) / n, promise=1.1)
    yield Figure("left.folders", "  folders", len(folders) / n, promise=1.1)
    locks = [path for path in Path(settings.store, "locks").rglob("*") if path.is_file()]
    yield Figure("left.locks", "  files of locks", len(locks) / n, promise=0)


# -- logs of runs -----------------------------------------------------------------------------------------------------


def _runs(folder: str) -> Iterator[Figure]:
    data = bytearray(ARRAY_BYTES)
    kept = {runs: _logged(folder, data, runs) for runs in LOGGED}
    yield Figure("runs.bytes", "bytes of k runs with one large parameter", slope(kept), promise=0.5)
    each = (kept[LOGGED[-1]] - kept[LOGGED[0]]) / (LOGGED[-1] - LOGGED[0])
    yield Figure("runs.bytes.each", "  what one more run adds", each, "B", promise=10_000)
    yield linear("runs.gc", "runs gc, n runs", RUNS, lambda n: _old_runs(folder, n))


def _logged(folder: str, data: bytearray, runs: int) -> float:
    settings = _new(folder)
    for _ in range(runs):
        _ran(one_argument, settings, data=data, calls=1)
    return float(sum(path.stat().st_size for path in Path(settings.store).rglob("*") if path.is_file()))


def _old_runs(folder: str, runs: int) -> Callable[[], object]:
    from penstock.journals.journal import run_name
    from penstock.journals.removal import collect_runs

    store = LocalStore(tempfile.mkdtemp(dir=folder), durable=False)
    for n in range(runs):
        own = f"20200101-000000-{n:08x}"
        store.put(run_name(own, "run.json"), b'{"id":"%s","flow":"f","state":"completed"}' % own.encode())
    return lambda: collect_runs(store, before=time.time() + 60, goes_on=lambda record: False, dry_run=True)


# -- source code ------------------------------------------------------------------------------------------------------


def _functions(folder: str) -> Iterator[Figure]:
    yield linear(
        "functions", "keys of n functions in one module", FUNCTIONS, lambda n: _module_of(folder, n), fresh=True
    )


def _module_of(folder: str, functions: int) -> Callable[[], object]:
    """The action: a flow of all functions of a new module, traced, so that the code of each is read."""
    name = f"functions_{functions}_{time.perf_counter_ns()}"
    path = Path(folder) / f"{name}.py"
    bodies = (
        f"def f{i}(x):\n    return helper{i}(x) + {i}\n\ndef helper{i}(x):\n    return x\n" for i in range(functions)
    )
    path.write_text("\n".join(bodies))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tasks = [task(cache_policy=INPUTS + TASK_CODE)(getattr(module, f"f{i}")) for i in range(functions)]

    @flow
    def every() -> None:
        for each in tasks:
            each(1)

    return every.trace
