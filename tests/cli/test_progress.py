"""Progress: the totals of a run's events, and how they are printed without a terminal."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from penstock import events
from penstock.cli import progress
from penstock.cli.progress import Watch, watching


def started(attempt: int = 1) -> events.RunStarted:
    return events.RunStarted(at=0.0, run="r1", flow="weekly", attempt=attempt, runner="ThreadRunner()", store="memory:")


def planned(hit: int = 0, **tasks: int) -> events.NodesPlanned:
    return events.NodesPlanned(at=0.0, nodes=hit + sum(tasks.values()), hit=hit, tasks=tasks)


def finished(node: int, task: str, how: str = "executed", notes: tuple[str, ...] = ()) -> events.NodeFinished:
    return events.NodeFinished(at=0.0, node=node, task=task, how=how, attempt=1, notes=notes)  # type: ignore[arg-type]


def failed(node: int, task: str) -> events.NodeFailed:
    return events.NodeFailed(at=0.0, node=node, task=task, attempt=1, error="E", message="m")


def parked(node: int, task: str) -> events.NodeParked:
    return events.NodeParked(at=0.0, node=node, task=task, key="k", holder={"run": "r2", "host": "h", "pid": "7"})


def retried(node: int, task: str) -> events.NodeRetried:
    return events.NodeRetried(at=0.0, node=node, task=task, attempt=1, delay=0.0, reason="r")


def watch_of(*happened: events.Event) -> Watch:
    watch = Watch()
    for event in happened:
        watch(event)
    return watch


def test_events_are_totalled_per_task() -> None:
    watch = watch_of(
        started(),
        planned(hit=3, features=4, train=1),
        retried(0, "features"),
        finished(0, "features"),
        finished(1, "features", how="hit"),
        failed(2, "features"),
    )
    assert watch.line() == "weekly: 3 found; features 3/4 (1 hit, 1 retried, 1 failed); train 0/1"
    assert [failure.node for failure in watch.failures] == [2]


def test_a_call_that_waits_for_another_run_is_counted_once_until_it_ends() -> None:
    watch = watch_of(started(), planned(slow=1), parked(0, "slow"), parked(0, "slow"))
    assert watch.line() == "weekly: slow 0/1 (1 waiting); waiting: 1 for run r2 (pid 7 on h)"
    watch(finished(0, "slow", how="hit"))
    assert watch.line() == "weekly: slow 1/1 (1 hit)"


def test_a_call_that_continues_is_no_longer_waiting() -> None:
    watch = watch_of(planned(slow=2), parked(0, "slow"), parked(1, "slow"))
    assert watch.lines()[-1] == "  waiting: 2 for run r2 (pid 7 on h)"
    watch(events.NodeUnparked(at=0.0, node=0, task="slow", seconds=1.0))
    assert watch.lines()[-1] == "  waiting: 1 for run r2 (pid 7 on h)"


def test_trouble_with_the_locks_becomes_a_note() -> None:
    watch = watch_of(
        events.LocksDown(at=0.0, doing="lock", reason="no answer", unlocked=True), events.LocksLost(at=0.0, held=3)
    )
    assert list(watch.notes) == [
        "locks: cannot lock: no answer; tasks run without locks",
        "locks: the lease ran out, with 3 held",
    ]


def test_the_next_attempt_of_a_flow_starts_counting_again() -> None:
    watch = watch_of(started(), planned(slow=2), failed(0, "slow"), started(2), planned(hit=1, slow=1))
    assert watch.line() == "weekly: 1 found; slow 0/1"
    assert watch.failures == []


def test_notes_are_kept_with_their_counts() -> None:
    watch = watch_of(finished(0, "slow", notes=("odd",)), finished(1, "slow", notes=("odd",)))
    assert watch.notes == {"slow: odd": 2}


def test_only_the_first_and_last_state_are_printed_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 60.0)
    with watching() as watch:
        for event in (started(), planned(slow=50), *(finished(n, "slow") for n in range(50))):
            watch(event)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "run r1 of weekly on ThreadRunner()"
    assert lines[-1] == "weekly: slow 50/50"
    # One line at the start and one at the end, not 52 lines for 52 events within a second.
    assert len(lines) <= 3


def test_quiet_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with watching(quiet=True) as watch:
        watch(started())
        watch(planned(slow=1))
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_a_bar_per_task(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with watching() as watch:
        watch(started())
        watch(planned(hit=2, slow=1))
        watch(finished(0, "slow"))
    drawn = terminal.getvalue()
    assert "2 found" in drawn
    assert "slow  1/1" in drawn


def test_a_bar_shows_progress_and_estimates_the_remaining_time() -> None:
    watch = watch_of(started(), planned(features=8))
    assert "[····················] 0 %" in watch.lines()[0]
    for node in range(4):
        watch(finished(node, "features"))
    head = watch.lines()[0]
    assert "[██████████··········] 50 %, about " in head
    for node in range(4, 8):
        watch(finished(node, "features"))
    assert watch.lines()[0].endswith("[████████████████████] 100 %")


@pytest.mark.parametrize(("asked_for", "shown"), [((), False), (("distributed",), True)])
def test_an_engines_own_log_is_shown_on_request(
    asked_for: tuple[str, ...], shown: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    from penstock.cli.commands.run import _logging

    root, before = logging.getLogger(), logging.getLogger().handlers[:]
    root.handlers.clear()  # as in a new process
    try:
        with _logging("INFO", asked_for):
            logging.getLogger("distributed.scheduler").setLevel("INFO")
            logging.getLogger("distributed.scheduler").info("Register worker")
            logging.getLogger("distributed.scheduler").warning("Lost worker")
    finally:
        root.handlers[:] = before
    said = capsys.readouterr().err
    assert ("Register worker" in said) is shown
    assert "Lost worker" in said
