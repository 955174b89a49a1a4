"""The engine of DaskRunner, which submits bundles as Dask tasks and reports their ends.

The engine's thread calls Dask: it submits all waiting bundles in one message, releases values, and looks for tasks that
Dask gave up. Workers report on their bundles by events, which arrive in a thread of the client.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from penstock.errors import RunnerError
from penstock.objects.texts import encodable
from penstock.runners.dask.capacity import ANYWHERE, Workers
from penstock.runners.dask.connections import Connection
from penstock.runners.dask.graphs import DaskFlight, Graphs
from penstock.runners.remote.machines import asked_of
from penstock.runners.remote.queueing import QueueingEngine
from penstock.runners.remote.refusals import could_not_run
from penstock.worker.messages import Failure, Report
from penstock.worker.shipping.shared_buffers import Packed

TICK_SECONDS = 0.1
"""The pause between two looks for tasks that Dask gave up. A callback for each task would cost more than the task."""
REFRESH_SECONDS = 1.0
"""The pause between two requests for the scheduler's workers."""
HELD_BACK = 2_000
"""The number of bundles that may wait at the scheduler for values of other bundles."""
OUTCOME_SECONDS = 10.0
"""The longest time between the end of a Dask task and the arrival of its report."""


class DaskEngine(QueueingEngine[DaskFlight]):
    """The `Engine` of DaskRunner."""

    flight_class = DaskFlight
    machines: Workers

    def __init__(
        self,
        connection: Connection,
        report: Report,
        *,
        run: str,
        setup: bytes,
        workers: Workers,
        on_close: Callable[[], None],
    ) -> None:
        """Start the engine. `on_close` is called after its end, to close a connection that only this run uses."""
        super().__init__(run, report, workers)
        self._connection = connection
        self._client = connection.client
        self._graphs = Graphs(self._client, run, setup, self.packed_tasks, self.packed_arguments)
        self._on_close = on_close
        self._nudge: Any = None
        self._refresh()
        self.start("penstock-dask")
        connection.listeners.listen(run, self.heard)
        self.service.every(TICK_SECONDS, self._look_after)
        self.service.every(REFRESH_SECONDS, self._refresh)

    # -- the driver's thread ------------------------------------------------------------------------------------------

    def is_lost(self, handle: Any) -> bool:
        return self._graphs.is_lost(handle)

    def send(self, flight: DaskFlight) -> None:
        task = self.shipped_tasks[flight.bundle.calls[0].task].task
        flight.left.key = (f"{encodable(task.name)}-{self.run}", flight.bundle.number)
        super().send(flight)

    @property
    def held_back(self) -> int:
        return HELD_BACK

    def get(self, handle: Any) -> Packed:
        value = self._client.gather(self.service.ask(lambda: self._graphs.future(handle)))
        if isinstance(value, dict):
            value = value.get(handle.item)
        if value is None:
            raise LookupError("the worker that held it is gone")
        packed: Packed = value.packed
        return packed

    def release(self, handles: Iterable[Any]) -> None:
        with self.changed:
            keys = self._graphs.released(handles)
        if keys:
            self.service.do(partial(self._graphs.let_go, keys))

    def close(self) -> None:
        with self.changed:
            self.flights.clear()
        self.service.close()
        self._connection.listeners.leave(self.run)
        self._graphs.close()
        self._on_close()

    def ended(self, flight: DaskFlight) -> None:
        """Release the Dask task of a bundle that left no values. A worker that still runs it then stops."""
        super().ended(flight)
        if not flight.left.nodes:
            self.service.do(partial(self._graphs.let_go, (flight.key,)))

    # -- the engine's own thread --------------------------------------------------------------------------------------

    def hand_over(self, flights: Sequence[DaskFlight]) -> None:
        self._graphs.submit(flights)

    def knows(self, flight: DaskFlight) -> bool:
        return self._graphs.knows(flight)

    def place(self, flight: DaskFlight) -> bool:
        needs = flight.bundle.resources
        if not asked_of(needs):
            return True  # also without a worker: adaptive clusters grow when there is work
        placement = self.machines.place(needs, flight.name) if self.machines.known else None
        flight.placement = placement or ANYWHERE
        return placement is not None

    def _refresh(self) -> None:
        """Update the workers."""
        if self.broken is not None:
            return
        self.machines.update(self._connection.workers(), time.monotonic())
        waiting = self.look_again(self._connection.address)
        if self.machines.there:
            self._nudge = None
        elif waiting and self._nudge is None:
            self._nudge = self._client.submit(int, pure=False)  # adaptive clusters grow when there is work

    def _look_after(self) -> None:
        """Find the tasks that Dask gave up."""
        if self.broken is not None:
            return
        if not self._connection.alive:
            raise ConnectionError(f"Dask's client is {self._client.status}")
        now = time.monotonic()
        erred: list[DaskFlight] = []
        for flight in self.under_way():
            status = self._graphs.status(flight.key)
            if status == "error":
                erred.append(flight)
            elif status == "cancelled":
                self.end_lost(flight, Failure("WorkerLost", "Dask cancelled it", ""))
            elif status == "finished":
                flight.finished_at = flight.finished_at or now
                if now - flight.finished_at > OUTCOME_SECONDS:
                    self.end_lost(flight, Failure("WorkerLost", "it ended, and its report never came", ""))
            elif self.machines.runs(flight.placement):
                flight.waits_since = None
            elif flight.placement != ANYWHERE:
                self.end_alike(flight, "not_started")  # to be placed again
            else:
                self.wait_for_workers(flight, self._connection.address)
        self._settle(erred)

    def _settle(self, erred: Iterable[DaskFlight]) -> None:
        from distributed.scheduler import KilledWorker

        died: dict[str, list[DaskFlight]] = {}
        for flight in erred:
            error = self._graphs.exception(flight)
            if not isinstance(error, KilledWorker):
                self.end_lost(flight, could_not_run("Dask", error))
            elif error.task == flight.key:
                died.setdefault(error.last_worker.address, []).append(flight)
            else:  # a bundle for which it waited died
                self.end_alike(flight, "not_started")
        self.end_killed(died)

    def why_broken(self, because: str) -> RunnerError:
        return RunnerError(
            "the connection to the Dask scheduler is lost",
            where=self._connection.address,
            because=because,
            hint="run it again when the scheduler is back: what was published is a hit then",
        )
