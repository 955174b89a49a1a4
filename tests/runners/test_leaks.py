"""An abandoned wait or a cancelled run leaves nothing in the driver."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from penstock import INPUTS, flow, load_settings, task
from penstock.driver.loop import Driver
from penstock.runners import ThreadRunner
from penstock.testing.leaks import left_over


@pytest.fixture
def drivers(monkeypatch: pytest.MonkeyPatch) -> list[Driver]:
    """The drivers of the test's runs."""
    found: list[Driver] = []
    start = Driver.start

    def started(driver: Driver) -> None:
        found.append(driver)
        start(driver)

    monkeypatch.setattr(Driver, "start", started)
    return found


def test_an_abandoned_wait_leaves_no_waiter(drivers: list[Driver]) -> None:
    go = threading.Event()
    waiting: list[int] = []

    @task
    def held() -> bool:
        return go.wait(60)

    @task
    def quick() -> Any:
        return True

    @flow(runner=ThreadRunner(2))
    def impatient() -> Any:
        future: Any = held()
        for _ in range(3):
            with pytest.raises(TimeoutError):
                future.result(timeout=0.01)
        assert quick().result()  # so the driver has handled all earlier messages
        waiting.append(len(drivers[0]._core._waiters._waiting))
        go.set()
        return future

    assert impatient()
    assert waiting == [0]
    assert left_over(drivers[0]) == {}


def test_a_cancelled_run_releases_everything(drivers: list[Driver]) -> None:
    begun = threading.Event()

    @task(cache_policy=INPUTS, tags={"few"})
    def slow(n: int) -> int:
        begun.set()
        while True:
            threading.Event().wait(0.01)

    @task
    def follow(n: int) -> int:
        return n

    def stopped() -> None:
        for n in range(5):
            follow(slow(n))
        drivers[0].advance()
        assert begun.wait(60)
        raise KeyError("enough")

    done = flow(runner=ThreadRunner(2))(stopped).run_with({}, settings=load_settings())
    assert done.state == "failed"
    assert left_over(drivers[0]) == {}
