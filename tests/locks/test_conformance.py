"""The lock managers of this package, tested with the suite that is shipped for all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.clocks import SYSTEM_CLOCK, Clock
from penstock.locks import (
    FileSystemLockManager,
    LockManager,
    MemoryLockManager,
    RedisLockManager,
    StorageLockManager,
)
from penstock.locks.epochs import Epochs
from penstock.locks.slots import SlotLockManager
from penstock.storage.stores.memory import MemoryStore
from penstock.testing.locks import LockManagerTests
from penstock.testing.locks.suite import ODD_KEYS
from tests.servers.redis import RedisServer


def polls(clock: Clock) -> tuple[float, float]:
    """Return short polls in real time, where tests contend more than drivers do, and long ones on a fake clock."""
    return (0.001, 0.01) if clock is SYSTEM_CLOCK else (0.5, 2.0)


class TestMemoryLockManager(LockManagerTests):
    travels = False

    def make_manager(self, clock: Clock) -> LockManager:
        return MemoryLockManager(clock=clock)


class TestSlotLockManagerInMemory(LockManagerTests):
    travels = False

    def make_manager(self, clock: Clock) -> SlotLockManager:
        return SlotLockManager(MemoryStore(), reach="process", poll_seconds=polls(clock), clock=clock)

    def make_twin(self, manager: LockManager, clock: Clock) -> LockManager:
        assert isinstance(manager, SlotLockManager)
        return SlotLockManager(manager._store, reach="process", poll_seconds=polls(clock), clock=clock)


class TestFileSystemLockManager(LockManagerTests):
    entries_per_thread = 50

    @pytest.fixture(autouse=True)
    def _in_a_folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "outer" / "locks"

    def make_manager(self, clock: Clock) -> LockManager:
        return FileSystemLockManager(self.folder, poll_seconds=polls(clock), clock=clock)

    def make_twin(self, manager: LockManager, clock: Clock) -> LockManager:
        return self.make_manager(clock)

    def test_odd_keys_create_nothing_outside_the_folder(self, manager: LockManager, tmp_path: Path) -> None:
        session = self.open(manager)
        session.try_acquire(ODD_KEYS)
        assert [path.name for path in tmp_path.iterdir()] == ["outer"]
        assert [path.name for path in self.folder.parent.iterdir()] == ["locks"]
        assert [path.name for path in self.folder.iterdir()] == ["claims"]
        (made,) = (self.folder / "claims").iterdir()
        assert made.name == session.id


class TestFileSystemLockManagerOnANetwork(LockManagerTests):
    """In a folder that other machines can reach."""

    entries_per_thread = 50

    @pytest.fixture(autouse=True)
    def _in_a_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = tmp_path / "locks"
        monkeypatch.setattr("penstock.locks.folders.is_local", lambda folder: False)

    def make_manager(self, clock: Clock) -> LockManager:
        return FileSystemLockManager(self.folder, poll_seconds=polls(clock), clock=clock)

    def make_twin(self, manager: LockManager, clock: Clock) -> LockManager:
        return self.make_manager(clock)


class TestStorageLockManagerInMemory(LockManagerTests):
    travels = False

    def make_manager(self, clock: Clock) -> StorageLockManager:
        return StorageLockManager(MemoryStore(), poll_seconds=polls(clock), clock=clock)

    def make_twin(self, manager: LockManager, clock: Clock) -> LockManager:
        assert isinstance(manager, StorageLockManager)
        return StorageLockManager(manager._whole, poll_seconds=polls(clock), clock=clock)


class TestStorageLockManagerInAFolder(LockManagerTests):
    entries_per_thread = 20

    @pytest.fixture(autouse=True)
    def _in_a_folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "store"

    def make_manager(self, clock: Clock) -> StorageLockManager:
        return StorageLockManager(self.folder, poll_seconds=polls(clock), clock=clock)

    def make_twin(self, manager: LockManager, clock: Clock) -> LockManager:
        return self.make_manager(clock)


class TestStorageLockManagerFarAway(TestStorageLockManagerInMemory):
    """With several requests under way at once, as with a remote store."""

    def make_manager(self, clock: Clock) -> StorageLockManager:
        manager = super().make_manager(clock)
        manager._epochs = Epochs(manager._store, clock=clock, concurrency=4)
        return manager


@pytest.mark.slow
@pytest.mark.needs("redis")
class TestRedisLockManager(LockManagerTests):
    fake_time = False
    lease_seconds = 1.0

    @pytest.fixture(autouse=True)
    def _in_a_server(self, redis_server: RedisServer) -> None:
        self.server = redis_server

    def make_manager(self, clock: Clock) -> LockManager:
        return RedisLockManager.from_url(self.server.url, lease_seconds=self.lease_seconds, clock=clock)

    def make_twin(self, manager: LockManager, clock: Clock) -> LockManager:
        return self.make_manager(clock)
