"""Tests of leases: keeping, losing, sharing with workers, and closing them."""

from __future__ import annotations

import threading

import pytest

from penstock.errors import LockError, PenstockError, SessionLost
from penstock.locks.base import Lease, LockManager
from penstock.testing.locks.support import PATIENCE, LockSupport


class LeaseTests(LockSupport):
    """A lease lasts as long as its session, and no longer."""

    def test_a_session_with_heartbeats_keeps_its_locks(self, manager: LockManager) -> None:
        holder, other = self.open(manager), self.open(manager)
        self.take(holder, "k")
        for _ in range(5):
            self.pass_time(0.7 * self.lease_seconds)
            assert self.refused(other, "k").session_id == holder.id
        assert not holder.lost

    def test_an_expired_lease_passes_the_lock_on(self, manager: LockManager) -> None:
        holder, other = self.open(manager), self.open(manager)
        old = self.take(holder, "k")
        self.refused(other, "k")
        self.starve(holder)
        self.pass_time(0.5 * self.lease_seconds)
        self.refused(other, "k")
        self.pass_time(0.75 * self.lease_seconds)
        assert self.take(other, "k").fencing_token > old.fencing_token

    def test_a_holder_knows_of_its_loss_before_another_can_act_on_it(self, manager: LockManager) -> None:
        holder, other = self.open(manager), self.open(manager)
        self.take(holder, "k")
        self.refused(other, "k")
        self.starve(holder)
        lost_first = False
        for _ in range(40):
            self.pass_time(self.lease_seconds / 20)
            if isinstance(other.try_acquire(["k"])[0], Lease):
                break
            lost_first = holder.lost
        assert lost_first

    def test_a_lost_session_is_informed_once_and_can_do_nothing(self, manager: LockManager) -> None:
        told = threading.Semaphore(0)
        holder, other = self.open(manager, on_lost=told.release), self.open(manager)
        lease = self.take(holder, "k")
        self.refused(other, "k")
        self.starve(holder)
        self.pass_time(1.3 * self.lease_seconds)
        assert holder.lost
        assert told.acquire(timeout=PATIENCE)
        self.take(other, "k")
        with pytest.raises(SessionLost):
            holder.try_acquire(["k"])
        holder.release([lease], "published")
        holder.close()
        third = self.open(manager)
        assert self.refused(third, "k").session_id == other.id
        assert not told.acquire(blocking=False)

    def test_a_closed_session_is_never_reported_as_lost(self, manager: LockManager) -> None:
        told: list[str] = []
        session = self.open(manager, on_lost=lambda: told.append("lost"))
        session.close()
        self.pass_time(2 * self.lease_seconds)
        assert told == []

    def test_all_locks_of_a_dead_session_are_free_once_one_was_taken_over(self, manager: LockManager) -> None:
        holder, other = self.open(manager), self.open(manager)
        holder.try_acquire(["k", "l", "m"])
        self.refused(other, "k")
        self.starve(holder)
        self.pass_time(1.3 * self.lease_seconds)
        self.take(other, "k")
        self.take(other, "l")
        newcomer = self.open(manager)
        self.take(newcomer, "m")

    def test_an_invalid_lease_is_refused(self, manager: LockManager) -> None:
        for seconds in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(PenstockError):
                manager.open_session(lease_seconds=seconds)

    def test_close_releases_everything(self, manager: LockManager) -> None:
        one, two = self.open(manager), self.open(manager)
        one.try_acquire(["a", "b"])
        one.close()
        one.close()
        self.take(two, "a")
        self.take(two, "b")
        with pytest.raises(LockError):
            one.try_acquire(["c"])

    def test_a_joined_session_acts_for_the_driver(self, manager: LockManager) -> None:
        driver, other = self.open(manager, info={"run": "r"}), self.open(manager)
        worker = self.make_twin(manager, self.clock).join_session(driver.id)
        lease = self.take(worker, "k")
        assert lease.session_id == driver.id == worker.id
        assert self.refused(other, "k").session_id == driver.id
        assert self.take(driver, "k") == lease
        driver.release([lease], "published")
        self.take(other, "k")
        assert self.refused(worker, "k").session_id == other.id

    def test_closing_a_view_releases_nothing(self, manager: LockManager) -> None:
        driver, other = self.open(manager), self.open(manager)
        worker = manager.join_session(driver.id)
        self.take(worker, "k")
        worker.close()
        assert self.refused(other, "k").session_id == driver.id
        assert not driver.lost

    def test_closing_the_driver_frees_the_locks_its_workers_took(self, manager: LockManager) -> None:
        driver, other = self.open(manager), self.open(manager)
        worker = manager.join_session(driver.id)
        self.take(worker, "k")
        driver.close()
        self.take(other, "k")
        assert worker.lost
        with pytest.raises(SessionLost):
            worker.try_acquire(["l"])

    def test_a_view_of_a_missing_session_is_lost(self, manager: LockManager) -> None:
        view = manager.join_session("0" * 32)
        assert view.lost
        with pytest.raises(SessionLost):
            view.try_acquire(["k"])
