"""The parts of the base of cluster engines: what applies to every engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from penstock.errors import RunnerError
from penstock.runners.remote import watching
from penstock.runners.remote.connecting import Keeper, KeptConnection
from penstock.runners.remote.machines import Machines
from penstock.runners.remote.printed import Marks
from penstock.runners.remote.service_thread import ServiceThread
from penstock.runners.remote.setup import WorkerSetup, check_versions, versions
from penstock.runners.remote.under_way import InFlight, Kept, Promised, without_lost
from penstock.runners.remote.watching import Away, Gone, Watch
from penstock.runners.remote.workers import batching
from penstock.runners.remote.workers.batching import Batcher, Listeners, Told, compressed
from penstock.runners.remote.workers.interrupting import Interrupted, interrupt, interruptible
from penstock.testing.runners.support import PATIENCE
from penstock.worker.messages import NO_GENERATION, Bundle, Call, Input

# -- the engine's thread


class Steps:
    """A service thread that records what it does."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.errors: list[str] = []
        self.over = threading.Event()
        self.thread = ServiceThread(
            "penstock-test", after=lambda: self.done.append("after"), on_error=lambda e: self.errors.append(str(e))
        )

    def closed(self) -> list[object]:
        self.thread.close()
        return [each for each in self.done if each != "after"]


def test_steps_run_in_order_and_the_final_step_follows() -> None:
    steps = Steps()
    for n in range(100):
        steps.thread.do(lambda n=n: steps.done.append(n))  # type: ignore[misc]
    assert steps.closed() == list(range(100))
    assert steps.done[-1] == "after"


def test_a_step_that_raises_is_reported_and_the_next_one_runs() -> None:
    steps = Steps()
    steps.thread.do(lambda: 1 // 0)
    steps.thread.do(lambda: steps.done.append("next"))
    assert steps.closed() == ["next"]
    assert steps.errors == ["integer division or modulo by zero"]


def test_ask_returns_or_raises_what_the_step_does() -> None:
    steps = Steps()
    assert steps.thread.ask(lambda: threading.current_thread().name) == "penstock-test"
    with pytest.raises(ZeroDivisionError):
        steps.thread.ask(lambda: 1 // 0)
    steps.thread.close()
    with pytest.raises(RuntimeError, match="the run is over"):
        steps.thread.ask(lambda: 1)


def test_timers_run_soonest_first_and_repeating_ones_again() -> None:
    steps = Steps()
    steps.thread.later(0.02, lambda: steps.done.append("late"))
    steps.thread.later(0.01, lambda: steps.done.append("soon"))
    steps.thread.later(0.03, steps.over.set)
    ticks = threading.Semaphore(0)
    steps.thread.every(0.001, ticks.release)
    assert steps.over.wait(PATIENCE)
    assert all(ticks.acquire(timeout=PATIENCE) for _ in range(3))
    steps.thread.later(PATIENCE, lambda: steps.done.append("never"))
    assert steps.closed() == ["soon", "late"]


# -- machines ----


def machines(patience: float = 10.0, **there: dict[str, float]) -> Machines:
    made = Machines(patience=patience)
    made.see(there, workers=float(len(there)), now=0.0)
    return made


def test_before_the_first_machine_a_cluster_may_get_any() -> None:
    nothing = machines()
    assert not nothing.known
    assert nothing.capacity.get("gpu", 0.0) > 10**9
    nothing.check_fits("call", {"gpu": 8.0})


def test_requirements_that_no_single_machine_had_lately_are_refused() -> None:
    there = machines(a={"cpu": 4.0}, b={"cpu": 4.0, "gpu": 1.0})
    assert there.capacity["cpu"] == 8.0
    assert there.fitting({"gpu": 1.0}) == ["b"]
    with pytest.raises(RunnerError, match=r"(?s)no worker can ever run call.*cpu 5 \(the most is 4\)"):
        there.check_fits("call", {"slots": 1.0, "cpu": 5.0})
    there.see({"a": {"cpu": 4.0}}, workers=1.0, now=10.0)
    there.check_fits("call", {"gpu": 1.0})
    assert there.capacity["gpu"] == 1.0
    there.see({"a": {"cpu": 4.0}}, workers=1.0, now=10.1)
    with pytest.raises(RunnerError, match=r"gpu 1 \(the most is 0\)"):
        there.check_fits("call", {"gpu": 1.0})
    assert there.capacity["gpu"] == 0.0


# -- messages of workers


def test_an_urgent_message_is_sent_at_once_and_the_rest_together() -> None:
    sent: list[tuple[str, list[Told]]] = []
    later: list[Callable[[], None]] = []
    batcher = Batcher(lambda to, told: sent.append((to, list(told))), lambda _, do: later.append(do))
    told = [Told("run", "finished", n) for n in range(3)]
    batching_gap, batching.GAP_SECONDS = batching.GAP_SECONDS, PATIENCE
    try:
        batcher.tell("driver", told[0])
        batcher.tell("driver", told[1])
        batcher.tell("driver", told[2])
    finally:
        batching.GAP_SECONDS = batching_gap
    assert sent in ([("driver", told[:1])], [])  # the first waits, too, if the machine is up for less than the gap
    assert len(later) == 1
    later[0]()
    assert [each for _, message in sent for each in message] == told


def test_a_message_reaches_the_listener_of_its_run_with_its_outcomes_unchanged() -> None:
    heard: list[object] = []
    listeners = Listeners()
    listeners.listen("mine", lambda *told: heard.append(told))
    outcomes = b"x" * 10**6
    message: Sequence[tuple[object, ...]] = [
        ("mine", "finished", 1, compressed(outcomes)),
        ("other", "finished", 2, compressed(b"")),
        ("mine", "finished", 3, compressed(b"small")),
    ]
    assert sum(len(str(each)) for each in message) < 10**5
    listeners.hear(message)
    assert heard == [("finished", 1, outcomes), ("finished", 3, b"small")]
    listeners.leave("mine")
    listeners.hear(message)
    assert len(heard) == 2


def test_a_run_ends_when_the_marks_after_its_prints_have_arrived() -> None:
    marks = Marks()
    marks.came("run")
    marks.expect("run", 2)
    drained = threading.Thread(target=marks.drain, args=("run",))
    drained.start()
    marks.came("run")
    drained.join(PATIENCE)
    assert not drained.is_alive()


# -- connections


def watched(monkeypatch: pytest.MonkeyPatch, looks: list[Exception | None], *, patience: float) -> list[str]:
    """Return the losses reported for a cluster with these answers to checks; the last one repeats."""
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.001)
    lost: list[str] = []
    over, seen = threading.Event(), threading.Event()

    def look() -> None:
        answer = looks.pop(0) if len(looks) > 1 else looks[0]
        if len(looks) == 1:
            seen.set()
        if answer is not None:
            raise answer

    def on_lost(why: str) -> None:
        lost.append(why)
        over.set()

    watch = Watch(look, patience=patience, on_lost=on_lost, name="penstock-test-watch")
    assert seen.wait(PATIENCE)
    if looks[0] is not None:
        assert over.wait(PATIENCE)
    watch.close()
    return lost


def test_a_cluster_that_is_briefly_unreachable_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched(monkeypatch, [Away("for a moment"), None], patience=PATIENCE) == []


def test_a_cluster_that_is_unreachable_for_too_long_or_gone_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert watched(monkeypatch, [None, Away("too long")], patience=0.0) == ["too long"]
    assert watched(monkeypatch, [None, Gone("for good")], patience=PATIENCE) == ["for good"]


def test_a_connection_that_is_never_made_is_given_up() -> None:
    answers, disconnected = threading.Event(), threading.Event()

    def connect() -> None:
        answers.wait()

    with pytest.raises(RunnerError, match=r"no connection came about within 0\.01 s"):
        Keeper(
            connect,
            disconnected.set,
            patience=0.01,
            refusal=lambda because: RunnerError("cannot connect", because=because),
            name="penstock-test",
        )
    answers.set()
    assert disconnected.wait(PATIENCE)  # a late connection is not kept


class Line:
    alive = True
    closed = False

    def close(self) -> None:
        self.closed = True


def test_a_broken_kept_connection_is_made_again() -> None:
    kept = KeptConnection(Line)
    first = kept.get()
    assert kept.get() is first
    first.alive = False
    second = kept.get()
    assert (first.closed, second is first) == (True, False)
    kept.close()
    assert second.closed


# -- workers


def test_an_interrupt_reaches_its_bundle_and_no_later_one_in_its_thread() -> None:
    def endless() -> None:
        with interruptible("bundle") as block:
            interrupt("bundle")
            while True:
                assert block.stopped

    with pytest.raises(Interrupted):
        endless()
    interrupt("bundle")  # it has ended, so nothing happens


def test_a_version_other_than_the_drivers_is_refused() -> None:
    check_versions(versions())
    with pytest.raises(RunnerError, match="a worker has other versions than the driver"):
        check_versions(("3.11", "0.0.0"))


def test_a_setup_knows_whether_another_process_made_it() -> None:
    setup = WorkerSetup(versions(), "another", (), None, b"", None)
    assert setup.from_elsewhere


# -- ended bundles and lost values


def test_an_ended_bundle_holds_none_of_its_predecessors() -> None:
    first = InFlight(Bundle(1, []), "flow/task", b"", [], [], timed=False)
    handle = Promised(first.left, 1, first)
    second = InFlight(bundle_with(Input(handle=handle)), "flow/task", b"", [], [], timed=False, follows=[first])
    second.forget_followed()
    assert second.follows == []
    assert handle.flight is None


def bundle_with(*sources: Input) -> Bundle:
    calls = [Call(n, 1, 0, {}, {10 + n: source}) for n, source in enumerate(sources)]
    return Bundle(1, calls)


def test_lost_values_are_read_from_the_store_or_recomputed() -> None:
    record: Any = "a record"
    there, stored, gone = Kept(None, 0), Kept(None, 1), Kept(None, 2)
    bundle = bundle_with(Input(handle=there), Input(record=record, handle=stored), Input(handle=gone))
    outcomes = without_lost(bundle, lambda handle: handle in (stored, gone))
    assert [(each.kind, dict(each.lost)) for each in outcomes] == [
        ("not_started", {}),
        ("not_started", {}),
        ("input_lost", {12: NO_GENERATION}),
    ]
    assert [source.handle for call in bundle.calls for source in call.inputs.values()] == [there, None, None]
    assert without_lost(bundle, lambda handle: False) == []
