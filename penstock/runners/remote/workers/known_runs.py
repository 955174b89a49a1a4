"""The runs that a worker process knows, with the stores, tasks and cached values that all bundles of a run share."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import cloudpickle

from penstock.runners.remote.delivery import Delivery
from penstock.runners.remote.setup import WorkerSetup, check_store, read_setup
from penstock.storage.results.store import ResultStore
from penstock.worker.messages import ShippedTask, WorkerContext
from penstock.worker.remote import prepare, stores_of
from penstock.worker.shipping.code_packing import Shipment
from penstock.worker.shipping.code_unpacking import in_use
from penstock.worker.value_cache import IDLE_SECONDS, ValueCache

RUNS_KEPT = 8
"""The number of runs that a process keeps, because engines use their processes for several runs."""


@dataclass(slots=True, eq=False)
class KnownRun:
    """The data of a run that all its bundles share in this process."""

    context: WorkerContext
    from_elsewhere: bool
    """Whether the driver is another process."""
    open_results: Callable[[Any], ResultStore]
    shipped: Shipment | None
    epoch: int
    """The epoch of the shipped modules with which its tasks were unpickled."""
    shipped_tasks: dict[int, ShippedTask] = field(default_factory=dict)
    lazily: dict[int, frozenset[str]] = field(default_factory=dict)
    """For each task the parameters that receive stored tables to scan."""
    cache: ValueCache = field(default_factory=lambda: ValueCache(idle_seconds=IDLE_SECONDS))


_known: dict[str, KnownRun] = {}
_guard = threading.Lock()


def known_run(delivery: Delivery, using: ExitStack) -> KnownRun:
    """Return the run of a bundle, with its tasks. Shipped modules stay in use until `using` closes.

    Raises:
        RunnerError: This process cannot serve the run. Errors while unpickling tasks pass unchanged.
    """
    run = _known.get(delivery.run)
    if run is None or using.enter_context(in_use(run.shipped)) != run.epoch:
        run = _open(delivery.run, read_setup(delivery.setup()), using)
    for number in delivery.tasks():
        if number not in run.shipped_tasks:
            run.shipped_tasks[number] = cloudpickle.loads(delivery.task(number))
    return run


def forget_runs() -> None:
    """Forget all runs, because an interrupt may have left them inconsistent."""
    with _guard:
        _known.clear()


def _open(name: str, setup: WorkerSetup, using: ExitStack) -> KnownRun:
    shipped = setup.shipped if setup.from_elsewhere else None
    epoch = using.enter_context(in_use(shipped))
    with _guard:
        if setup.from_elsewhere:
            sys.path += [path for path in setup.paths if path not in sys.path and os.path.isdir(path)]
        context: WorkerContext = cloudpickle.loads(setup.context)
        open_results = stores_of(context, check=lambda store: check_store(store, setup.evidence))
        if name in _known and _known[name].epoch != epoch:
            del _known[name]
        if name not in _known:
            prepare(context)
        while len(_known) >= RUNS_KEPT:
            del _known[next(iter(_known))]
        return _known.setdefault(name, KnownRun(context, setup.from_elsewhere, open_results, shipped, epoch))
