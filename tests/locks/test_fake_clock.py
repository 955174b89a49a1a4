"""The fake clock: time moves only on command, and wakes all waiters that are due."""

from __future__ import annotations

import threading

import pytest

from penstock.clocks import Clock
from penstock.testing.clocks import FakeClock


def test_the_clock_stands_still() -> None:
    clock: Clock = FakeClock(now=5.0, monotonic=7.0)
    assert (clock.now(), clock.monotonic()) == (5.0, 7.0)
    assert clock.wait(threading.Event(), 0.0) is False


def test_both_clocks_advance_and_the_wall_clock_can_be_set() -> None:
    clock = FakeClock(now=5.0, monotonic=7.0)
    clock.advance(10.0)
    assert (clock.now(), clock.monotonic()) == (15.0, 17.0)
    clock.set_now(1.0)
    assert (clock.now(), clock.monotonic()) == (1.0, 17.0)


def waits(clock: FakeClock, event: threading.Event, timeout: float) -> tuple[threading.Thread, list[bool]]:
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(clock.wait(event, timeout)))
    thread.start()
    return thread, answers


def test_advancing_wakes_only_the_waiters_that_are_due() -> None:
    clock = FakeClock()
    threads = [waits(clock, threading.Event(), seconds) for seconds in (1.0, 2.0)]
    clock.wait_until_waiting(2)
    clock.advance(1.0)
    threads[0][0].join()
    assert clock.waiting == 1
    clock.advance(1.0)
    threads[1][0].join()
    assert [answers for _, answers in threads] == [[False], [False]]


def test_an_event_wakes_a_waiter_without_time_passing() -> None:
    clock, event = FakeClock(), threading.Event()
    thread, answers = waits(clock, event, 1e9)
    clock.wait_until_waiting(1)
    event.set()
    thread.join()
    assert answers == [True]
    assert clock.waiting == 0


def test_running_time_stops_at_every_deadline() -> None:
    clock, seen = FakeClock(monotonic=0.0), []

    def tick() -> None:
        for _ in range(4):
            clock.wait(threading.Event(), 2.5)
            seen.append(clock.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    clock.wait_until_waiting(1)
    clock.run_for(100.0)
    thread.join()
    assert seen == [2.5, 5.0, 7.5, 10.0]
    assert clock.monotonic() == 100.0


def test_waiting_for_missing_waiters_is_an_error() -> None:
    with pytest.raises(TimeoutError, match="0 threads wait"):
        FakeClock().wait_until_waiting(1, timeout=0.01)


def test_a_thread_that_does_not_settle_is_an_error() -> None:
    clock, go = FakeClock(), threading.Event()

    def work() -> None:
        clock.wait(threading.Event(), 1.0)
        go.wait()

    thread = threading.Thread(target=work)
    thread.start()
    clock.wait_until_waiting(1)
    with pytest.raises(TimeoutError, match="neither waits"):
        clock.run_for(2.0, settle=0.05)
    go.set()
    thread.join()
