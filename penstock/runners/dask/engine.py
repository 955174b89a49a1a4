"""The engine of DaskRunner: bundles become Dask tasks, their ends become reports.

A thread of the engine talks to Dask: it submits in one message what the driver handed over meanwhile, lets go of
values, and looks after tasks that Dask gave up. What workers tell of their bundles comes by events, in the thread of
the client. The driver's thread only leaves notes.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from penstock.errors import DamagedResult, RunnerError
from penstock.runners.dask.capacity import ANYWHERE, Placement, Workers
from penstock.runners.dask.connections import Connection
from penstock.runners.dask.graphs import Graphs, InFlight, Key
from penstock.runners.dask.notes import Drop, Fetch
from penstock.runners.dask.suspects import Suspects
from penstock.runners.dask.unfinished import error_told, given_back, outcomes_of_all, promised_to, scheduler_info
from penstock.runners.dask.worker import Kept, Promised, unwrapped
from penstock.worker.failures import describe
from penstock.worker.messages import (
    NO_GENERATION,
    Bundle,
    Call,
    Failure,
    Finished,
    Outcome,
    OutcomeKind,
    Report,
    ShippedTask,
    Started,
)
from penstock.worker.remote import log_again
from penstock.worker.shipping.shared_buffers import unpack
from penstock.worker.shipping.values import Pickled, read_value
from penstock.worker.shipping.wire import none_read

TICK_SECONDS = 0.1
"""So often the engine looks for tasks that Dask gave up: rare enough to cost nothing, and to be told of each would cost
more than the tasks. What workers report, and what the driver wants, is handled at once."""
REFRESH_SECONDS = 1.0
"""So often the scheduler is asked for its workers."""
HELD_BACK = 2_000
"""So many bundles wait at the scheduler for what others make."""
OUTCOME_SECONDS = 10.0
"""A Dask task that finished so long ago has no report any more that could still be under way."""


_Note = InFlight | Drop | Fetch


class DaskEngine:
    """See `penstock.runners.base.Engine`."""

    def __init__(
        self, connection: Connection, report: Report, *, graphs: Graphs, workers: Workers, on_close: Callable[[], None]
    ) -> None:
        """`on_close` closes the connection, if nobody else uses it."""
        self._connection = connection
        self._client = connection.client
        self._report = report
        self._graphs = graphs
        self._workers = workers
        self._on_close = on_close
        self._guard = threading.Lock()
        self._notes: queue.SimpleQueue[_Note | None] = queue.SimpleQueue()
        self._flights: dict[int, InFlight] = {}
        self._held: list[InFlight] = []  # no worker can run them now
        self._suspects = Suspects()
        self._nudge: Any = None
        self._broken: RunnerError | None = None
        self._closed = False
        self._refresh()
        connection.listen(graphs.run, self._on_event)
        self._thread = threading.Thread(target=self._serve, name="penstock-dask", daemon=True)
        self._thread.start()

    # -- the driver's thread ------------------------------------------------------------------------------------------

    @property
    def capacity(self) -> Mapping[str, float]:
        return self._workers.capacity

    def register(self, shipped_task: ShippedTask) -> None:
        self._graphs.register(shipped_task)

    def submit(self, bundle: Bundle) -> None:
        if self._broken is not None:
            raise self._broken
        if self._workers.known:
            self._workers.place(bundle.resources)  # raises if it could never run
        lost = {call.node: found for call in bundle.calls if (found := self._without_lost_handles(call))}
        if lost:
            self._report(Finished(bundle.number, given_back(bundle, lost)))
            return
        flight = self._graphs.flight(bundle)
        with self._guard:
            self._flights[bundle.number] = flight
        self._notes.put(flight)

    @property
    def held_back(self) -> int:
        return HELD_BACK

    def promise(self, bundle: int, node: int) -> Promised:
        flight = self._flights.get(bundle)
        return Promised(bundle, node, flight.key if flight is not None else None)

    def cancel(self, bundle: int) -> None:
        # Dask forgets the task; a worker that runs it is told, and interrupts it.
        self._end(bundle)

    def fetch(self, handle: Any) -> Any:
        if isinstance(handle, Pickled):
            return read_value(handle)
        because = "the worker that held it is gone"
        value = None
        try:
            value = self._client.gather(self._future_of(handle))
        except Exception as error:  # noqa: BLE001 (whatever Dask says, the value cannot be had from it)
            because = f"{type(error).__name__}: {error}"
        if isinstance(value, dict):
            value = value.get(handle.node)
        if value is None:
            raise DamagedResult("a value is not in the cluster any more", where=f"node {handle.node}", because=because)
        return unpack(value.packed)

    def release(self, handles: Iterable[Any]) -> None:
        with self._guard:
            keys = self._graphs.released(handles)
        if keys:
            self._notes.put(Drop(keys))

    def close(self) -> None:
        with self._guard:
            self._flights.clear()
            self._closed = True
        self._notes.put(None)
        self._thread.join()
        self._connection.leave(self._graphs.run)
        self._graphs.close()
        self._on_close()

    def _future_of(self, handle: Kept) -> Any:
        asked: Future[Any] = Future()
        with self._guard:
            if self._closed:
                raise RuntimeError("the run is over")
            self._notes.put(Fetch(handle, asked))
        return asked.result()

    def _without_lost_handles(self, call: Call) -> dict[int, int]:
        """Take out handles of values that Dask lost and the store has; returns the inputs that neither has."""
        gone = {n: source for n, source in call.inputs.items() if self._graphs.is_lost(source.handle)}
        if gone:
            call.inputs = {**call.inputs, **{n: replace(source, handle=None) for n, source in gone.items()}}
        return {n: NO_GENERATION for n, source in gone.items() if source.record is None}

    # -- the thread of Dask's client ----------------------------------------------------------------------------------

    def _on_event(self, what: str, number: int, content: bytes) -> None:
        flight = self._flights.get(number)
        if flight is None:
            return  # cancelled, or run again by Dask
        if what == "finished":
            self._finished(flight, content)
        elif not flight.started:
            flight.started = True
            self._report(Started(number))

    def _finished(self, flight: InFlight, content: bytes) -> None:
        calls = flight.bundle.calls
        try:
            outcomes, logs = unwrapped(content)
        except Exception as error:  # noqa: BLE001 (what unpickling runs is the user's code)
            outcomes, logs = describe(error), []
        if isinstance(outcomes, Failure):
            outcomes = none_read(flight.bundle, outcomes)
        log_again(logs)
        self._workers.learn(len(calls), sum(outcome.busy for outcome in outcomes))
        kept = {outcome.handle.node for outcome in outcomes if isinstance(outcome.handle, Kept)}
        self._end(flight.bundle.number, outcomes, kept=kept, well=True)

    def _end(
        self, number: int, outcomes: list[Outcome] | None = None, *, kept: set[int] | None = None, well: bool = False
    ) -> None:
        """The driver need not wait for the bundle any more; what Dask has of it goes, unless values are kept."""
        with self._guard:
            flight = self._flights.pop(number, None)
            if flight is None:
                return
            following = self._suspects.ended(flight, self._flights, well=well)
            if following is not None:
                self._notes.put(following)
            if kept:
                self._graphs.leave(flight, kept)
        if not kept:
            self._notes.put(Drop((flight.key,)))
        if outcomes is not None:
            self._report(Finished(number, outcomes))

    # -- the engine's own thread --------------------------------------------------------------------------------------

    def _serve(self) -> None:
        next_tick = next_refresh = time.monotonic()
        while True:
            notes, over = self._take_notes(max(0.0, next_tick - time.monotonic()))
            try:
                self._handle(notes, over=over)
                if over:
                    return
                now = time.monotonic()
                if now >= next_tick:
                    next_tick = now + TICK_SECONDS
                    self._look_after(now)
                if now >= next_refresh:
                    next_refresh = now + REFRESH_SECONDS
                    self._refresh()
                    self._hand_over_held(now)
            except Exception as error:  # noqa: BLE001 (told to whoever waits)
                self._break(error)

    def _take_notes(self, seconds: float) -> tuple[list[_Note], bool]:
        """What was noted, after so many seconds at most if there is nothing; and whether it is over now."""
        notes: list[_Note] = []
        with contextlib.suppress(queue.Empty):
            note = self._notes.get(timeout=seconds)
            while note is not None:
                notes.append(note)
                note = self._notes.get_nowait()
            return notes, True
        return notes, False

    def _handle(self, notes: Iterable[_Note], *, over: bool) -> None:
        flights = []
        for note in notes:
            if isinstance(note, Drop):
                self._graphs.let_go(note.keys)
            elif isinstance(note, Fetch):
                self._answer(note)
            else:
                flights.append(note)
        if flights and not over:
            self._hand_over(flights)

    def _answer(self, note: Fetch) -> None:
        try:
            note.asked.set_result(self._graphs.future(note.handle))
        except Exception as error:  # noqa: BLE001 (handed to the thread that asks)
            note.asked.set_exception(error)

    def _hand_over(self, flights: Iterable[InFlight]) -> None:
        """Submit what was not cancelled meanwhile."""
        ready: list[InFlight] = []
        sent: set[Key] = set()
        for flight in flights:
            if flight.bundle.number not in self._flights or self._broken is not None:
                continue
            with self._guard:
                if self._suspects.hold_back(flight):
                    continue
                if any(self._suspects.waits(handle.bundle) for handle in promised_to(flight)):
                    self._held.append(flight)
                    continue
            if not self._can_follow(flight, sent):
                self._end(flight.bundle.number, outcomes_of_all(flight.bundle, "not_started"))
                continue
            placement = self._placement(flight)
            if placement is None:
                self._held.append(flight)
            else:
                flight.placement = placement
                ready.append(flight)
                sent.add(flight.key)
        self._graphs.submit(ready)

    def _can_follow(self, flight: InFlight, sent: set[Key]) -> bool:
        """Whether Dask has, or gets just now, all tasks that the bundle was promised values of."""
        return all(handle.key in sent or self._graphs.knows(handle) for handle in promised_to(flight))

    def _placement(self, flight: InFlight) -> Placement | None:
        """Where it may run; None if that is nowhere right now."""
        if not any(amount for name, amount in flight.bundle.resources.items() if name != "slots"):
            return ANYWHERE  # also without a worker: it makes clusters grow that adapt
        try:
            return self._workers.place(flight.bundle.resources) if self._workers.known else None
        except RunnerError as error:
            self._end(flight.bundle.number, outcomes_of_all(flight.bundle, "failed", describe(error)))
            return None

    def _hand_over_held(self, now: float) -> None:
        held, self._held = self._held, []
        waiting = [flight for flight in held if flight.bundle.number in self._flights]
        if self._workers.addresses:
            self._nudge = None
        elif waiting and self._nudge is None:
            self._nudge = self._client.submit(int, pure=False)  # clusters that adapt grow when there is work
        if not self._workers.known:
            for flight in waiting:
                self._wait_for_workers(flight, now)
        self._hand_over(waiting)

    # -- what goes wrong ----------------------------------------------------------------------------------------------

    def _look_after(self, now: float) -> None:
        if self._broken is not None:
            return
        if not self._connection.alive:
            raise ConnectionError(f"Dask's client is {self._client.status}")
        erred: list[InFlight] = []
        for flight in list(self._flights.values()):
            status = self._graphs.status(flight.key)
            if status == "error":
                erred.append(flight)
            elif status == "cancelled":
                self._lost(flight, "Dask cancelled it")
            elif status == "finished":
                flight.finished_at = flight.finished_at or now
                if now - flight.finished_at > OUTCOME_SECONDS:
                    self._lost(flight, "it ended, and its report never came")
            elif self._workers.runs(flight.placement):
                flight.waits_since = None
            elif flight.placement != ANYWHERE:
                self._end(flight.bundle.number, outcomes_of_all(flight.bundle, "not_started"))  # to be placed again
            else:
                self._wait_for_workers(flight, now)
        self._settle_erred(erred)

    def _wait_for_workers(self, flight: InFlight, now: float) -> None:
        """There are none; that fails the job if it lasts."""
        flight.waits_since = flight.waits_since or now
        if now - flight.waits_since > self._workers.patience:
            error = RunnerError(
                "the cluster has no workers",
                where=self._client.scheduler.address,
                because=f"none came within {self._workers.patience:g} s",
                hint="start workers, or raise worker_timeout= if they take longer",
            )
            self._end(flight.bundle.number, outcomes_of_all(flight.bundle, "failed", describe(error)))

    def _lost(self, flight: InFlight, why: str) -> None:
        lost = Failure("WorkerLost", why, "")
        self._end(
            flight.bundle.number,
            self._handed_back(flight.bundle) or outcomes_of_all(flight.bundle, "worker_lost", lost),
        )

    def _handed_back(self, bundle: Bundle) -> list[Outcome] | None:
        """Outcomes of a bundle that never ran because Dask lost inputs of it; None if it lost none."""
        handles = [source.handle for call in bundle.calls for source in call.inputs.values()]
        if not any(self._graphs.is_lost(handle) for handle in handles):
            return None
        return given_back(bundle, {call.node: self._without_lost_handles(call) for call in bundle.calls})

    def _settle_erred(self, erred: Iterable[InFlight]) -> None:
        from distributed.scheduler import KilledWorker

        died: dict[str, list[InFlight]] = {}
        for flight in erred:
            error = self._graphs.exception(flight)
            if isinstance(error, KilledWorker) and error.task == flight.key:
                died.setdefault(error.last_worker.address, []).append(flight)
            elif isinstance(error, KilledWorker):  # the one it waited for died
                self._end(flight.bundle.number, outcomes_of_all(flight.bundle, "not_started"))
            else:
                outcomes = self._handed_back(flight.bundle)
                self._end(
                    flight.bundle.number,
                    outcomes or outcomes_of_all(flight.bundle, "failed", describe(error_told(error))),
                )
        for address, flights in died.items():
            with self._guard:
                blamed = self._suspects.blamed(flights)
            lost = Failure("WorkerLost", f"the Dask worker {address} died", "")
            for flight in flights:
                # Calls of a bundle are tried apart from each other before any is to blame.
                known = flight is blamed or len(flight.bundle.calls) > 1
                kind: OutcomeKind = "worker_lost" if known else "not_started"
                self._end(flight.bundle.number, outcomes_of_all(flight.bundle, kind, lost if known else None))

    def _refresh(self) -> None:
        self._workers.update(scheduler_info(self._client)["workers"], time.monotonic())

    def _break(self, error: Exception) -> None:
        """Nothing can be done any more: tell it whoever waits, now and from now on."""
        self._broken = RunnerError(
            "the connection to the Dask scheduler is lost",
            where=self._client.scheduler.address if self._client.scheduler is not None else "",
            because=f"{type(error).__name__}: {error}",
            hint="run it again when the scheduler is back: what was published is a hit then",
        )
        for flight in list(self._flights.values()):
            self._end(flight.bundle.number, outcomes_of_all(flight.bundle, "failed", describe(self._broken)))
