"""Runs that share keys through Redis: which computes, which waits, and what happens when Redis or a driver fails."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

from penstock import INPUTS, events, flow, task
from penstock.cli.main import main
from penstock.errors import LocksUnreachable, LockTimeout
from penstock.locks import Lease, RedisLockManager
from penstock.settings import load_settings
from penstock.transactions import IsolationLevel
from tests.locks import shared_work
from tests.locks.drivers import PATIENCE, Scene
from tests.servers.redis import RedisServer, free_port

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis")]

SLACK = 60.0
"""The delay that a busy machine may add to what is promised."""


def key_of(number: int) -> str:
    key = shared_work.shared.plan([number]).nodes[0].key
    assert key is not None
    return key


def in_thread(work: Callable[[], Any]) -> Callable[[], Any]:
    """Start `work` in a thread. The returned function waits for its result or raises its exception."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 (handed to the test)
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def result() -> Any:
        thread.join(PATIENCE)
        assert results, "it still runs"
        return results[0]

    return result


# -- all is well ------------------------------------------------------------------------------------------------------


def test_the_manager_of_a_policy_holds_a_lock_while_the_task_runs(scene: Scene, own_redis: RedisServer) -> None:
    manager = RedisLockManager.from_url(own_redis.url, prefix="team")
    policy = INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE, lock_manager=manager)
    seen: list[Any] = []

    @task(cache_policy=policy, key_name="features")
    def features(day: str) -> int:
        seen.extend(manager.ls())
        return len(day)

    @flow
    def weekly(days: list[str]) -> list[int]:
        return [features(day) for day in days]

    run = weekly.run(["mon", "tuesday"])
    assert run.result() == [3, 7]
    assert {holder.info["run"] for holder in seen} == {run.id}
    assert {holder.info["flow"] for holder in seen} == {"weekly"}
    assert manager.ls() == []
    with own_redis.client() as client:
        assert client.keys() == ["{team}:fence"]


def test_equal_inputs_reached_by_different_recipes_are_computed_once(scene: Scene) -> None:
    begun, may_end = threading.Event(), threading.Event()
    bodies: list[int] = []

    @task(cache_policy=INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE), key_name="costly")
    def costly(x: int) -> int:
        bodies.append(x)
        begun.set()
        assert may_end.wait(PATIENCE)
        return x * x

    @task(cache_policy=INPUTS)
    def one_way(x: int) -> int:
        return x + 2

    @task(cache_policy=INPUTS)
    def another_way(x: int) -> int:
        return x * 2

    waits = threading.Event()

    def told(event: events.Event) -> None:
        if isinstance(event, events.NodeParked):
            waits.set()

    first = in_thread(flow(lambda: costly(one_way(40)), name="one").run)
    assert begun.wait(PATIENCE)
    second = in_thread(lambda: flow(lambda: costly(another_way(21)), name="other").run_with({}, subscribers=[told]))
    assert waits.wait(PATIENCE)
    may_end.set()
    assert (first().result(), second().result()) == (1764, 1764)
    assert bodies == [42]


def test_processes_that_share_keys_compute_each_once_and_get_equal_values(scene: Scene) -> None:
    drivers = [scene.driver(100, shift) for shift in (0, 37, 74)]
    for driver in drivers:
        driver.go()
    answers = [driver.answer() for driver in drivers]
    assert scene.executions() == {str(key): 1 for key in range(100)}
    assert answers[0]["result"] == answers[1]["result"] == answers[2]["result"]
    assert len(set(answers[0]["result"].values())) == 100


def test_a_waiting_run_reports_the_holder(scene: Scene, own_redis: RedisServer) -> None:
    told: list[events.Event] = []
    with_holder = RedisLockManager.from_url(own_redis.url).open_session(info={"run": "blue-otter"})
    (lease,) = with_holder.try_acquire([key_of(1)])
    assert isinstance(lease, Lease)
    parked = threading.Event()

    def hear(event: events.Event) -> None:
        told.append(event)
        if isinstance(event, events.NodeParked):
            parked.set()

    result = in_thread(lambda: shared_work.shared.run_with({"keys": [1]}, subscribers=[hear]))
    assert parked.wait(PATIENCE)
    with_holder.close()
    run = result()
    assert run.state == "completed"
    (waited,) = [event for event in told if isinstance(event, events.NodeParked)]
    assert waited.holder["run"] == "blue-otter"
    assert {"host", "pid"} <= waited.holder.keys()
    assert abs(waited.since - time.time()) < 600
    assert [event.node for event in told if isinstance(event, events.NodeUnparked)] == [0]
    shown = CliRunner().invoke(main, ["show", "last"]).stdout
    assert "waited for others" in shown
    assert "for run blue-otter on" in shown


def test_waiting_can_be_limited(scene: Scene, own_redis: RedisServer) -> None:
    holder = RedisLockManager.from_url(own_redis.url).open_session(info={"run": "blue-otter"})
    holder.try_acquire([key_of(1)])
    settings = load_settings(overrides={"lock_wait_seconds": 0.5})
    run = shared_work.shared.run_with({"keys": [1, 2]}, settings=settings)
    holder.close()
    error = run.result(raise_on_failure=False)
    assert isinstance(error, LockTimeout)
    assert "blue-otter" in error.because
    assert scene.executions() == {"2": 1}, "what needs no waiting is not held up"


# -- a driver fails ---------------------------------------------------------------------------------------------------


def test_the_work_of_a_killed_driver_is_taken_over_within_its_lease(scene: Scene) -> None:
    victim, heir = scene.driver(1, SHARED_SECONDS="600"), scene.driver(1)
    victim.go()
    scene.wait_for_executions(1)
    heir.go()
    # The successor is parked once it has looked for the lock; the server's subscriptions would tell less.
    time.sleep(0.5)
    killed = time.monotonic()
    victim.popen.send_signal(signal.SIGKILL)
    answer = heir.answer()
    assert time.monotonic() - killed < 2 + 1 + SLACK
    assert scene.executions() == {"0": 2}
    assert answer["counts"]["executed"] == 1


def test_a_paused_driver_gets_the_result_of_its_successor(scene: Scene) -> None:
    paused, heir = scene.driver(1, SHARED_SECONDS="1"), scene.driver(1)
    paused.go()
    scene.wait_for_executions(1)
    paused.popen.send_signal(signal.SIGSTOP)
    heir.go()
    result = heir.answer()["result"]
    paused.popen.send_signal(signal.SIGCONT)
    assert paused.answer()["result"] == result, "two results of one key are visible"
    assert scene.executions() == {"0": 2}


# -- Redis fails ------------------------------------------------------------------------------------------------------


def test_a_plan_needs_no_locks(scene: Scene, own_redis: RedisServer) -> None:
    own_redis.kill()
    assert shared_work.shared.plan([1]).counts["miss"] == 1


def test_locks_unreachable_from_the_start_fail_the_run_with_a_clear_error(scene: Scene, own_redis: RedisServer) -> None:
    own_redis.kill()
    error = shared_work.shared.run([1]).result(raise_on_failure=False)
    assert isinstance(error, LocksUnreachable)
    assert f"127.0.0.1:{own_redis.port}" in error.where
    assert "on_locks_down" in error.hint
    assert scene.executions() == {}


def test_a_run_can_continue_without_locks_and_says_so(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PENSTOCK_LOCKS", f"redis://127.0.0.1:{free_port()}")
    monkeypatch.setenv("PENSTOCK_ON_LOCKS_DOWN", "run_unlocked")
    told: list[events.Event] = []
    with caplog.at_level(logging.WARNING, "penstock.locks"):
        run = shared_work.shared.run_with({"keys": [1, 2]}, subscribers=[told.append])
    assert len(run.result()) == 2
    assert [(event.doing, event.unlocked) for event in told if isinstance(event, events.LocksDown)] == [("lock", True)]
    assert any("Redis did not answer" in record.getMessage() for record in caplog.records)
    assert shared_work.shared.run([1, 2]).counts["hit"] == 2


def test_a_run_waits_out_a_restart(scene: Scene, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[events.Event] = []
    lease = load_settings(overrides={"lease_seconds": 5.0, "runner": "threads?workers=1"})
    monkeypatch.setenv("SHARED_SECONDS", "1")
    down = threading.Event()

    def hear(event: events.Event) -> None:
        told.append(event)
        if isinstance(event, events.LocksDown):
            down.set()

    @flow
    def in_two_steps() -> list[str]:
        first = shared_work.work(1).result()
        own_redis.kill()
        return [first, shared_work.work(2)]

    result = in_thread(lambda: in_two_steps.run_with({}, settings=lease, subscribers=[hear]))
    assert down.wait(PATIENCE), "nobody was told"
    own_redis.start()
    run = result()
    assert len(run.result()) == 2
    assert scene.executions() == {"1": 1, "2": 1}


def test_a_redis_that_stays_away_fails_the_run_but_loses_nothing(scene: Scene, own_redis: RedisServer) -> None:
    @flow
    def in_two_steps() -> list[str]:
        first = shared_work.work(1).result()
        own_redis.kill()
        return [first, shared_work.work(2)]

    run = in_two_steps.run()
    assert isinstance(run.result(raise_on_failure=False), LocksUnreachable)
    own_redis.start()
    again = shared_work.shared.run([1, 2])
    assert len(again.result()) == 2
    assert scene.executions() == {"1": 1, "2": 1}


def test_the_result_of_a_running_task_survives_the_death_of_redis(
    scene: Scene, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARED_SECONDS", "4")  # longer than the lease, so that its end is noticed
    told: list[events.Event] = []
    result = in_thread(lambda: shared_work.shared.run_with({"keys": [1]}, subscribers=[told.append]))
    scene.wait_for_executions(1)
    own_redis.kill()
    run = result()
    assert len(run.result()) == 1
    assert any(isinstance(event, events.LocksLost) and event.held == 1 for event in told)
    own_redis.start()
    assert shared_work.shared.run([1]).counts["hit"] == 1
