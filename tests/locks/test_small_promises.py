"""Small promises of locks: valid leases, when a lock is free, what is written, and what is left alone."""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from penstock.clocks import SystemClock
from penstock.errors import ConfigurationError, LockError
from penstock.locks import FileSystemLockManager, Holder, Lease, MemoryLockManager, RedisLockManager, documents
from penstock.locks.liveness import SessionRegistry
from penstock.locks.redis.health import _clock, _version
from penstock.locks.sessions import checked_lease
from penstock.locks.slots import SlotLockManager
from penstock.locks.table_files import TableFiles
from penstock.storage.results.salts import SALT_NAME, salt_of
from penstock.storage.stores.memory import MemoryStore
from penstock.testing.clocks import FakeClock


@pytest.mark.parametrize("seconds", [0.001, 0.5, 1, 30.0])
def test_a_lease_can_be_shorter_than_a_second(seconds: float) -> None:
    assert checked_lease(None, seconds) == seconds


@pytest.mark.parametrize("seconds", [0, -1.0, True, "30", float("nan"), float("inf")])
def test_a_lease_is_a_positive_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="a positive number of seconds"):
        checked_lease(seconds)


@pytest.mark.needs("redis")
def test_a_manager_has_the_lease_it_was_given() -> None:
    assert RedisLockManager(lease_seconds=7.5).lease_seconds == 7.5
    assert RedisLockManager().lease_seconds is None


def test_a_lock_is_free_exactly_when_the_lease_of_its_holder_ends() -> None:
    clock = FakeClock()
    manager = MemoryLockManager(lease_seconds=100.0, clock=clock)
    holder, other = manager.open_session(), manager.open_session()
    (answer,) = holder.try_acquire(["k"])
    assert isinstance(answer, Lease)
    holder._heartbeat.stop()  # type: ignore[attr-defined]
    clock.advance(99.5)
    assert other.free(["k", "nobody's"]) == ["nobody's"]
    clock.advance(0.5)
    assert other.free(["k"]) == ["k"]


def test_ping_finds_a_folder_that_cannot_hold_locks(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LockError):
        FileSystemLockManager(tmp_path / "file" / "locks").ping()


def test_appending_to_a_deleted_file_is_known_to_be_lost(tmp_path: Path) -> None:
    files = TableFiles(str(tmp_path / "locks"))
    assert files.append("gone", b"x") is False
    files.create("there", b"x")
    assert files.append("gone", b"x") is False
    assert files.append("there", b"y") is True
    assert files.read("there", 0) == b"xy"


def test_a_session_writes_what_is_specified() -> None:
    store = MemoryStore()
    manager = SlotLockManager(store, reach="network", poll_seconds=(0.1, 1.0), clock=FakeClock())
    manager.open_session(info={"run": "r"})
    (data,) = [store.get(file.name) for file in store.list("sessions/")]
    assert data is not None
    assert json.loads(data).keys() == {"v", "session_id", "counter", "lease_seconds", "info", "process"}


def test_a_count_is_a_whole_number_that_can_still_grow() -> None:
    assert documents.count(0) == 0
    assert documents.count(documents._LAST_COUNT) == documents._LAST_COUNT
    for wrong in (-1, documents._LAST_COUNT + 1, 1.0, True, "1", None):
        with pytest.raises(documents.Damaged):
            documents.count(wrong)


def test_repair_does_not_remove_what_was_just_written() -> None:
    store, clock = MemoryStore(), FakeClock()
    manager = SlotLockManager(store, reach="network", poll_seconds=(0.1, 1.0), clock=clock)
    store.put("sessions/" + "ab" * 16, b"{")
    clock.advance(max(0.0, next(file.modified for file in store.list("sessions/")) - clock.now()) + 1.0)
    (damage,) = manager.repair(dry_run=False)
    assert not damage.mendable
    assert "possibly by a living session" in damage.said
    assert [file.name for file in store.list("sessions/")] == ["sessions/" + "ab" * 16]
    assert list(SessionRegistry(store, clock=clock).unreadable())


class SignallingClock(SystemClock):
    """A clock that signals when a thread pauses."""

    def __init__(self) -> None:
        self.paused = threading.Event()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.paused.set()
        return super().wait(event, seconds)


def test_a_contender_that_may_still_get_the_lock_is_waited_for(tmp_path: Path) -> None:
    manager = FileSystemLockManager(tmp_path / "locks")
    if not manager.batched:
        pytest.skip("temporary files are on no disk of this machine alone")
    sessions: list[Any] = [manager.open_session() for _ in range(2)]
    low, high = sorted(sessions, key=lambda session: str(session.id))
    low._clock = clock = SignallingClock()
    writes, looked = iter(range(100)), threading.Event()
    tried: list[Future[Any]] = []
    add_low, add_high = low._add, high._add

    def when_nobody_was_seen(data: bytes) -> None:
        if not tried:  # it has looked, and is about to write that it wants the lock
            tried.append(pool.submit(high.try_acquire, ["k"]))
            assert looked.wait(60)
        else:  # about to write that it has it
            clock.paused.set()
        add_low(data)

    def when_the_other_has_looked_too(data: bytes) -> None:
        if next(writes):  # it has seen nobody, and is about to write that it has the lock
            looked.set()
            assert clock.paused.wait(60)
        add_high(data)

    low._add, high._add = when_nobody_was_seen, when_the_other_has_looked_too
    with ThreadPoolExecutor(1) as pool:
        (of_low,) = low.try_acquire(["k"])
        (of_high,) = tried[0].result(60)
    assert isinstance(of_high, Lease)
    assert isinstance(of_low, Holder)
    assert of_low.session_id == high.id


# -- Redis without a Redis --------------------------------------------------------------------------------------------


class FakeRedis:
    """Returns the time that it is given."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def call(self, doing: Any) -> Any:
        return int(self._seconds), int(self._seconds % 1 * 1e6)


def test_a_clock_that_differs_from_the_servers_is_reported() -> None:
    import time

    assert _clock(FakeRedis(time.time() + 0.999)).state == "ok"  # type: ignore[arg-type]
    ahead, behind = _clock(FakeRedis(time.time() + 1e5)), _clock(FakeRedis(time.time() - 1e5))  # type: ignore[arg-type]
    assert (ahead.state, behind.state) == ("warn", "warn")
    assert "ahead of" in ahead.said
    assert "behind" in behind.said


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({"redis_version": "7.2.4", "role": "master"}, "ok"),
        ({"redis_version": "5.0"}, "ok"),
        ({"redis_version": "4.9.9"}, "fail"),
        ({"redis_version": "7.0", "role": "slave"}, "fail"),
        ({}, "fail"),
    ],
)
def test_a_redis_that_is_too_old_or_a_replica_is_refused(facts: dict[str, Any], state: str) -> None:
    assert _version(facts).state == state


def test_a_salt_is_created_once() -> None:
    store = MemoryStore()
    made = salt_of(store, make=True)
    assert len(made) == 32
    assert salt_of(store, make=False) == salt_of(store, make=True) == made
    assert store.get(SALT_NAME) == made.hex().encode()
