"""One client of a campaign: a process that looks up, locks, computes, publishes and invalidates, and records it."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import random
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.clocks import SYSTEM_CLOCK, Clock, SystemClock
from penstock.errors import (
    DamagedResult,
    LockError,
    LocksUnreachable,
    SessionLost,
    StoreError,
    StoreUnreachable,
)
from penstock.locks import FileSystemLockManager, Lease, LockManager, RedisLockManager, Session, StorageLockManager
from penstock.storage import open_store
from penstock.storage.results.generations import Absent, Found
from penstock.storage.results.maintenance import gc
from penstock.storage.results.store import Restart, ResultStore
from tests.nemesis.history import Recorder
from tests.nemesis.sabotage import sabotaged_collection, sabotaged_manager, sabotaged_results

TASK = "nemesis"
CLOCKS = {"right": (0.0, 1.0), "ahead": (3600.0, 1.0), "behind": (-3600.0, 1.0), "fast": (0.0, 2.0)}
"""The offset of a client's clock in seconds, and its speed."""
LARGE = 20_000
"""The length of a value with its own file; shorter ones are in their records."""


@dataclass(frozen=True, slots=True)
class Orders:
    """The parameters of a client."""

    folder: Path
    store: str
    locks: str
    """A Redis' address, `folder` or `store`."""
    keys: tuple[str, ...]
    lease: float
    until: float
    """On the monotonic clock: begin nothing new after it."""
    sabotage: str = ""
    """Its deliberate mistake, in a control."""
    clocks: tuple[str, ...] = ()
    """The clocks of clients, in turn: see `CLOCKS`."""


class SkewedClock(SystemClock):
    """A machine whose clock is wrong or drifts."""

    def __init__(self, off: float, rate: float) -> None:
        self._off, self._rate = off, rate

    def now(self) -> float:
        return super().now() * self._rate + self._off

    def monotonic(self) -> float:
        return super().monotonic() * self._rate

    def wait(self, event: threading.Event, timeout: float) -> bool:
        return super().wait(event, timeout / self._rate)


def clock_of(orders: Orders, name: str) -> Clock:
    """Return the clock of a client, by the number in its name."""
    if not orders.clocks:
        return SYSTEM_CLOCK
    return SkewedClock(*CLOCKS[orders.clocks[int(name.rpartition("-")[2]) % len(orders.clocks)]])


def manager_of(orders: Orders, clock: Clock = SYSTEM_CLOCK) -> LockManager:
    if "://" in orders.locks:
        return RedisLockManager.from_url(orders.locks, lease_seconds=orders.lease, clock=clock)
    if orders.locks == "folder":
        return FileSystemLockManager(orders.folder / "locks", lease_seconds=orders.lease, clock=clock)
    return StorageLockManager(orders.store, lease_seconds=orders.lease, poll_seconds=(0.05, 0.5), clock=clock)


class Client:
    def __init__(self, orders: Orders, name: str, seed: int) -> None:
        self.orders = orders
        self.rng = random.Random(seed)
        self.recorder = Recorder(orders.folder, name)
        clock = clock_of(orders, name)
        self.results = sabotaged_results(ResultStore(open_store(orders.store), clock=clock), orders.sabotage)
        self.manager = sabotaged_manager(manager_of(orders, clock), orders.sabotage)
        self.session: Session | None = None
        self.doings = {self.get: 70, self.read: 15, self.invalidate: 12, self.collect: 3}
        self.work, self.hesitation = [0.0, 0.05, 0.05, 0.5], 0.1
        if orders.sabotage:
            # A control has to show its mistake soon.
            often = 30 if orders.sabotage == "collects openly" else 3
            self.doings = {self.get: 50, self.read: 10, self.invalidate: 30, self.collect: often}
            self.work, self.hesitation = [0.3], 0.3

    def run(self) -> None:
        """Run until the time is up."""
        while self.time_left():
            key = self.rng.choice(self.orders.keys)
            doing = self.rng.choices(list(self.doings), list(self.doings.values()))[0]
            try:
                doing(key)
            except (LocksUnreachable, StoreUnreachable):
                self.pause(0.05)
        self.leave()
        self.recorder.note("bye", threads=[t.name for t in threading.enumerate() if t.name.startswith("penstock")])

    def time_left(self) -> bool:
        return time.monotonic() < self.orders.until

    def pause(self, longest: float) -> None:
        time.sleep(self.rng.uniform(0.0, longest))

    # -- operations -

    def get(self, key: str) -> None:
        """Return the value, computed by the client that gets the lock."""
        while self.time_left():
            if isinstance(self.read(key), Found):
                return
            if self.orders.sabotage == "overwrites":
                # The mistake must show without a lease that is lost at the right moment.
                self.compute(key, self.results.look_up(TASK, key), None)
                return
            try:
                lease = self.acquire(key)
                if lease is None:
                    self.wait(key)
                    continue
                done = False
                try:
                    found = self.read(key)
                    done = isinstance(found, Found) or self.compute(key, found, lease)
                finally:
                    self.release(lease, done)
                if done:
                    return
            except SessionLost:
                self.forget_session()

    def read(self, key: str) -> Found | Absent:
        noted = self.recorder.invoke("read", key)
        while True:
            try:
                found = self.results.look_up(TASK, key)
                if isinstance(found, Absent):
                    noted.ok(generation=found.generation, attempt=None, why=found.reason)
                    return found
                value = self.results.load(found.record)
            except DamagedResult as error:
                if error.data.get("closed"):
                    continue  # the generation was closed and collected since the lookup
                noted.fail(damaged=True, error=str(error), generation=found.generation)
                return found.damaged()
            except StoreError as error:
                noted.fail(error=str(error))
                raise
            noted.ok(
                generation=found.generation,
                attempt=found.record.attempt,
                digest=digest_of(value),
                recorded=found.record.digest,
            )
            return found

    def acquire(self, key: str) -> Lease | None:
        session = self.open_session()
        noted = self.recorder.invoke("acquire", key, session=session.id)
        try:
            (answer,) = session.try_acquire([key])
        except LockError as error:
            noted.info(error=str(error))
            raise
        if isinstance(answer, Lease):
            noted.ok(session=session.id, fence=answer.fencing_token)
            return answer
        noted.ok(holder=answer.session_id)
        return None

    def wait(self, key: str) -> None:
        noted = self.recorder.invoke("wait", key)
        try:
            woken = self.open_session().wait_any([key], 10.0)
        except LockError as error:
            noted.fail(error=str(error))
            raise
        noted.ok(outcome=[each.outcome for each in woken])

    def compute(self, key: str, found: Found | Absent, lease: Lease | None) -> bool:
        """Make a value and publish it. Return False if it has to be done again."""
        attempt = uuid.uuid4().hex
        value = {"attempt": attempt, "fill": "x" * self.rng.choice([0, LARGE])}
        self.affirm(lease)
        self.pause(self.rng.choice(self.work) * self.orders.lease)
        self.affirm(lease)
        if self.rng.random() < 0.1:
            return False  # a task that fails
        noted = self.recorder.invoke("publish", key, attempt=attempt, digest=digest_of(value))
        try:
            staged = self.results.stage(
                TASK,
                key,
                value,
                after=found,
                attempt=attempt,
                digest=digest_of(value),
                session=lease.session_id if lease else "",
                fence=lease.fencing_token if lease else 0,
            )
            self.affirm(lease)
            self.pause(self.hesitation * self.orders.lease)
            self.affirm(lease)
            published = self.results.commit(staged)
        except StoreError as error:
            noted.info(error=str(error))
            raise
        if isinstance(published, Restart):
            noted.ok(restart=published.reason, generation=published.generation)
            return False
        record = published.record
        noted.ok(won=published.won, generation=record.generation, attempt=record.attempt, digest=record.digest)
        return True

    def affirm(self, lease: Lease | None) -> None:
        """Record that the lock is still ours, if it is."""
        if lease is None or self.session is None:
            return
        asked = time.monotonic()
        if self.session.lost:
            self.recorder.note("lost", session=lease.session_id)
        else:
            self.recorder.note("holds", lease.key, t=asked, session=lease.session_id, fence=lease.fencing_token)

    def release(self, lease: Lease, done: bool) -> None:
        noted = self.recorder.invoke("release", lease.key, session=lease.session_id, fence=lease.fencing_token)
        freed = False
        while not freed and self.session is not None and not self.session.lost:
            try:
                self.session.release([lease], "published" if done else "failed")
                freed = not self.session.lost  # otherwise it may have freed nothing
            except LocksUnreachable:
                self.pause(0.05)
        noted.ok(freed=freed)

    def invalidate(self, key: str) -> None:
        noted = self.recorder.invoke("invalidate", key)
        try:
            noted.ok(closed=self.results.invalidate(TASK, key))
        except StoreError as error:
            noted.info(error=str(error))
            raise

    def collect(self, key: str) -> None:
        noted = self.recorder.invoke("gc")
        collect = sabotaged_collection if self.orders.sabotage == "collects openly" else gc
        try:
            collected = collect(self.results, grace_seconds=0.0)
        except StoreError as error:
            noted.info(error=str(error))
            raise
        noted.ok(payloads=collected.payloads, closed=collected.closed)

    # -- the session

    def open_session(self) -> Session:
        if self.session is None or self.session.lost:
            self.forget_session()
            known = threading.Event()
            session: Session

            def lost() -> None:
                known.wait()
                self.recorder.note("lost", session=session.id)

            session = self.manager.open_session(on_lost=lost)
            known.set()
            self.session = session
        return self.session

    def forget_session(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            if session.lost:
                self.recorder.note("lost", session=session.id)
            try:
                session.close()
            except LockError:
                pass  # it ends with its lease

    def leave(self) -> None:
        while self.session is not None:
            try:
                self.session.close()
                self.session = None
            except LocksUnreachable:
                self.pause(0.05)


def digest_of(value: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def preload(orders: Orders) -> None:
    """Import what clients need, once for all forks."""
    if orders.store.startswith("s3:"):
        importlib.import_module("s3fs")
    if "://" in orders.locks:
        importlib.import_module("redis")


def fork(orders: Orders, name: str, seed: int, environment: Mapping[str, str]) -> int:
    """Fork a client and return its pid. Only in a process without threads."""
    pid = os.fork()
    if pid == 0:
        try:
            os.environ.update(environment)
            Client(orders, name, seed).run()
        except BaseException as error:  # noqa: BLE001 (a fault of the client is a finding)
            import traceback

            Recorder(orders.folder, f"{name}.crash").note("crash", error=repr(error), trace=traceback.format_exc())
        finally:
            os._exit(0)
    return pid
