"""Numbered lock files that a power cut left empty, cut short or full of zeros count as free and block nobody."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import pytest

from penstock.errors import LockError
from penstock.locks import Holder, Lease, StorageLockManager
from penstock.process.identity import ProcessIdentity
from penstock.storage.stores.memory import MemoryStore
from penstock.testing.clocks import FakeClock

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut off": lambda data: data[: len(data) // 2],
    "zeros": lambda data: b"\0" * len(data),
    "another object": lambda data: b'{"v": 1}',
    "no object": lambda data: b"[1, 2]",
}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock: FakeClock) -> MemoryStore:
    """A store with a session that holds a key, and whose process may or may not be alive."""
    store = MemoryStore()
    manager = StorageLockManager(store, clock=clock)
    session = manager.open_session(lease_seconds=20)
    assert isinstance(session.try_acquire(["k"])[0], Lease)
    session._heartbeat.stop()  # type: ignore[attr-defined]
    return store


def damage(store: MemoryStore, folder: str, how: str) -> None:
    for name in [entry.name for entry in store.list(folder)]:
        data = store.get(name)
        assert data is not None
        store.put(name, DAMAGES[how](data))


@pytest.mark.parametrize("how", DAMAGES)
def test_an_unreadable_epoch_is_free(store: MemoryStore, clock: FakeClock, how: str) -> None:
    damage(store, "locks/locks/", how)
    manager = StorageLockManager(store, clock=clock)
    assert manager.ls() == []
    session = manager.open_session()
    assert session.free(["k"]) == ["k"]
    (lease,) = session.try_acquire(["k"])
    assert isinstance(lease, Lease)
    assert lease.fencing_token == 2  # above the existing ones
    assert manager.break_lock("k", 2)
    session.close()


@pytest.mark.parametrize("how", DAMAGES)
def test_an_unreadable_session_is_dead_after_a_lease(store: MemoryStore, clock: FakeClock, how: str) -> None:
    damage(store, "locks/sessions/", how)
    with mock.patch.object(ProcessIdentity, "is_gone", return_value=False):
        manager = StorageLockManager(store, clock=clock)
        session = manager.open_session()
        assert isinstance(session.try_acquire(["k"])[0], Holder)
        assert [holder.key for holder in manager.ls()] == ["k"]
        clock.run_for(31)
        assert isinstance(session.try_acquire(["k"])[0], Lease)
        session.close()


def test_an_object_of_another_version_does_not_count_as_damage(store: MemoryStore, clock: FakeClock) -> None:
    for name in [entry.name for entry in store.list("locks/locks/")]:
        store.put(name, b'{"v": 2}')
    session = StorageLockManager(store, clock=clock).open_session()
    with pytest.raises(LockError, match="the same version of Penstock"):
        session.try_acquire(["k"])
    session.close()
