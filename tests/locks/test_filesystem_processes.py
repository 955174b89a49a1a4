"""File-system locks among real processes that are killed, stopped and forked."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock.errors import LockError
from penstock.locks import FileSystemLockManager, Lease
from tests.locks.puppets import Process

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are judged on Linux"),
    pytest.mark.untraced,
]

LONG = 600.0
"""A lease that no test waits for."""
SHORT = 2.0
SLACK = 60.0
"""The delay that a busy machine may add to the promised second. What is wrong takes ten times as long."""


Start = Callable[..., Process]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "locks"


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    started: list[Process] = []

    def start(lease_seconds: float = LONG, *, blind: bool = False, open_session: bool = True) -> Process:
        process = Process(folder, lease_seconds, blind=blind)
        started.append(process)
        if open_session:
            process.ask("open")
        return process

    yield start
    for process in started:
        process.end()


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_no_two_processes_are_inside_at_once(start: Start, tmp_path: Path) -> None:
    markers = tmp_path / "markers"
    markers.mkdir()
    processes = [start(open_session=False) for _ in range(8)]
    for process in processes:
        process.send("open")
    for process in processes:
        process.receive()
        process.send("contend", ["a", "b", "c"], 100, str(markers))
    assert [process.receive() for process in processes] == [[100, 0]] * 8


def test_a_killed_holder_is_replaced_at_once_on_its_machine(start: Start) -> None:
    holder, waiter = start(LONG), start(LONG)
    assert holder.ask("acquire", "k") > 0
    waiter.begin_waiting("k")
    killed = time.monotonic()
    holder.signal(signal.SIGKILL)
    assert waiter.receive() - killed < 1 + SLACK


def test_a_killed_holder_is_replaced_within_the_lease_elsewhere(start: Start) -> None:
    holder, waiter, other = start(SHORT), start(LONG, blind=True), start(LONG, blind=True)
    assert holder.ask("acquire", "k") > 0
    waiter.begin_waiting("k")
    killed = time.monotonic()
    holder.signal(signal.SIGKILL)
    assert other.ask("acquire", "k") is None
    assert waiter.receive() - killed < SHORT + 1 + SLACK


@pytest.mark.parametrize("ahead", [3600.0, -3600.0])
def test_wall_clocks_an_hour_apart_neither_hasten_nor_delay_a_takeover(start: Start, ahead: float) -> None:
    """Two machines share a folder, and neither sees the processes of the other."""
    lease = 1.5
    holder, contender = (start(lease, blind=True, open_session=False) for _ in range(2))
    assert abs(contender.ask("set_wall_clock", ahead) - holder.ask("set_wall_clock", 0.0) - ahead) < 60
    for process in (holder, contender):
        process.ask("open")
    assert holder.ask("acquire", "key") > 0
    contender.begin_waiting("key")
    # Twice a lease: a waiter that trusted the times of files would have taken it, or waited an hour.
    held_until = time.monotonic() + 2 * lease
    while time.monotonic() < held_until:
        assert holder.ask("lost") is False
        time.sleep(0.1)
    killed = time.monotonic()
    holder.signal(signal.SIGKILL)
    taken = contender.receive()
    assert killed < taken <= killed + lease + 1 + SLACK


def test_a_stopped_holder_loses_its_lock_and_is_informed(start: Start) -> None:
    holder, waiter, third = start(SHORT), start(LONG), start(LONG)
    assert holder.ask("acquire", "k") > 0
    waiter.begin_waiting("k")
    stopped = time.monotonic()
    holder.signal(signal.SIGSTOP)
    assert third.ask("acquire", "k") is None
    assert waiter.receive() - stopped < SHORT + 1 + SLACK
    holder.signal(signal.SIGCONT)
    assert holder.ask("lost") is True
    assert holder.ask("acquire", "k") == "lost"
    holder.ask("release", "k")
    assert holder.ask("heard_of_loss") == 1
    holder.ask("close")
    assert third.ask("acquire", "k") is None
    waiter.ask("release", "k")
    assert third.ask("acquire", "k") > 0


def test_a_stopped_holder_that_continues_in_time_keeps_its_lock(start: Start) -> None:
    holder, other = start(20.0), start(LONG)
    holder.ask("acquire", "k")
    holder.signal(signal.SIGSTOP)
    assert other.ask("acquire", "k") is None
    holder.signal(signal.SIGCONT)
    assert holder.ask("lost") is False
    assert other.ask("acquire", "k") is None


def test_a_forked_child_cannot_use_its_parents_session(start: Start) -> None:
    holder, other = start(LONG), start(LONG)
    token = holder.ask("acquire", "k")
    child, child_lost, child_acquired = holder.ask("fork", "k")
    try:
        assert (child_lost, child_acquired) == (True, "lost")
        assert other.ask("acquire", "k") is None
        assert holder.ask("lost") is False
        assert holder.ask("acquire", "k") == token
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("blind", [False, True])
def test_a_surviving_child_does_not_keep_its_killed_parents_lock(start: Start, blind: bool) -> None:
    lease = SHORT if blind else LONG
    holder, waiter = start(lease), start(LONG, blind=blind)
    holder.ask("acquire", "k")
    child, *_ = holder.ask("fork", "k")
    try:
        waiter.begin_waiting("k")
        killed = time.monotonic()
        holder.signal(signal.SIGKILL)
        assert waiter.receive() - killed < SHORT + 1 + SLACK
        os.kill(child, 0)  # it is still alive
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_killed_waiter_leaves_nothing(start: Start, folder: Path) -> None:
    holder, waiter = start(LONG), start(LONG)
    token = holder.ask("acquire", "k")
    waiter.begin_waiting("k")
    waiter.signal(signal.SIGKILL)
    third = start(LONG)
    assert len(names(folder)) == 2, "the files of two sessions"
    holder.ask("release", "k")
    assert third.ask("acquire", "k") > token


def test_one_of_two_contenders_gets_a_dead_lock(start: Start) -> None:
    victim, one, two = start(open_session=False), start(), start()
    for number in range(50):
        key = f"k{number}"
        victim.ask("sacrifice", key)
        at = time.monotonic() + 0.01
        one.send("acquire", key, at)
        two.send("acquire", key, at)
        assert [one.receive(), two.receive()].count(None) == 1


def test_another_process_can_take_locks_for_the_driver(start: Start, folder: Path) -> None:
    driver, worker, other = start(), start(open_session=False), start()
    session = driver.ask("open")
    worker.ask("join", session)
    token = worker.ask("acquire", "k")
    assert other.ask("acquire", "k") is None
    worker.signal(signal.SIGKILL)
    assert other.ask("acquire", "k") is None, "the driver keeps what its dead worker took"
    driver.ask("close")
    assert other.ask("acquire", "k") > token


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_a_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(LockError, match="cannot be written"):
        FileSystemLockManager(tmp_path / "locks").open_session()
    tmp_path.chmod(0o700)


def test_a_file_in_place_of_the_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("")
    with pytest.raises(LockError, match="locks"):
        FileSystemLockManager(tmp_path / "locks").open_session()


def test_a_network_folder_without_hard_links_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("penstock.locks.folders.is_local", lambda folder: False)
    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(LockError, match="no hard links"):
        FileSystemLockManager(tmp_path / "locks").open_session()


def test_reading_creates_nothing(tmp_path: Path) -> None:
    manager = FileSystemLockManager(tmp_path / "locks")
    assert manager.ls() == []
    assert not manager.break_lock("k", 1)
    assert manager.join_session("0" * 32).lost
    assert os.listdir(tmp_path) == []


def test_a_closed_session_leaves_nothing(folder: Path) -> None:
    session = FileSystemLockManager(folder).open_session()
    keys = [f"k{number}" for number in range(1000)]
    leases = session.try_acquire(keys)
    assert [type(lease) for lease in leases] == [Lease] * 1000
    assert len(names(folder)) == 1
    session.release([lease for lease in leases[:500] if isinstance(lease, Lease)], "published")
    session.close()
    assert names(folder) == set()


def test_a_killed_session_leaves_nothing_once_another_has_run(start: Start, folder: Path) -> None:
    killed = start(LONG)
    killed.ask("acquire", "k")
    killed.signal(signal.SIGKILL)
    assert len(names(folder)) == 1
    other = start(LONG)
    other.ask("close")
    assert names(folder) == set()


def test_no_two_processes_are_inside_at_once_while_some_are_killed_and_stopped(start: Start, tmp_path: Path) -> None:
    """Kills and stops come at any moment of taking and releasing."""
    markers = tmp_path / "markers"
    markers.mkdir()
    victims = [start(SHORT) for _ in range(4)]
    for number, victim in enumerate(victims):
        victim.send("toss", ["a", "b", "c"], number)
    workers = [start(SHORT) for _ in range(3)]
    for worker in workers:
        worker.send("contend", ["a", "b", "c"], 60, str(markers))
    rng = random.Random(7)
    for victim in victims[:2]:
        time.sleep(rng.uniform(0.1, 0.3))
        victim.signal(signal.SIGKILL)
    for victim in victims[2:]:
        time.sleep(rng.uniform(0.1, 0.3))
        victim.signal(signal.SIGSTOP)
    assert [worker.receive() for worker in workers] == [[60, 0]] * 3
