"""Named limits: no more tasks with a tag run at once than allowed, wherever they run."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock import events, flow, task
from penstock.driver import limits
from penstock.errors import StoreError, UsageError
from penstock.limits import tables as stored_limits
from penstock.limits.tables import read_limits, read_rates, remove_limit, set_limit
from penstock.runners import DaskRunner, ThreadRunner
from penstock.settings import Settings, load_settings
from penstock.storage import LocalStore, MemoryStore, open_store
from tests.locks.drivers import Scene
from tests.servers.redis import RedisServer, own_redis

__all__ = ["own_redis"]

ODD_TAGS = ["db", "a/b", "..", ".hidden", "with blank", "é", "100%"]


def limited(**limits: int) -> Settings:
    """Settings with a separate store, and these limits in it."""
    name = str(time.monotonic_ns())
    for tag, limit in limits.items():
        set_limit(MemoryStore.named(name), tag, limit)
    return load_settings(overrides={"store": f"memory://{name}"})


class Gauge:
    """Count how many are inside at once."""

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self.inside = self.most = 0

    def pass_through(self) -> None:
        with self.guard:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(0.02)  # so that others have time to enter if they are allowed to
        with self.guard:
            self.inside -= 1


def test_limits_can_be_set_listed_and_removed() -> None:
    store = MemoryStore()
    for number, tag in enumerate(ODD_TAGS, 1):
        set_limit(store, tag, number)
    assert read_limits(store) == {tag: number for number, tag in enumerate(ODD_TAGS, 1)}
    assert remove_limit(store, "db")
    assert not remove_limit(store, "db")
    assert "db" not in read_limits(store)
    for odd in (-1, True, 1.0, float("nan"), 10**9):
        with pytest.raises(UsageError):
            set_limit(store, "db", odd)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_no_more_calls_run_at_once_than_the_limit_allows(limit: int) -> None:
    gauge = Gauge()

    @task(tags=["db"])
    def query(n: int) -> int:
        gauge.pass_through()
        return n

    @flow(runner=ThreadRunner(6))
    def many() -> list[int]:
        return query.map(list(range(20)))

    assert many.run_with({}, settings=limited(db=limit)).result() == list(range(20))
    assert gauge.most == limit


def test_a_limit_of_zero_is_a_pause_that_is_reported_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(stored_limits, "_FRESH_SECONDS", 0.0)
    settings, told, gauge = limited(db=0), [], Gauge()

    @task(tags=["db"])
    def query(n: int) -> int:
        gauge.pass_through()
        return n

    @flow(runner=ThreadRunner(4))
    def many() -> list[int]:
        return query.map([1, 2, 3, 4])

    def watch(event: events.Event) -> None:
        if isinstance(event, events.NodeParked):
            told.append(event.holder["limit"])
            set_limit(open_store(settings.store), "db", 2)

    assert many.run_with({}, settings=settings, subscribers=(watch,)).result() == [1, 2, 3, 4]
    assert told[0] == "db (paused: its limit is 0)"
    assert gauge.most <= 2


PLANTED = [
    *(b"", b"\xff", b"[]", b"null", b"0", b'{"limit": -1}', b'{"limit": NaN}', b'{"limit": 1e400}', b'{"limit": true}'),
    *(
        b'{"limit": "3"}',
        b'{"limit": 1.5}',
        b'{"limit": 999999999}',
        b'{"limit": 1, "x": ' + b"[" * 9_999 + b"]" * 9_999,
    ),
    b'{"limit": ' + b"9" * 9_999 + b"}",
]


@pytest.mark.parametrize("planted", PLANTED, ids=range(len(PLANTED)))
def test_an_unreadable_limit_is_reported_and_nothing_hangs(planted: bytes) -> None:
    settings = limited(other=1)
    open_store(settings.store).put("limits/tag-db.json", planted)

    @task(tags=["db"])
    def query(n: int) -> int:
        return n

    @task
    def free(n: int) -> int:
        return n

    @flow(runner=ThreadRunner(2))
    def limited_flow() -> int:
        return query(1)

    @flow(runner=ThreadRunner(2))
    def other_flow() -> int:
        return free(1)

    run = limited_flow.run_with({}, settings=settings)
    with pytest.raises(StoreError, match="cannot be read"):
        run.result()
    assert other_flow.run_with({}, settings=settings).result() == 1


@pytest.mark.parametrize("starts", ["0", "-1", "1e400", "NaN", "true", '"1"'])
@pytest.mark.parametrize("seconds", ["1", "0", "-1", "1e400", "NaN", '"1"', "1e-300"])
def test_an_invalid_rate_is_reported(starts: str, seconds: str) -> None:
    store = MemoryStore()
    store.put("limits/rate-api.json", f'{{"starts": {starts}, "seconds": {seconds}}}'.encode())
    with pytest.raises(StoreError, match="rate of a tag cannot be read"):
        read_rates(store)


def test_tasks_without_a_limited_tag_are_not_delayed() -> None:
    released = threading.Event()

    @task(tags=["db"])
    def query(n: int) -> int:
        assert released.wait(100)
        return n

    @task(tags=["other"])
    def free(n: int) -> int:
        released.set()
        return n

    @flow(runner=ThreadRunner(3))
    def mixed() -> list[int]:
        return [*query.map([1, 2, 3]), free(4)]

    assert mixed.run_with({}, settings=limited(db=1)).result() == [1, 2, 3, 4]


def test_a_task_with_two_limited_tags_waits_for_both_without_deadlock() -> None:
    both, one = Gauge(), Gauge()

    @task(tags=["db", "api"])
    def query(n: int) -> int:
        both.pass_through()
        return n

    @task(tags=["api"])
    def call(n: int) -> int:
        one.pass_through()
        return n

    @flow(runner=ThreadRunner(6))
    def mixed() -> list[int]:
        return [f for n in range(10) for f in (query(n), call(n))]

    run = mixed.run_with({}, settings=limited(db=3, api=2))
    assert run.state == "completed", run.error
    assert both.most <= 2
    assert one.most <= 2


@pytest.mark.slow
def test_the_delay_before_a_retry_holds_no_permit() -> None:
    went = threading.Event()

    @task(tags=["db"], retries=1, retry_delay_seconds=1.5)
    def fails_once() -> str:
        if not went.is_set():
            raise OSError("not yet")
        return "done"

    @task(tags=["db"])
    def other() -> str:
        went.set()
        return "other"

    @flow(runner=ThreadRunner(2))
    def two() -> list[str]:
        return [fails_once(), other()]

    assert two.run_with({}, settings=limited(db=1)).result() == ["done", "other"]


def test_the_log_names_the_limit_that_a_call_waits_for() -> None:
    told: list[events.Event] = []

    @task(tags=["db"])
    def query(n: int) -> int:
        time.sleep(0.05)
        return n

    @flow(runner=ThreadRunner(3))
    def many() -> list[int]:
        return query.map([1, 2, 3])

    many.run_with({}, settings=limited(db=1), subscribers=[told.append])
    waits = [event for event in told if isinstance(event, events.NodeParked)]
    assert {event.node for event in waits} == {1, 2}
    assert waits[0].holder == {"limit": "db (1 at once)"}
    assert {event.node for event in told if isinstance(event, events.NodeUnparked)} == {1, 2}


@pytest.mark.slow
@pytest.mark.needs("distributed")
def test_a_limited_task_that_follows_another_on_a_cluster_needs_its_permit(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    set_limit(LocalStore(store), "db", 1)
    marks = tmp_path / "marks"
    marks.mkdir()

    @task
    def first(n: int) -> int:
        return n

    @task(tags=["db"])
    def query(n: int) -> int:
        (marks / str(n)).touch()
        time.sleep(0.1)
        inside = len(list(marks.iterdir()))
        (marks / str(n)).unlink()
        return inside

    @flow(runner=DaskRunner(workers=2, threads_per_worker=2))
    def chains() -> list[int]:
        return [query(first(n)) for n in range(6)]

    assert chains.run_with({}, settings=load_settings(overrides={"store": store})).result() == [1] * 6


# -- across processes -------------------------------------------------------------------------------------------------


@pytest.fixture
def scene(tmp_path: Path, own_redis: RedisServer) -> Iterator[Scene]:
    scene = Scene(tmp_path, own_redis.url)
    (tmp_path / "marks").mkdir()
    scene.environment |= {"SHARED_MARKS": str(tmp_path / "marks"), "PENSTOCK_RUNNER": "threads?workers=6"}
    set_limit(LocalStore(scene.environment["PENSTOCK_STORE"]), "db", 3)
    yield scene
    for driver in scene.drivers:
        driver.end()


@pytest.mark.slow
@pytest.mark.needs("redis")
def test_a_limit_applies_to_several_drivers_together(scene: Scene) -> None:
    drivers = [scene.driver(30, SHARED_SECONDS="0.02") for _ in range(3)]
    for driver in drivers:
        driver.go()
    seen: list[Any] = [inside for driver in drivers for inside in driver.answer()["result"].values()]
    assert len(seen) == 90
    assert max(seen) <= 3


@pytest.mark.slow
@pytest.mark.needs("redis")
def test_permits_of_a_killed_driver_come_back_within_its_lease(scene: Scene, tmp_path: Path) -> None:
    victim, heir = scene.driver(3, SHARED_SECONDS="600"), scene.driver(3)
    victim.go()
    limit = time.monotonic() + 200
    while len(list((tmp_path / "marks").iterdir())) < 3:
        assert time.monotonic() < limit
        time.sleep(0.01)
    heir.go()
    time.sleep(0.5)  # so that it is waiting when they come back
    killed = time.monotonic()
    victim.popen.send_signal(signal.SIGKILL)
    assert len(heir.answer()["result"]) == 3
    assert time.monotonic() - killed < 2 + 1 + 60  # the slack of a busy machine; its call would take ten times as long
