"""Tests of waiting for locks."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable

import pytest

from penstock.errors import SessionLost
from penstock.locks.base import Holder, LockManager, LockOutcome, Session, Wakeup
from penstock.testing.locks.support import PATIENCE, LockSupport


class WaitingTests(LockSupport):
    """Waiting threads are woken by everything that may free a lock."""

    def in_thread(self, work: Callable[[], list[Wakeup]]) -> Callable[[], list[Wakeup]]:
        """Start `work` in a thread, and return a function that waits for its result."""
        results: list[list[Wakeup]] = []
        thread = threading.Thread(target=lambda: results.append(work()))
        thread.start()

        def result() -> list[Wakeup]:
            thread.join(PATIENCE)
            assert results, "the thread still waits, or it failed"
            return results[0]

        return result

    @pytest.mark.parametrize("outcome", ["published", "failed", "abandoned"])
    def test_a_release_wakes_waiters_with_its_outcome(self, manager: LockManager, outcome: LockOutcome) -> None:
        holder, *waiters = (self.open(manager) for _ in range(4))
        lease = self.take(holder, "k")
        results = [self.in_thread(functools.partial(waiter.wait_any, ["k"], PATIENCE)) for waiter in waiters]
        # Only when all of them wait: a later one may only learn that the key is free.
        self.let_threads_wait(3)
        holder.release([lease], outcome)
        self.pass_time(0.2 * self.lease_seconds)
        assert [result() for result in results] == [[Wakeup("k", outcome)]] * 3

    def test_a_waiter_for_many_keys_learns_which_one_was_released(self, live_manager: LockManager) -> None:
        holder, waiter = self.open(live_manager), self.open(live_manager)
        keys = [f"k{number}" for number in range(20)]
        leases = holder.try_acquire(keys)
        result = self.in_thread(lambda: waiter.wait_any(keys, PATIENCE))
        holder.release([leases[7]], "published")  # type: ignore[list-item]
        assert [wakeup.key for wakeup in result()] == ["k7"]

    def test_waiting_for_a_free_key_ends_at_once(self, manager: LockManager) -> None:
        assert self.open(manager).wait_any(["k"], PATIENCE) == [Wakeup("k", None)]

    def test_waiting_returns_nothing_after_the_timeout(self, live_manager: LockManager) -> None:
        holder, waiter = self.open(live_manager), self.open(live_manager)
        self.take(holder, "k")
        assert waiter.wait_any(["k"], 0.03) == []
        assert waiter.wait_any(["k"], 0) == []
        assert waiter.wait_any([], 0) == []

    def test_wake_interrupts_a_wait(self, live_manager: LockManager) -> None:
        holder, waiter = self.open(live_manager), self.open(live_manager)
        self.take(holder, "k")
        result = self.in_thread(lambda: waiter.wait_any(["k"], 10 * PATIENCE))
        waiter.wake()
        assert result() == []

    def test_a_wake_before_the_wait_is_not_missed(self, live_manager: LockManager) -> None:
        holder, waiter = self.open(live_manager), self.open(live_manager)
        self.take(holder, "k")
        waiter.wake()
        assert self.in_thread(lambda: waiter.wait_any(["k"], 10 * PATIENCE))() == []

    def test_close_ends_a_wait(self, live_manager: LockManager) -> None:
        holder, waiter = self.open(live_manager), self.open(live_manager)
        self.take(holder, "k")
        result = self.in_thread(lambda: waiter.wait_any(["k"], 10 * PATIENCE))
        waiter.close()
        assert result() == []

    def test_a_dead_holder_wakes_waiters(self, manager: LockManager) -> None:
        holder, waiter = self.open(manager), self.open(manager)
        self.take(holder, "k")
        self.refused(waiter, "k")
        self.starve(holder)
        result = self.in_thread(lambda: waiter.wait_any(["k"], 3 * self.lease_seconds))
        self.let_threads_wait(1)
        self.pass_time(1.05 * self.lease_seconds)
        assert result() == [Wakeup("k", None)]
        self.take(waiter, "k")

    def test_no_two_threads_are_inside_at_once(self, live_manager: LockManager) -> None:
        """No session acquires a lock while another one has a valid lease for it. On a very busy machine leases may
        expire, but then their holders know."""
        inside: dict[str, list[Session]] = {"a": [], "b": []}
        overlaps, entries, errors = 0, 0, []
        tally = threading.Lock()

        def visit(session: Session, key: str) -> None:
            nonlocal overlaps, entries
            while isinstance(answer := session.try_acquire([key])[0], Holder):
                session.wait_any([key], PATIENCE)
            with tally:
                entries += 1
                # In this order: a session that is valid now was also valid when this one was.
                overlaps += not session.lost and not all(other.lost for other in inside[key])
                inside[key].append(session)
            time.sleep(0)  # give the others a chance to enter
            with tally:
                inside[key].remove(session)
            session.release([answer], "failed")

        def work(session: Session) -> None:
            try:
                for number in range(self.entries_per_thread):
                    while True:
                        try:
                            visit(session, "ab"[number % 2])
                        except SessionLost:
                            session = self.open(live_manager)
                        else:
                            break
            except Exception as error:  # noqa: BLE001 - shown by the assertion below
                errors.append(error)

        threads = [threading.Thread(target=work, args=[self.open(live_manager)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(4 * PATIENCE)
        assert errors == []
        assert (entries, overlaps) == (4 * self.entries_per_thread, 0)
