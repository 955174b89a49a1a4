"""Promises that only the memory manager makes."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from penstock.errors import SessionLost
from penstock.locks import MemoryLockManager
from penstock.testing.clocks import FakeClock


def test_nothing_is_left_without_holders_or_waiters() -> None:
    manager = MemoryLockManager()
    one, two = manager.open_session(), manager.open_session()
    leases = one.try_acquire([f"k{number}" for number in range(100)])
    assert two.wait_any([lease.key for lease in leases], 0.01) == []
    two.close()
    one.close()
    assert (manager._held, manager._waiting, manager._members) == ({}, {}, {})


def test_a_lost_session_leaves_nothing_when_it_closes() -> None:
    clock = FakeClock()
    manager = MemoryLockManager(clock=clock)
    session = manager.open_session(lease_seconds=30)
    session.try_acquire(["k"])
    clock.advance(100)
    assert session.lost
    assert manager.ls() == []
    session.close()
    assert (manager._held, manager._members) == ({}, {})


def test_the_manager_cannot_be_used_after_a_fork() -> None:
    code = """
        import os
        import warnings
        from penstock.errors import LockError
        from penstock.locks import MemoryLockManager

        warnings.simplefilter("ignore", DeprecationWarning)  # about forking with threads, which is under test
        manager = MemoryLockManager()
        session = manager.open_session()
        (lease,) = session.try_acquire(["k"])
        if not (child := os.fork()):
            refused = False
            try:
                assert session.lost
                session.release([lease], "published")
                session.close()
                manager.open_session()
            except LockError:
                refused = True
            finally:
                os._exit(not refused)
        assert os.waitpid(child, 0)[1] == 0
        assert not session.lost
        session.close()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_session_that_missed_its_beats_takes_nothing_even_unnoticed() -> None:
    clock = FakeClock()
    manager = MemoryLockManager(clock=clock)
    session = manager.open_session(lease_seconds=30)
    session._heartbeat.stop = lambda: None  # type: ignore[attr-defined, method-assign]
    clock.advance(0.9 * 30)
    assert session.id in manager._members  # for the others, its lease is still valid
    with pytest.raises(SessionLost):
        session.try_acquire(["k"])
    assert manager._held == {}


def test_the_view_of_another_thread_is_lost_at_the_end_of_the_lease_and_not_before() -> None:
    clock = FakeClock()
    manager = MemoryLockManager(clock=clock)
    session = manager.open_session(lease_seconds=30)
    session._heartbeat.stop = lambda: None  # type: ignore[attr-defined, method-assign]
    view = manager.join_session(session.id)
    clock.advance(29)
    assert not view.lost
    clock.advance(1)
    assert view.lost
