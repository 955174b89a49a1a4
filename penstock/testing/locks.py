"""What every lock manager has to do: a conformance suite to subclass.

    class TestMyLocks(LockManagerTests):
        def make_manager(self, clock):
            return MyLockManager(..., clock=clock)

Tests of leases run in fake time. A manager whose leases are timed elsewhere (by a server) sets `fake_time = False`, a
short `lease_seconds`, and says in `starve` how a session's renewals are made to fail.
"""

from __future__ import annotations

import functools
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from typing import ClassVar, get_args

import pytest

from penstock.clocks import SYSTEM_CLOCK, Clock
from penstock.errors import LockError, PenstockError, SessionLost
from penstock.locks.base import Holder, Lease, LockManager, Outcome, Session, Wakeup
from penstock.storage.stores.base import Reach
from penstock.testing.clocks import FakeClock

ODD_KEYS = [
    "a.1",
    "a.2",
    "A.1",
    "",
    " ",
    ".",
    "..",
    "../x",
    "/etc/passwd",
    "x/y",
    "x\\y",
    "nul\0in it",
    "line\nbreak",
    "🔒",
    "é",
    "e\u0301",
    "lone \ud800 surrogate",
    "con",
    "a" * 10_000,
    "a" * 10_001,
    "\0" * 10_000,
    "🔒" * 10_000,
]
"""Keys that are a folder, a device, a way out, each other's spelling, or too long, to somebody who makes names of
them."""

PATIENCE = 120.0
"""Seconds a test waits for what must happen; never waited for when all is well."""


class LockManagerTests:
    """Subclass it as `Test…` and override `make_manager`."""

    fake_time: ClassVar[bool] = True
    lease_seconds: ClassVar[float] = 30.0
    entries_per_thread: ClassVar[int] = 200
    travels: ClassVar[bool] = True
    """Whether the manager may be pickled; else pickling must be a `PenstockError`."""

    clock: Clock

    def make_manager(self, clock: Clock) -> LockManager:
        """A manager whose locks nobody else has touched."""
        raise NotImplementedError

    def make_twin(self, manager: LockManager, clock: Clock) -> LockManager:
        """Another manager over the same locks, as another process would make it; the same one if there is no such
        thing."""
        return manager

    def starve(self, session: Session) -> None:
        """Make all further renewals of this session fail, as if it were cut off."""

        def fail() -> bool:
            raise LockError("cut off by the test")

        session._heartbeat._beat = fail  # type: ignore[attr-defined]

    def pass_time(self, seconds: float) -> None:
        if isinstance(self.clock, FakeClock):
            # A thread that was just started is not yet in its first wait, and would sleep through the time.
            self.clock.settle(set(threading.enumerate()) - self._before)
            self.clock.run_for(seconds)
        else:
            time.sleep(seconds)

    def let_threads_wait(self, count: int) -> None:
        """Go on when `count` threads wait in `wait_any` (in real time: when they have had the time to)."""
        if isinstance(self.clock, FakeClock):
            self.clock.wait_until_waiting(count + len(self._sessions))  # each session's heartbeat waits as well
        else:
            time.sleep(0.2)

    # -- the test's own tools

    @pytest.fixture(autouse=True)
    def _close_all(self) -> Iterator[None]:
        self._sessions: list[Session] = []
        self._before = set(threading.enumerate())
        self.clock = FakeClock() if self.fake_time else SYSTEM_CLOCK
        yield
        for session in self._sessions:
            session.close()
        leaked = [thread.name for thread in set(threading.enumerate()) - self._before if "heartbeat" in thread.name]
        assert leaked == []

    @pytest.fixture
    def manager(self) -> LockManager:
        return self.make_manager(self.clock)

    @pytest.fixture
    def live_manager(self) -> LockManager:
        """A manager in real time, for tests in which threads wait for each other."""
        return self.make_manager(SYSTEM_CLOCK)

    def open(self, manager: LockManager, **options: object) -> Session:
        options.setdefault("lease_seconds", self.lease_seconds)
        session = manager.open_session(**options)  # type: ignore[arg-type]
        self._sessions.append(session)
        return session

    def take(self, session: Session, key: str) -> Lease:
        (lease,) = session.try_acquire([key])
        assert isinstance(lease, Lease), f"{key!r} is held by {lease}"
        return lease

    def refused(self, session: Session, key: str) -> Holder:
        (holder,) = session.try_acquire([key])
        assert isinstance(holder, Holder), f"{key!r} was free"
        return holder

    def test_a_manager_that_answers_is_pinged_without_a_word(self, manager: LockManager) -> None:
        manager.ping()
        session = self.open(manager)
        lease = self.take(session, "k")
        manager.ping()
        assert [holder.fencing_token for holder in manager.ls()] == [lease.fencing_token]

    # -- taking and letting go

    def test_it_is_what_the_interface_says(self, manager: LockManager) -> None:
        assert isinstance(manager, LockManager)
        assert isinstance(self.open(manager), Session)
        assert manager.reach in get_args(Reach)

    def test_a_free_lock_is_taken(self, manager: LockManager) -> None:
        session = self.open(manager)
        lease = self.take(session, "k")
        assert (lease.key, lease.session_id) == ("k", session.id)
        assert not session.lost

    def test_the_same_session_gets_the_same_lease_again(self, manager: LockManager) -> None:
        session = self.open(manager)
        assert self.take(session, "k") == self.take(session, "k")

    def test_a_taken_lock_names_its_holder(self, manager: LockManager) -> None:
        holder, other = self.open(manager, info={"run": "blue-otter"}), self.open(manager)
        lease = self.take(holder, "k")
        told = self.refused(other, "k")
        assert (told.key, told.session_id, told.fencing_token) == ("k", holder.id, lease.fencing_token)
        assert told.info["run"] == "blue-otter"
        assert {"host", "pid"} <= told.info.keys()
        assert told.since > 0

    def test_a_twin_manager_sees_the_same_locks(self, manager: LockManager) -> None:
        holder, other = self.open(manager), self.open(self.make_twin(manager, self.clock))
        lease = self.take(holder, "k")
        self.refused(other, "k")
        holder.release([lease], "failed")
        self.take(other, "k")

    def test_a_released_lock_is_free(self, manager: LockManager) -> None:
        one, two = self.open(manager), self.open(manager)
        one.release([self.take(one, "k")], "published")
        self.take(two, "k")

    def test_releasing_twice_frees_nothing_of_the_next_holder(self, manager: LockManager) -> None:
        one, two, three = self.open(manager), self.open(manager), self.open(manager)
        lease = self.take(one, "k")
        one.release([lease], "published")
        self.take(two, "k")
        one.release([lease], "published")
        assert self.refused(three, "k").session_id == two.id

    def test_an_old_lease_does_not_release_a_newer_one_of_the_same_session(self, manager: LockManager) -> None:
        one, two = self.open(manager), self.open(manager)
        old = self.take(one, "k")
        one.release([old], "failed")
        new = self.take(one, "k")
        assert new.fencing_token > old.fencing_token
        one.release([old], "failed")
        assert self.refused(two, "k").fencing_token == new.fencing_token

    def test_an_old_and_a_new_lease_of_one_key_are_released_together(self, manager: LockManager) -> None:
        one, two = self.open(manager), self.open(manager)
        old = self.take(one, "k")
        one.release([old], "failed")
        one.release([self.take(one, "k"), old], "failed")
        self.take(two, "k")

    def test_another_sessions_lease_cannot_be_released(self, manager: LockManager) -> None:
        holder, other = self.open(manager), self.open(manager)
        lease = self.take(holder, "k")
        with pytest.raises(LockError):
            other.release([lease], "published")
        self.refused(other, "k")

    def test_many_keys_are_answered_in_order(self, manager: LockManager) -> None:
        one, two = self.open(manager), self.open(manager)
        self.take(one, "b")
        answers = two.try_acquire(["c", "b", "a", "c"])
        assert [answer.key for answer in answers] == ["c", "b", "a", "c"]
        assert [type(answer) for answer in answers] == [Lease, Holder, Lease, Lease]
        assert answers[0] == answers[3]
        assert two.try_acquire([]) == []

    def test_free_keys_are_those_that_nobody_holds(self, manager: LockManager) -> None:
        one, two = self.open(manager), self.open(manager)
        lease = self.take(one, "a")
        self.take(two, "b")
        assert one.free(["a", "b", "c"]) == two.free(["a", "b", "c"]) == ["c"]
        one.release([lease], "failed")
        assert two.free(["b", "a"]) == ["a"]
        assert two.free([]) == []

    def test_fencing_tokens_only_grow(self, manager: LockManager) -> None:
        sessions, tokens = [self.open(manager) for _ in range(3)], []
        for turn in range(30):
            session = sessions[turn % 3]
            lease = self.take(session, "k")
            tokens.append(lease.fencing_token)
            session.release([lease], "failed")
        assert tokens == sorted(set(tokens))

    def test_odd_keys_are_different_locks(self, manager: LockManager) -> None:
        one, two = self.open(manager), self.open(manager)
        leases = one.try_acquire(ODD_KEYS)
        assert [type(answer) for answer in leases] == [Lease] * len(ODD_KEYS)
        for key, lease in zip(ODD_KEYS, leases, strict=True):
            assert self.refused(two, key).key == key
            one.release([lease], "failed")  # type: ignore[list-item]
            self.take(two, key)
        assert {holder.session_id for holder in manager.ls()} == {two.id}

    # -- waiting

    def in_thread(self, work: Callable[[], list[Wakeup]]) -> Callable[[], list[Wakeup]]:
        """Start `work`; the answer waits for what it returned."""
        results: list[list[Wakeup]] = []
        thread = threading.Thread(target=lambda: results.append(work()))
        thread.start()

        def result() -> list[Wakeup]:
            thread.join(PATIENCE)
            assert results, "the thread still waits, or it failed"
            return results[0]

        return result

    @pytest.mark.parametrize("outcome", ["published", "failed", "abandoned"])
    def test_a_release_wakes_waiters_with_its_outcome(self, manager: LockManager, outcome: Outcome) -> None:
        holder, *waiters = (self.open(manager) for _ in range(4))
        lease = self.take(holder, "k")
        results = [self.in_thread(functools.partial(waiter.wait_any, ["k"], PATIENCE)) for waiter in waiters]
        # Not before all of them wait: one that comes later may hear no more than that the key is free.
        self.let_threads_wait(3)
        holder.release([lease], outcome)
        self.pass_time(0.2 * self.lease_seconds)
        assert [result() for result in results] == [[Wakeup("k", outcome)]] * 3

    def test_a_waiter_for_many_keys_hears_of_the_one_that_was_released(self, live_manager: LockManager) -> None:
        holder, waiter = self.open(live_manager), self.open(live_manager)
        keys = [f"k{number}" for number in range(20)]
        leases = holder.try_acquire(keys)
        result = self.in_thread(lambda: waiter.wait_any(keys, PATIENCE))
        holder.release([leases[7]], "published")  # type: ignore[list-item]
        assert [wakeup.key for wakeup in result()] == ["k7"]

    def test_waiting_for_a_free_key_ends_at_once(self, manager: LockManager) -> None:
        assert self.open(manager).wait_any(["k"], PATIENCE) == [Wakeup("k", None)]

    def test_waiting_ends_with_nothing_after_the_timeout(self, live_manager: LockManager) -> None:
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
        """Nobody comes in while somebody is inside whose lease is valid: on a machine that is too busy to renew them
        leases run out, and their holders know."""
        inside: dict[str, list[Session]] = {"a": [], "b": []}
        overlaps, entries, errors = 0, 0, []
        tally = threading.Lock()

        def visit(session: Session, key: str) -> None:
            nonlocal overlaps, entries
            while isinstance(answer := session.try_acquire([key])[0], Holder):
                session.wait_any([key], PATIENCE)
            with tally:
                entries += 1
                # In this order: who came in before us, and is not lost now, was not when we were not.
                overlaps += not session.lost and not all(other.lost for other in inside[key])
                inside[key].append(session)
            time.sleep(0)  # give the others a chance to come in where they should not
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

    # -- leases

    def test_a_session_that_beats_keeps_its_locks(self, manager: LockManager) -> None:
        holder, other = self.open(manager), self.open(manager)
        self.take(holder, "k")
        for _ in range(5):
            self.pass_time(0.7 * self.lease_seconds)
            assert self.refused(other, "k").session_id == holder.id
        assert not holder.lost

    def test_a_missed_lease_passes_the_lock_on(self, manager: LockManager) -> None:
        holder, other = self.open(manager), self.open(manager)
        old = self.take(holder, "k")
        self.refused(other, "k")
        self.starve(holder)
        self.pass_time(0.5 * self.lease_seconds)
        self.refused(other, "k")
        self.pass_time(0.75 * self.lease_seconds)
        assert self.take(other, "k").fencing_token > old.fencing_token

    def test_a_holder_knows_of_its_loss_before_anyone_may_act_on_it(self, manager: LockManager) -> None:
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

    def test_a_lost_session_is_told_once_and_can_do_nothing(self, manager: LockManager) -> None:
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

    def test_a_closed_session_is_never_told_that_it_is_lost(self, manager: LockManager) -> None:
        told: list[str] = []
        session = self.open(manager, on_lost=lambda: told.append("lost"))
        session.close()
        self.pass_time(2 * self.lease_seconds)
        assert told == []

    def test_all_locks_of_a_dead_session_are_free_when_one_was_taken_over(self, manager: LockManager) -> None:
        holder, other = self.open(manager), self.open(manager)
        holder.try_acquire(["k", "l", "m"])
        self.refused(other, "k")
        self.starve(holder)
        self.pass_time(1.3 * self.lease_seconds)
        self.take(other, "k")
        self.take(other, "l")
        newcomer = self.open(manager)
        self.take(newcomer, "m")

    def test_a_lease_must_be_a_length_of_time(self, manager: LockManager) -> None:
        for seconds in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(PenstockError):
                manager.open_session(lease_seconds=seconds)

    # -- ending

    def test_close_releases_everything(self, manager: LockManager) -> None:
        one, two = self.open(manager), self.open(manager)
        one.try_acquire(["a", "b"])
        one.close()
        one.close()
        self.take(two, "a")
        self.take(two, "b")
        with pytest.raises(LockError):
            one.try_acquire(["c"])

    # -- a worker's view

    def test_a_joined_session_acts_in_the_drivers_name(self, manager: LockManager) -> None:
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

    def test_closing_the_driver_frees_what_its_workers_took(self, manager: LockManager) -> None:
        driver, other = self.open(manager), self.open(manager)
        worker = manager.join_session(driver.id)
        self.take(worker, "k")
        driver.close()
        self.take(other, "k")
        assert worker.lost
        with pytest.raises(SessionLost):
            worker.try_acquire(["l"])

    def test_a_view_of_no_session_is_lost(self, manager: LockManager) -> None:
        view = manager.join_session("0" * 32)
        assert view.lost
        with pytest.raises(SessionLost):
            view.try_acquire(["k"])

    # -- operators

    def test_ls_shows_what_is_held(self, manager: LockManager) -> None:
        session = self.open(manager, info={"run": "r"})
        assert list(manager.ls()) == []
        leases = session.try_acquire(["b", "a"])
        assert [(h.key, h.session_id, h.info["run"]) for h in manager.ls()] == [
            ("a", session.id, "r"),
            ("b", session.id, "r"),
        ]
        session.release(leases[:1], "published")  # type: ignore[arg-type]
        assert [holder.key for holder in manager.ls()] == ["a"]

    def test_break_lock_needs_the_right_token(self, manager: LockManager) -> None:
        holder, other = self.open(manager), self.open(manager)
        lease = self.take(holder, "k")
        assert not manager.break_lock("k", lease.fencing_token + 1)
        assert not manager.break_lock("k", lease.fencing_token - 1)
        assert not manager.break_lock("never locked", 1)
        self.refused(other, "k")
        assert manager.break_lock("k", lease.fencing_token)
        assert not manager.break_lock("k", lease.fencing_token)
        assert self.take(other, "k").fencing_token > lease.fencing_token

    def test_a_broken_lock_is_not_released_by_its_old_holder(self, manager: LockManager) -> None:
        holder, other, third = self.open(manager), self.open(manager), self.open(manager)
        lease = self.take(holder, "k")
        manager.break_lock("k", lease.fencing_token)
        self.take(other, "k")
        holder.release([lease], "published")
        assert self.refused(third, "k").session_id == other.id

    # -- travelling

    def test_a_manager_travels_or_says_why_not(self, manager: LockManager) -> None:
        if not self.travels:
            with pytest.raises(PenstockError):
                pickle.loads(pickle.dumps(manager))
            return
        copy: LockManager = pickle.loads(pickle.dumps(manager))
        self.take(self.open(manager), "k")
        assert self.refused(self.open(copy), "k").key == "k"
        assert copy.reach == manager.reach

    def test_a_session_does_not_travel(self, manager: LockManager) -> None:
        with pytest.raises(PenstockError):
            pickle.dumps(self.open(manager))
