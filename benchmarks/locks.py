"""Locks in Redis: how soon waiters wake, what waiting and renewing cost, what SERIALIZABLE adds to a run."""

from __future__ import annotations

import itertools
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from benchmarks.figures import Figure, paired, spend, timed
from penstock import INPUTS, flow, task
from penstock.locks import Lease, RedisLockManager
from penstock.runners import ThreadRunner
from penstock.settings import load_settings
from penstock.transactions import IsolationLevel
from tests.servers.redis import RedisServer, running

WAKES = 40
WAITERS = 20
WAITED_FOR = 100
HELD = 5_000
NODES = 10_000
TINY = 2_000
WATCHED_SECONDS = 10.0


def run() -> Iterator[Figure]:
    """Every figure, on a server of its own."""
    with running() as server:
        manager = RedisLockManager.from_url(server.url)
        woken = wake_up(lambda: _Ours(server))
        polled = wake_up(lambda: _Polling(server))
        what = "a waiter wakes after the release, median"
        yield Figure("wake", what, 1000 * woken, "ms", promise=10)
        yield Figure("wake.polling", "  redis-py's own lock, which polls", 1000 * polled, "ms", "beside")
        yield from while_waiting(server)
        yield take_and_release(manager)
        yield from many_held(manager)
        yield from serializable(server)
        yield from by_default(server)


# -- waking -----------------------------------------------------------------------------------------------------------


class _Ours:
    def __init__(self, server: RedisServer) -> None:
        self.holder = RedisLockManager.from_url(server.url).open_session()
        self.waiter = RedisLockManager.from_url(server.url).open_session()

    def hold(self) -> None:
        (lease,) = self.holder.try_acquire(["k"])
        assert isinstance(lease, Lease)
        self.lease = lease

    def wait(self) -> None:
        self.waiter.wait_any(["k"], 60.0)

    def release(self) -> None:
        self.holder.release([self.lease], "published")

    def close(self) -> None:
        self.holder.close()
        self.waiter.close()


class _Polling:
    def __init__(self, server: RedisServer) -> None:
        self.clients = [redis.Redis(port=server.port) for _ in range(2)]
        self.held, self.wanted = (client.lock("k", timeout=60, thread_local=False) for client in self.clients)

    def hold(self) -> None:
        self.held.acquire()

    def wait(self) -> None:
        self.wanted.acquire()
        self.wanted.release()

    def release(self) -> None:
        self.held.release()

    def close(self) -> None:
        for client in self.clients:
            client.close()


def wake_up(make: Callable[[], Any]) -> float:
    """Median seconds from the moment of the release to the waiter's going on."""
    scene, taken = make(), []
    for number in range(WAKES):
        scene.hold()
        ended: list[float] = []

        def wait(ended: list[float] = ended) -> None:
            scene.wait()
            ended.append(time.perf_counter())

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.11 + 0.1 * number / WAKES)  # at any moment between two polls
        began = time.perf_counter()
        scene.release()
        thread.join()
        taken.append(ended[0] - began)
    scene.close()
    return statistics.median(taken)


# -- waiting and renewing ---------------------------------------------------------------------------------------------


def while_waiting(server: RedisServer) -> Iterator[Figure]:
    """Commands a second that processes cost which do nothing but wait."""
    keys = [f"waited {number}" for number in range(WAITED_FOR)]
    holder = RedisLockManager.from_url(server.url).open_session()
    holder.try_acquire(keys)
    with processes(wait_with_ours, server.url, keys):
        ours = commands_per_second(server, "evalsha", "eval", "publish", "subscribe")
    holder.close()
    with redis.Redis(port=server.port) as client:
        held = client.lock("polled", timeout=600, thread_local=False)
        held.acquire()
        with processes(wait_by_polling, server.port):
            polling = commands_per_second(server, "set")
        held.release()
    yield Figure("waiting", f"{WAITERS} processes wait for {WAITED_FOR} keys", ours, "calls/s")
    what = f"  {WAITERS} with redis-py's own lock wait for 1 key"
    yield Figure("waiting.polling", what, polling, "calls/s", "beside")


@contextmanager
def processes(work: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """So many processes that do this work until the block ends; it begins when all of them are about to."""
    context = multiprocessing.get_context("spawn")
    ready = context.Semaphore(0)
    started = [context.Process(target=work, args=(ready, *arguments), daemon=True) for _ in range(WAITERS)]
    for process in started:
        process.start()
    for _ in started:
        ready.acquire()
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.join()


def wait_with_ours(ready: Any, url: str, keys: list[str]) -> None:
    session = RedisLockManager.from_url(url).open_session()
    ready.release()
    while True:
        session.wait_any(keys, 5.0)


def wait_by_polling(ready: Any, port: int) -> None:
    lock = redis.Redis(port=port).lock("polled", timeout=1)
    ready.release()
    lock.acquire()


def commands_per_second(server: RedisServer, *names: str) -> float:
    """Calls of these commands that the server handled, by the second."""

    def calls() -> int:
        with server.client() as client:
            stats = client.info("commandstats")
        return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in names)

    time.sleep(1.0)  # so that all of them wait
    before, began = calls(), time.perf_counter()
    time.sleep(WATCHED_SECONDS)
    return (calls() - before) / (time.perf_counter() - began)


def take_and_release(manager: RedisLockManager) -> Figure:
    """One uncontended lock."""
    session = manager.open_session()

    def once() -> None:
        (lease,) = session.try_acquire(["one"])
        assert isinstance(lease, Lease)
        session.release([lease], "published")

    once()
    taken = spend(once, times=500)
    session.close()
    return timed("one", "one lock taken and released", taken, unit="µs")


def many_held(manager: RedisLockManager) -> Iterator[Figure]:
    """What many locks of one session cost."""
    session: Any = manager.open_session()
    keys = [f"held {number}" for number in range(HELD)]
    taking = spend(lambda: session.try_acquire(keys), times=1)
    renewing = spend(session._beat, times=50)
    session.close()
    yield timed("many", f"{HELD:,} locks taken together", taking, unit="ms")
    yield timed("many.renewed", f"one renewal of {HELD:,} locks", renewing, unit="µs")


# -- single flight by default ------------------------------------------------------------------------------------------


def by_default(server: RedisServer) -> Iterator[Figure]:
    """What it costs tiny cached tasks that they are computed once, and what it leaves behind."""
    number_of = itertools.count()

    def run_of(policy: Any, folder: str, **more: Any) -> Callable[[], str]:
        @task(cache_policy=policy)
        def number(x: int) -> int:
            return x

        @flow(runner=ThreadRunner(2))
        def all_of_them() -> None:
            number.map(list(range(TINY)))

        def once() -> str:
            store = f"{folder}/{next(number_of)}"
            all_of_them.run_with({}, settings=load_settings(overrides={"store": store, **more})).result()
            return store

        return once

    each = INPUTS.configure(isolation_level=IsolationLevel.READ_COMMITTED)
    with tempfile.TemporaryDirectory() as folder:
        for name, more, limit in (("files", {}, 1.10), ("redis", {"locks": server.url}, 1.05)):
            locked, unlocked = run_of(INPUTS, folder, **more), run_of(each, folder, **more)
            locked()
            with_locks, without, ratio = paired(locked, unlocked, times=9)
            yield timed(f"{name}.without", f"{TINY:,} tiny cached tasks, READ_COMMITTED", without)
            yield timed(name, f"  by default, locks in {name}", with_locks)
            yield Figure(f"{name}.ratio", "  time against READ_COMMITTED", ratio, "x", promise=limit)
        left = [path for path in Path(locked(), "locks").rglob("*") if path.is_file()]
        left += [path for path in Path(run_of(INPUTS, folder)(), "locks").rglob("*") if path.is_file()]
        yield Figure("left", "  files of locks that are left behind", len(left), promise=0)


# -- whole runs -------------------------------------------------------------------------------------------------------


def serializable(server: RedisServer) -> Iterator[Figure]:
    """The same run with and without locks."""
    locked = INPUTS.configure(
        isolation_level=IsolationLevel.SERIALIZABLE, lock_manager=RedisLockManager.from_url(server.url)
    )

    number_of = itertools.count()

    def flow_of(policy: Any, place: str) -> Callable[[], None]:
        @task(cache_policy=policy)
        def number(x: int) -> int:
            return x

        @flow(runner=ThreadRunner(2))
        def all_of_them() -> None:
            number.map(list(range(NODES)))

        def once() -> None:
            store = f"{place}{next(number_of)}"
            all_of_them.run_with({}, settings=load_settings(overrides={"store": store})).result()

        return once

    with tempfile.TemporaryDirectory() as folder:
        for name, place in (("a folder", f"{folder}/"), ("memory", "memory://")):
            with_locks, without, ratio = paired(flow_of(locked, place), flow_of(INPUTS, place), times=3)
            prefix = "serializable" if name == "a folder" else "serializable.memory"
            added = 1e6 * (with_locks.median - without.median) / NODES
            what = f"{NODES:,} results published in {name}, READ_COMMITTED"
            yield timed(f"{prefix}.without", what, without)
            yield timed(prefix, "  SERIALIZABLE", with_locks)
            yield Figure(f"{prefix}.added", "  what the locks add to each", added, "µs")
            # In memory it is nearly all there is: no promise, and the plainest measure of what locks cost.
            promise = 1.05 if name == "a folder" else None
            yield Figure(f"{prefix}.ratio", "  time against READ_COMMITTED", ratio, "x", promise=promise)
