"""What costs more than the work grows: cost against size, as an exponent (1: twice the work, twice the cost)."""

from __future__ import annotations

import importlib.util
import math
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.tables import Line, at_most
from penstock import INPUTS, TASK_CODE, Settings, flow, load_settings, task
from penstock.journals import RunRecord, run_name
from penstock.run_removal import collect_runs
from penstock.runners import ThreadRunner
from penstock.storage import LocalStore, maintenance, purging
from penstock.storage.results import ResultStore
from penstock.storage.slots import Absent

REPEATS = 3
LINEAR = 1.1
"""What is linear may come out so much above 1: caches and the machine's other work."""
TRACED = (2000, 4000, 8000, 16000)
NODES = (250, 500, 1000, 2000)
CALLS = (8, 16, 32, 64)
RESULTS = (250, 500, 1000, 2000)
RUNS = (50, 100, 200, 400)
FUNCTIONS = (50, 100, 200, 400)
ARRAY_BYTES = 4 * 2**20

Prepare = Callable[[int], Callable[[], object]]
"""Gives, for a size, the action to measure; what it takes to prepare it does not count."""


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
    return int(total.result()) + sum(each.result() for each in parts)


@flow(runner=ThreadRunner(2))
def one_argument(data: bytearray, calls: int) -> None:
    for n in range(calls):
        weighed(data, n)


def run() -> list[Line]:
    with tempfile.TemporaryDirectory() as folder:
        return [*_flows(folder), *_arguments(folder), *_stores(folder), *_functions(folder)]


# -- flows ------------------------------------------------------------------------------------------------------------


def _flows(folder: str) -> Iterator[Line]:
    yield _linear("trace a fan of n nodes", TRACED, lambda n: lambda: fan.trace(n))
    yield _linear(
        "plan it, nothing cached", NODES, _new_store(folder, lambda s, n: fan.plan_with({"n": n}, settings=s))
    )
    yield _linear("run it cold", NODES, _new_store(folder, lambda s, n: _ran(fan, s, n=n)), fresh=True)
    yield _linear("run it warm", NODES, _warm(fan, folder))
    yield _linear("look at n cached values", NODES, _warm(looks, folder))
    plan = _warm(fan, folder, plan=True)
    yield at_most("memory of a plan of n cached nodes", _exponent(NODES, lambda n: _peak(plan(n))), LINEAR, "")


def _new_store(folder: str, action: Callable[[Settings, int], object]) -> Prepare:
    def prepare(n: int) -> Callable[[], object]:
        settings = _new(folder)
        return lambda: action(settings, n)

    return prepare


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


# -- arguments and logs -----------------------------------------------------------------------------------------------


def _arguments(folder: str) -> Iterator[Line]:
    data = bytearray(ARRAY_BYTES)
    settings = _new(folder)

    def trace(calls: int) -> Callable[[], object]:
        return lambda: one_argument.trace(data, calls)

    yield _linear("trace k calls with one large argument", CALLS, trace)
    yield _linear("run them", CALLS, lambda calls: lambda: _ran(one_argument, settings, data=data, calls=calls))
    yield at_most("memory of the trace", _exponent(CALLS, lambda calls: _peak(trace(calls))), 0.1, "")
    yield at_most(
        "bytes of k runs with one large parameter", _exponent(CALLS, lambda k: _logged(folder, data, k)), 0.5, ""
    )


def _logged(folder: str, data: bytearray, runs: int) -> float:
    settings = _new(folder)
    for _ in range(runs):
        _ran(one_argument, settings, data=data, calls=1)
    return float(sum(path.stat().st_size for path in Path(settings.store).rglob("*") if path.is_file()))


# -- stores -----------------------------------------------------------------------------------------------------------


def _stores(folder: str) -> Iterator[Line]:
    kept: dict[int, ResultStore] = {}

    def filled(n: int) -> ResultStore:
        if n not in kept:
            kept[n] = ResultStore(LocalStore(tempfile.mkdtemp(dir=folder), durable=False))
            for i in range(n):
                kept[n].publish("task", f"{i:040x}", i, after=Absent(0, "never"), attempt="a", digest="d")
        return kept[n]

    commands: dict[str, Callable[[ResultStore], object]] = {
        "cache ls": lambda results: list(maintenance.ls(results)),
        "cache show KEY": lambda results: maintenance.find(results, f"{7:040x}"),
        "cache du": maintenance.du,
        "cache verify": maintenance.verify,
        "cache gc --purge": lambda results: (maintenance.gc(results), purging.purge(results)),
    }
    for name, command in commands.items():
        yield _linear(f"{name}, n results", RESULTS, lambda n, c=command: lambda: c(filled(n)))
    yield _linear("runs gc, n runs", RUNS, lambda n: _old_runs(folder, n))


def _old_runs(folder: str, runs: int) -> Callable[[], object]:
    store = LocalStore(tempfile.mkdtemp(dir=folder), durable=False)
    for n in range(runs):
        record = RunRecord(id=f"20200101-000000-{n:08x}", flow="f", state="completed")
        store.put(run_name(record.id, "run.json"), b'{"id":"%s","flow":"f","state":"completed"}' % record.id.encode())
    return lambda: collect_runs(store, before=time.time() + 60, goes_on=lambda record: False, dry_run=True)


# -- source code ------------------------------------------------------------------------------------------------------


def _functions(folder: str) -> Iterator[Line]:
    yield _linear("keys of n functions in one module", FUNCTIONS, lambda n: _module_of(folder, n), fresh=True)


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


# -- measuring --------------------------------------------------------------------------------------------------------


def _linear(what: str, sizes: Sequence[int], prepare: Prepare, *, fresh: bool = False) -> Line:
    """The exponent of the processor's time, of all threads. `fresh`: each repeat needs a new action."""

    def cost(size: int) -> float:
        action = prepare(size)
        spent = []
        for repeat in range(REPEATS):
            if fresh and repeat:
                action = prepare(size)
            began = time.process_time()
            action()
            spent.append(time.process_time() - began)
        return min(spent)

    return at_most(what, _exponent(sizes, cost), LINEAR, "")


def _peak(action: Callable[[], object]) -> float:
    """The most memory that Python took for it."""
    tracemalloc.start()
    try:
        action()
        return float(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def _exponent(sizes: Sequence[int], cost: Callable[[int], float]) -> float:
    """The slope of a line through the logarithms of costs and sizes."""
    xs = [math.log(size) for size in sizes]
    ys = [math.log(max(cost(size), 1e-9)) for size in sizes]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)
