"""Small promises of cluster engines: every bundle ends once, and none that can never run waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from penstock.errors import RunnerError
from penstock.runners.remote.collecting import CollectedFlight, CollectingEngine
from penstock.runners.remote.machines import Machines
from penstock.runners.remote.queueing import QueuedFlight, QueueingEngine
from penstock.runners.remote.under_way import Kept
from penstock.worker.messages import Bundle, Call, Failure, Finished, Input, Started


def _bundle(number: int, *sources: Input) -> Bundle:
    return Bundle(number, [Call(number, 1, 0, {}, {100 + n: source for n, source in enumerate(sources)})])


def _machines(patience: float = 60.0) -> Machines:
    return Machines(patience=patience)


class Queueing(QueueingEngine[QueuedFlight]):
    """An engine whose cluster only notes what it gets. Its thread's steps run when the test says so."""

    def __init__(self, patience: float = 60.0) -> None:
        self.reports: list[Any] = []
        super().__init__("run", self.reports.append, _machines(patience))
        self.handed_over: list[int] = []
        self.placing: Callable[[QueuedFlight], bool] = lambda flight: True
        self.lost: set[Any] = set()
        engine = self

        class Service:
            def do(self, step: Callable[[], Any]) -> None:
                step()
                engine._hand_over_ready()

        self.service: Any = Service()

    def add(self, bundle: Bundle, *follows: QueuedFlight) -> QueuedFlight:
        flight = QueuedFlight(bundle, "flow/task", b"", [], [], timed=False, follows=list(follows))
        self.flights[bundle.number] = flight
        return flight

    def hand_over(self, flights: Sequence[QueuedFlight]) -> None:
        self.handed_over += [flight.bundle.number for flight in flights]

    def place(self, flight: QueuedFlight) -> bool:
        return self.placing(flight)

    def is_lost(self, handle: Any) -> bool:
        return handle in self.lost

    def close(self) -> None: ...

    def why_broken(self, because: str) -> RunnerError:
        return RunnerError("gone", because=because)

    def ends(self) -> list[tuple[int, str]]:
        return [(each.bundle, each.outcomes[0].kind) for each in self.reports if isinstance(each, Finished)]


def test_a_bundle_cancelled_before_it_was_submitted_never_reaches_the_cluster() -> None:
    engine = Queueing()
    flight = engine.add(_bundle(1))
    engine._ready.append(flight)
    engine.cancel(1)
    engine.cancel(1)  # whoever cancels twice changes nothing
    engine._hand_over_ready()
    assert engine.handed_over == []
    assert engine.reports == []


def test_a_bundle_that_follows_one_the_cluster_forgot_is_handed_back() -> None:
    engine = Queueing()
    first = engine.add(_bundle(1))
    engine.send(engine.add(_bundle(2), first))
    assert engine.handed_over == []
    assert engine.ends() == [(2, "not_started")]


def test_a_bundle_that_can_never_be_placed_fails_with_the_reason() -> None:
    engine = Queueing()

    def never(flight: QueuedFlight) -> bool:
        raise RunnerError("no worker can ever run it")

    engine.placing = never
    engine.send(engine.add(_bundle(1)))
    assert engine.ends() == [(1, "failed")]
    assert "no worker can ever run it" in engine.reports[0].outcomes[0].failure.message


def test_a_bundle_without_workers_is_held_until_they_come_or_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, now = Queueing(patience=60.0), [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    engine.placing = lambda flight: False
    flight = engine.add(_bundle(1))
    engine.send(flight)
    assert engine.look_again("the cluster") == [flight]
    engine._hand_over_ready()
    now[0] += 60.5
    engine.look_again("the cluster")
    assert engine.ends() == [(1, "failed")]
    assert "no workers" in engine.reports[0].outcomes[0].failure.message
    engine._hand_over_ready()
    assert engine.handed_over == []


def test_a_bundle_given_up_by_its_cluster_says_whether_inputs_or_its_worker_were_lost() -> None:
    engine, kept = Queueing(), Kept(None, 0)
    engine.lost.add(kept)
    engine.end_lost(engine.add(_bundle(1, Input(handle=kept))), Failure("WorkerLost", "it died", ""))
    engine.end_lost(engine.add(_bundle(2)), Failure("WorkerLost", "it died", ""))
    engine.end_lost(engine.add(_bundle(3)), ValueError("cannot be sent"))
    assert engine.ends() == [(1, "input_lost"), (2, "worker_lost"), (3, "failed")]


def test_what_waits_for_a_suspect_runs_after_it() -> None:
    engine = Queueing()
    one, two = engine.add(_bundle(1)), engine.add(_bundle(2))
    engine.end_killed({"w": [one, two]})
    assert engine.ends() == [(1, "not_started"), (2, "not_started")]  # unknown which of them killed it
    one, two = engine.add(_bundle(1)), engine.add(_bundle(2))
    engine.send(one)
    engine.send(two)  # a suspect as well, so it waits
    assert engine.handed_over == [1]
    three = engine.add(_bundle(3), two)
    engine.send(three)
    assert engine.handed_over == [1]
    assert (3, "not_started") not in engine.ends()
    engine.heard("finished", 99, b"")  # of a bundle that nobody waits for
    engine.heard("started", 1, b"")
    engine.heard("started", 1, b"")
    assert engine.reports.count(Started(1)) == 1
    one.well = True
    engine.end(one, [])
    assert engine.handed_over == [1, 2]


class Collecting(CollectingEngine[CollectedFlight]):
    """An engine whose cluster notes what is stopped; its thread's steps run at once, and timers when the test says."""

    def __init__(self) -> None:
        self.reports: list[Any] = []
        super().__init__("run", self.reports.append, _machines())
        self.stopped: list[tuple[int, bool]] = []
        self.settled: list[tuple[int, bool]] = []
        self.timers: list[Callable[[], Any]] = []
        self.parted = False
        engine = self

        class Service:
            def do(self, step: Callable[[], Any]) -> None:
                step()

            def later(self, seconds: float, step: Callable[[], Any]) -> None:
                engine.timers.append(step)

            def close(self) -> None: ...

        self._service: Any = Service()
        self._watch: Any = Service()

    def add(self, number: int, *follows: CollectedFlight) -> CollectedFlight:
        flight = CollectedFlight(_bundle(number), "flow/task", b"", [], [], timed=False, follows=list(follows))
        self.flights[number] = flight
        return flight

    def send(self, flight: CollectedFlight) -> None: ...

    def look(self) -> None: ...

    def stop(self, flight: CollectedFlight, *, force: bool) -> None:
        self.stopped.append((flight.bundle.number, force))
        if self.parted:
            self.end(flight)

    def settle(self, flight: CollectedFlight, error: BaseException, *, in_vain: bool) -> None:
        self.settled.append((flight.bundle.number, in_vain))
        self.end(flight)

    def left(self) -> None:
        self.reports.append("left")

    def why_broken(self, because: str) -> RunnerError:
        return RunnerError("gone", because=because)


@pytest.fixture
def collecting() -> Collecting:
    return Collecting()


def test_a_call_that_ignores_its_cancellation_is_killed_and_one_that_stopped_is_not(collecting: Collecting) -> None:
    collecting.add(1)
    stops = collecting.add(2)
    for number in (1, 2, 3):  # nobody waits for the third
        collecting.cancel(number)
    collecting.end(stops)
    for timer in collecting.timers:
        timer()
    assert collecting.stopped == [(1, False), (2, False), (1, True)]


def test_closing_cancels_what_is_under_way_once_and_then_leaves(collecting: Collecting) -> None:
    collecting.add(1)
    collecting.add(2)
    collecting.cancel(1)
    collecting.parted = True
    collecting.flights.pop(1)
    collecting.close()
    assert collecting.stopped == [(1, False), (2, False)]
    assert collecting.reports == ["left"]


def test_a_failure_is_judged_after_that_of_the_bundle_it_waited_for(collecting: Collecting) -> None:
    first = collecting.add(1)
    second = collecting.add(2, first)
    collecting.came(second, RuntimeError("its input failed"))
    assert collecting.settled == []  # the first one's failure may be the cause
    collecting.came(first, RuntimeError("broken"))
    assert collecting.settled == [(1, False), (2, True)]


def test_a_failure_after_the_cluster_was_lost_is_told_once(collecting: Collecting) -> None:
    flight = collecting.add(1)
    collecting._is_lost_now("the network is down")
    collecting.came(flight, RuntimeError("connection lost"))
    assert collecting.settled == []
    assert [each.bundle for each in collecting.reports] == [1]


def test_a_bundle_whose_machine_never_comes_back_fails(collecting: Collecting) -> None:
    collecting.machines.see({"a": {"gpu": 1.0}}, workers=1.0, now=0.0)
    flight = collecting.add(1)
    flight.bundle.resources = {"gpu": 1.0}
    collecting._look()
    assert collecting.reports == []
    collecting.machines.see({}, workers=1.0, now=1000.0)
    collecting._look()
    assert [each.outcomes[0].kind for each in collecting.reports] == ["failed"]
    assert collecting.stopped == [(1, False)]
