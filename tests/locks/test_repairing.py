"""What an operator can repair: unreadable lock objects, and numbers with none above them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.errors import LockError
from penstock.locks import FileSystemLockManager, Holder, Lease, RedisLockManager, Session
from penstock.locks.base import Repairable
from penstock.locks.documents import LAST_NUMBER, LAST_TOKEN
from penstock.locks.memory import MemoryLockManager
from penstock.locks.slots import SlotLockManager
from penstock.storage.stores.memory import MemoryStore
from penstock.testing.clocks import FakeClock

NAME = "0123456789abcdef" * 2


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def manager(store: MemoryStore, clock: FakeClock) -> SlotLockManager:
    return SlotLockManager(store, reach="network", poll_seconds=(0.1, 1.0), clock=clock)


@pytest.fixture
def session(manager: SlotLockManager) -> Session:
    """A session that holds k."""
    session = manager.open_session()
    assert isinstance(session.try_acquire(["k"])[0], Lease)
    return session


def names(store: MemoryStore, folder: str) -> list[str]:
    return [entry.name for entry in store.list(folder)]


def rewrite(store: MemoryStore, name: str, change: Callable[[dict[str, object]], object]) -> None:
    data = store.get(name)
    assert data is not None
    fields = json.loads(data)
    change(fields)
    store.put(name, json.dumps(fields).encode())


def test_sound_locks_are_unchanged(manager: SlotLockManager, store: MemoryStore, session: Session) -> None:
    before = {name: store.get(name) for name in names(store, "")}
    assert manager.repair() == []
    assert {name: store.get(name) for name in names(store, "")} == before
    session.close()


def test_an_unreadable_lock_is_freed_by_a_higher_number(
    manager: SlotLockManager, store: MemoryStore, session: Session
) -> None:
    (name,) = names(store, "locks/")
    store.put(name, b"\0\0")
    (damage,) = manager.repair(dry_run=True)
    assert (damage.name, damage.mendable, store.get(name)) == (name, True, b"\0\0")
    assert len(manager.repair()) == 1
    assert manager.repair() == []
    assert len(names(store, "locks/")) == 2
    (lease,) = session.try_acquire(["k"])
    assert isinstance(lease, Lease)
    assert lease.fencing_token == 3
    session.close()


def test_an_unreadable_session_is_removed_after_a_quiet_minute(
    manager: SlotLockManager, store: MemoryStore, session: Session, clock: FakeClock
) -> None:
    store.put("sessions/" + NAME, b"")
    clock._now = time.time()
    (damage,) = manager.repair()
    assert not damage.mendable
    assert "less than a minute" in damage.said
    clock._now += 61
    assert [each.mendable for each in manager.repair()] == [True]
    assert "sessions/" + NAME not in names(store, "sessions/")
    session.close()


def test_objects_of_another_version_are_reported_and_left(
    manager: SlotLockManager, store: MemoryStore, session: Session
) -> None:
    rewrite(store, names(store, "locks/")[0], lambda fields: fields.update(v=2))
    store.put("sessions/" + NAME, b'{"v": 3}')
    found = manager.repair()
    assert [(each.mendable, each.said.partition(",")[0]) for each in found] == [
        (False, "it is of format 2"),
        (False, "it is of format 3"),
    ]
    assert len(names(store, "locks/")) == 1


@pytest.mark.parametrize("number", [LAST_NUMBER, LAST_NUMBER + 1, 10**18 - 1])
def test_a_number_with_none_above_it_is_an_error_until_it_is_removed(
    manager: SlotLockManager, store: MemoryStore, session: Session, number: int
) -> None:
    (name,) = names(store, "locks/")
    data = store.get(name)
    assert data is not None
    planted = name.rpartition("/")[0] + f"/{number}"
    store.put(planted, data.replace(b'"outcome": null', b'"outcome": "failed"'))
    other = manager.open_session()
    with pytest.raises(LockError, match="penstock locks repair"):
        other.try_acquire(["k"])
    assert [damage.name for damage in manager.repair()] == [planted]
    assert isinstance(other.try_acquire(["k"])[0], Holder)
    other.close()
    session.close()


def test_planted_details_of_a_holder_do_not_free_its_lock(
    manager: SlotLockManager, store: MemoryStore, session: Session
) -> None:
    (name,) = names(store, "locks/")
    data = store.get(name)
    assert data is not None
    other = manager.open_session()
    for odd in (b"1e400", b"-1e999", b"NaN", b"1" + b"0" * 400, b'"x"', b"[]", b"null"):
        fields = json.loads(data)
        text = json.dumps(fields | {"since": "odd", "info": "strange"}).encode()
        store.put(name, text.replace(b'"odd"', odd).replace(b'"strange"', odd))
        (holder,) = manager.ls()
        assert isinstance(other.try_acquire(["k"])[0], Holder)
        assert (holder.key, holder.since, holder.info) == ("k", 0.0, {})
    other.close()
    session.close()


def test_a_misplaced_lock_or_session_does_not_count(
    manager: SlotLockManager, store: MemoryStore, session: Session, clock: FakeClock
) -> None:
    session.try_acquire(["l"])
    of_k, of_l = sorted(names(store, "locks/"), key=lambda name: b'"k"' not in (store.get(name) or b""))
    store.put(of_l, store.get(of_k) or b"")
    assert [holder.key for holder in manager.ls()] == ["k"]
    (mine,) = names(store, "sessions/")
    store.put("sessions/" + NAME, store.get(mine) or b"")
    clock._now = time.time() + 61
    assert sorted(damage.name for damage in manager.repair()) == sorted([of_l, "sessions/" + NAME])
    session.close()


def test_counters_beyond_the_largest_number_are_damage(
    manager: SlotLockManager, store: MemoryStore, session: Session
) -> None:
    (name,) = names(store, "sessions/")
    data = store.get(name)
    assert data is not None
    for odd in (b"1e400", b"1" + b"0" * 400, b"-1", b"true", b"1.5"):
        store.put(name, data.replace(b'"counter": 1', b'"counter": ' + odd))
        assert [holder.key for holder in manager.ls()] == ["k"]  # for a lease
        assert len(manager.repair(dry_run=True)) == 1
    session.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "claims").mkdir()
    return tmp_path


def test_unreadable_claims_files_are_removed_after_a_quiet_period(folder: Path) -> None:
    path = folder / "claims" / NAME
    path.write_bytes(b"\0" * 100)
    manager = FileSystemLockManager(folder)
    assert [damage.mendable for damage in manager.repair()] == [False]
    os.utime(path, (time.time() - 61,) * 2)
    assert [damage.name for damage in manager.repair(dry_run=True)] == [str(path)]
    assert path.exists()
    manager.repair()
    assert not path.exists()


def test_a_claims_file_under_another_name_does_not_count(folder: Path) -> None:
    manager = FileSystemLockManager(folder)
    session = manager.open_session()
    session.try_acquire(["k"])
    (path,) = (folder / "claims").iterdir()
    (folder / "claims" / NAME).write_bytes(path.read_bytes())
    assert len(manager.repair(dry_run=True)) == 1
    session.close()


@pytest.mark.parametrize("token", [LAST_TOKEN, LAST_TOKEN + 1, 10**4000])
def test_a_token_with_none_above_it_is_an_error_until_it_is_removed(folder: Path, token: int) -> None:
    """A token above the maximum does not count as one."""
    other = FileSystemLockManager(folder).open_session()
    other.try_acquire(["k"])
    (path,) = (folder / "claims").iterdir()
    with path.open("ab") as file:
        file.write(f"\nw b 1.0 x\n\nh b {token}\n".encode())
    manager = FileSystemLockManager(folder)
    session = manager.open_session()
    if token == LAST_TOKEN:
        with pytest.raises(LockError, match="penstock locks repair"):
            session.try_acquire(["l"])
        session.close()
        assert [damage.name for damage in manager.repair()] == [str(path)]
        session = FileSystemLockManager(folder).open_session()
    assert isinstance(session.try_acquire(["l"])[0], Lease)
    session.close()
    other.close()


def test_claims_of_another_version_are_reported_and_left(folder: Path) -> None:
    (folder / "claims" / NAME).write_bytes(b'{"v": 2}\n')
    (damage,) = FileSystemLockManager(folder).repair()
    assert not damage.mendable
    assert "format 2" in damage.said
    assert (folder / "claims" / NAME).exists()


def test_locks_without_objects_have_nothing_to_repair() -> None:
    assert not issubclass(RedisLockManager, Repairable)
    assert not issubclass(MemoryLockManager, Repairable)
