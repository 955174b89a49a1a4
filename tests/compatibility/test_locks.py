"""Published snippets about isolation levels and lock managers, with only their imports changed."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from penstock import INPUTS, TASK_SOURCE, flow, task
from penstock.locks import FileSystemLockManager, MemoryLockManager
from penstock.transactions import IsolationLevel

RAN: list[object] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


def in_two_threads(call) -> list:
    """Return what two threads get from that call at the same time."""
    together = threading.Barrier(2)
    got: list = []

    def run() -> None:
        together.wait(100)
        got.append(call())

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    return got


cache_policy = INPUTS.configure(
    isolation_level=IsolationLevel.SERIALIZABLE,
    lock_manager=MemoryLockManager(),
)


@task(cache_policy=cache_policy)
def expensive(x: int) -> int:
    RAN.append(x)
    return x + 42


def test_serializable_with_memory_locks_runs_a_shared_key_once() -> None:
    assert in_two_threads(lambda: expensive(1)) == [43, 43]
    assert RAN == [1]


@flow
def pipeline(x: int) -> int:
    return expensive(x)


def test_two_concurrent_flows_share_one_execution() -> None:
    assert in_two_threads(lambda: pipeline(2)) == [44, 44]
    assert RAN == [2]


def test_serializable_with_file_locks_runs_a_shared_key_once(tmp_path: Path) -> None:
    policy = (INPUTS + TASK_SOURCE).configure(
        isolation_level=IsolationLevel.SERIALIZABLE,
        lock_manager=FileSystemLockManager(lock_files_directory=tmp_path / "locks"),
    )

    @task(cache_policy=policy)
    def locked(x: int) -> int:
        RAN.append(x)
        return x + 1

    assert in_two_threads(lambda: locked(1)) == [2, 2]
    assert RAN == [1]


@pytest.mark.parametrize("level", ["SERIALIZABLE", IsolationLevel.SERIALIZABLE])
def test_the_level_may_be_a_string(level: str) -> None:
    assert INPUTS.configure(isolation_level=level).isolation_level is IsolationLevel.SERIALIZABLE


def test_serializable_needs_no_lock_manager() -> None:
    # Published snippets must name one. Here the locks are in the store's own folder unless the settings say otherwise.
    @task(cache_policy=INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE))
    def locked(x: int) -> int:
        RAN.append(x)
        return x

    assert in_two_threads(lambda: locked(3)) == [3, 3]
    assert RAN == [3]


def test_read_committed_gives_every_caller_the_published_value() -> None:
    tickets = iter(range(10))

    @task(cache_policy=INPUTS.configure(isolation_level=IsolationLevel.READ_COMMITTED), key_name="ticket")
    def ticket(x: int) -> int:
        return next(tickets)

    first, second = in_two_threads(lambda: ticket(1))
    assert first == second == ticket(1)


@task(cache_policy=cache_policy)
async def expensive_async(x: int) -> int:
    RAN.append(x)
    return x + 42


def test_async_tasks_release_their_locks() -> None:
    assert in_two_threads(lambda: asyncio.run(expensive_async(5))) == [47, 47]
    assert RAN == [5]


def test_a_manager_is_kept_when_policies_are_added_or_subtracted() -> None:
    changed = TASK_SOURCE + cache_policy - "x"
    assert changed.isolation_level is IsolationLevel.SERIALIZABLE
    assert changed.lock_manager is cache_policy.lock_manager
