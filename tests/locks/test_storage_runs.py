"""Runs that share keys through nothing but their result store."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.errors import LocksUnreachable, StoreUnreachable
from penstock.locks import FileSystemLockManager, Holder, Lease, StorageLockManager, lock_manager_from
from penstock.settings import load_settings
from penstock.storage import LocalStore, MemoryStore
from tests.locks import shared_work


@pytest.mark.slow
def test_the_setting_store_puts_locks_into_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARED_NOTES", str(tmp_path / "notes"))
    settings = load_settings(overrides={"store": str(tmp_path / "store"), "locks": "store"})
    run = shared_work.shared.run_with({"keys": [1, 2]}, settings=settings)
    assert len(run.result()) == 2
    assert list((tmp_path / "store" / "locks").rglob("*")) == [tmp_path / "store" / "locks" / "claims"]


def test_locks_in_a_folder_store_and_locks_beside_it_are_the_same(tmp_path: Path) -> None:
    beside = FileSystemLockManager(tmp_path / "locks").open_session()
    inside = lock_manager_from("store", store=LocalStore(tmp_path)).open_session()
    (lease,) = beside.try_acquire(["k"])
    (refused,) = inside.try_acquire(["k"])
    assert isinstance(lease, Lease)
    assert isinstance(refused, Holder)
    assert refused.session_id == beside.id
    beside.close()
    inside.close()


def test_a_store_that_does_not_answer_makes_the_locks_unreachable() -> None:
    store = MemoryStore()
    session = StorageLockManager(store).open_session()

    def fail(name: str, data: bytes) -> bool:
        raise StoreUnreachable("no answer")

    store.put_if_absent = fail  # type: ignore[method-assign]
    with pytest.raises(LocksUnreachable):
        session.try_acquire(["k"])
    session.close()


def test_a_probe_whose_answer_is_lost_refuses_no_store() -> None:
    class AsksAgain(MemoryStore):
        """A client that repeated a request after its answer was lost, and learned that the name is taken."""

        lost = 1

        def put_if_absent(self, name: str, data: bytes) -> bool:
            created = super().put_if_absent(name, data)
            self.lost -= created
            return created and self.lost < 0

    session = StorageLockManager(AsksAgain()).open_session()
    assert isinstance(session.try_acquire(["k"])[0], Lease)
    session.close()


def test_a_waiter_lists_only_once(tmp_path: Path) -> None:
    class Counting(MemoryStore):
        listings = 0

        def list(self, prefix):  # type: ignore[no-untyped-def]
            self.listings += 1
            return super().list(prefix)

    store = Counting()
    manager = StorageLockManager(store, poll_seconds=(0.001, 0.001))
    holder, waiter = manager.open_session(), manager.open_session()
    holder.try_acquire(["k", "l"])
    before = store.listings
    assert waiter.wait_any(["k", "l"], 0.05) == []
    assert store.listings == before + 2
    holder.close()
    waiter.close()
