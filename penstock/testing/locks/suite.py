"""The conformance suite for lock managers, as a class to subclass.

    class TestMyLocks(LockManagerTests):
        def make_manager(self, clock):
            return MyLockManager(..., clock=clock)

Tests of leases use a fake clock. A manager whose leases are timed by a server sets `fake_time = False` and a short
`lease_seconds`, and overrides `starve` to make a session's renewals fail.
"""

from __future__ import annotations

import pickle
from typing import get_args

import pytest

from penstock.errors import LockError, PenstockError
from penstock.locks.base import Holder, Lease, LockManager, Session
from penstock.storage.stores.base import Reach
from penstock.testing.locks.leases import LeaseTests
from penstock.testing.locks.waiting import WaitingTests

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
"""Keys that are difficult as file names: folders, devices, parent folders, case variants, or too long."""


class LockManagerTests(WaitingTests, LeaseTests):
    """Tests that every `LockManager` must pass.

    Subclass it as `Test…` and override `make_manager`; see `LockSupport` for the other hooks.
    """

    # -- ping

    def test_pinging_a_manager_that_answers_raises_nothing(self, manager: LockManager) -> None:
        manager.ping()
        session = self.open(manager)
        lease = self.take(session, "k")
        manager.ping()
        assert [holder.fencing_token for holder in manager.ls()] == [lease.fencing_token]

    # -- acquiring and releasing

    def test_the_manager_implements_the_interface(self, manager: LockManager) -> None:
        assert isinstance(manager, LockManager)
        assert isinstance(self.open(manager), Session)
        assert manager.reach in get_args(Reach)

    def test_a_free_lock_can_be_acquired(self, manager: LockManager) -> None:
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

    def test_releasing_twice_does_not_free_the_lock_of_the_next_holder(self, manager: LockManager) -> None:
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

    def test_an_old_and_a_new_lease_of_one_key_can_be_released_together(self, manager: LockManager) -> None:
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

    def test_free_returns_the_keys_that_nobody_holds(self, manager: LockManager) -> None:
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

    # -- leases

    # -- ending

    # -- a worker's view

    # -- operators

    def test_ls_lists_the_held_locks(self, manager: LockManager) -> None:
        session = self.open(manager, info={"run": "r"})
        assert list(manager.ls()) == []
        leases = session.try_acquire(["b", "a"])
        assert [(h.key, h.session_id, h.info["run"]) for h in manager.ls()] == [
            ("a", session.id, "r"),
            ("b", session.id, "r"),
        ]
        session.release(leases[:1], "published")  # type: ignore[arg-type]
        assert [holder.key for holder in manager.ls()] == ["a"]

    def test_break_lock_requires_the_right_token(self, manager: LockManager) -> None:
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

    # -- pickling

    def test_a_manager_can_be_pickled_or_says_why_not(self, manager: LockManager) -> None:
        if not self.travels:
            with pytest.raises(PenstockError):
                pickle.loads(pickle.dumps(manager))
            return
        copy: LockManager = pickle.loads(pickle.dumps(manager))
        self.take(self.open(manager), "k")
        assert self.refused(self.open(copy), "k").key == "k"
        assert copy.reach == manager.reach

    def test_a_session_cannot_be_pickled(self, manager: LockManager) -> None:
        with pytest.raises(PenstockError):
            pickle.dumps(self.open(manager))
