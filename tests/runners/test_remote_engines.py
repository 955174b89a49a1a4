"""The base of cluster engines as a whole: a cluster of threads to which only bytes are sent."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar

from penstock.errors import RunnerError
from penstock.runners import Engine, Report, Runner, WorkerContext
from penstock.runners.remote import (
    BundleWorker,
    ClusterRunner,
    Machines,
    QueuedFlight,
    QueueingEngine,
    performed,
    run_name,
    unpacked_parcel,
)
from penstock.runners.remote.under_way import Kept, Promised
from penstock.runners.remote.workers.interrupting import Interrupted, interrupt, interruptible
from penstock.storage import Reach
from penstock.testing.runners import RunnerTests
from penstock.worker.shipping.shared_buffers import Packed, PackedValue
from penstock.worker.shipping.values import Pickled


class WireRunner(ClusterRunner):
    """The settings of such a cluster. Values above some bytes stay with its workers."""

    reach: Reach = "host"
    opened: ClassVar[list[WireEngine]] = []

    def __init__(self, workers: int) -> None:
        super().__init__()
        self.workers = workers

    def open(self, context: WorkerContext, report: Report) -> Engine:
        engine = WireEngine(self, context, report)
        self.opened.append(engine)
        return engine


class SmallInline(BundleWorker):
    inline_value = inline_bundle = 100


class WireEngine(QueueingEngine[QueuedFlight]):
    """An engine that gives bundles to a pool of threads, in which bundles wait for the values promised to them."""

    flight_class = QueuedFlight
    held_back = 10

    def __init__(self, runner: WireRunner, context: WorkerContext, report: Report) -> None:
        machines = Machines(patience=60.0)
        machines.see({"here": {"cpu": 8.0, "memory": 2.0**40}}, workers=runner.workers, now=time.monotonic())
        super().__init__(run_name(context), report, machines)
        self._setup = runner.packed_setup(context)
        self._pool = ThreadPoolExecutor(runner.workers, "penstock-wire")
        self.there: dict[int, Future[dict[int, Pickled | PackedValue]]] = {}
        """The values that each bundle left."""
        self.start("penstock-wire-engine")

    def send(self, flight: QueuedFlight) -> None:
        flight.left.key = flight.bundle.number
        super().send(flight)

    def place(self, flight: QueuedFlight) -> bool:
        return True

    def knows(self, flight: QueuedFlight) -> bool:
        return flight.bundle.number in self.there

    def hand_over(self, flights: Sequence[QueuedFlight]) -> None:
        for flight in flights:
            brought = [self.there[handle.ref.key] for handle in flight.sources]
            parcel = self.parcel(flight, self._setup).packed()
            self.there[flight.bundle.number] = self._pool.submit(self._perform, flight.bundle.number, parcel, brought)

    def _perform(self, number: int, data: bytes, brought: Iterable[Future[Any]]) -> dict[int, Pickled | PackedValue]:
        values: dict[int, Pickled | Packed] = {}
        parcel, key = unpacked_parcel(data), (self.run, number)
        came = [future.result() for future in brought]
        try:
            with interruptible(key) as block:
                self.heard("started", number, b"")
                outcomes, values = performed(parcel, came, worker_class=SmallInline, stopped=lambda: block.stopped)
        except Interrupted:
            return {}
        self.heard("finished", number, outcomes)
        return {n: value if isinstance(value, Pickled) else PackedValue(value) for n, value in values.items()}

    def get(self, handle: Any) -> Packed:
        value = self.there[handle.ref.key].result()[handle.item]
        assert isinstance(value, PackedValue)
        return value.packed

    def release(self, handles: Iterable[Any]) -> None:
        kept = [handle for handle in handles if isinstance(handle, Kept) and not isinstance(handle, Promised)]
        for handle in kept:
            handle.ref.nodes.discard(handle.item)
            if not handle.ref.nodes:
                self.service.do(lambda key=handle.ref.key: self.there.pop(key, None))  # type: ignore[misc]

    def cancel(self, bundle: int) -> None:
        super().cancel(bundle)
        interrupt((self.run, bundle))

    def close(self) -> None:
        for flight in self.under_way():
            self.cancel(flight.bundle.number)
        self.service.close()
        self._pool.shutdown(cancel_futures=True)

    def why_broken(self, because: str) -> RunnerError:
        return RunnerError("the wire is cut", because=because)


class TestRemoteEngine(RunnerTests):
    def make_runner(self, workers: int) -> Runner:
        WireRunner.opened.clear()
        return WireRunner(workers)

    def test_the_driver_forgets_each_ended_bundle(self) -> None:
        from penstock.testing.runners import tasks

        t: Any = tasks
        log = self.log

        def chain() -> Any:
            made = t.text(log, 1_000)
            for _ in range(20):
                made = t.show(log, made)
            return made

        self.value(chain)
        [engine] = WireRunner.opened
        assert engine.flights == {}
