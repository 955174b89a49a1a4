"""The epoch locks in a simulated cluster: one step at a time, in an order and with faults that a seed decides.

Every call of the store is one step, and so is waking from a wait. Between two steps only the simulation runs, so it can
look at what every driver believes. A machine may be paused (all its threads, while its clock goes on), a single
thread may be stalled (while its session's heartbeat goes on), and a machine may crash before or after a call took
effect.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import pytest

from penstock.errors import SessionLost
from penstock.locks.base import Lease, Session
from penstock.locks.epochs import Epoch, Epochs, _encoded, _name
from penstock.locks.registry import SessionObject, SessionRegistry
from penstock.locks.slots import SlotLockManager
from penstock.storage.memory import MemoryStore
from penstock.storage.stores import Listed

T = TypeVar("T")
LEASE = 30.0


class Crashed(BaseException):
    """Ends a thread of a crashed machine."""


class Violation(AssertionError):
    """Two drivers held one key, or a token did not grow."""


@dataclass(eq=False)
class Parked:
    """A thread between two steps."""

    order: tuple[int, str]
    machine: Machine
    doing: str
    event: threading.Event | None = None
    deadline: float = 0.0
    stalled_until: float = 0.0
    gate: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


class Machine:
    """One driver's machine: its store, its clock and what it believes to hold."""

    def __init__(self, world: World, index: int) -> None:
        self.world = world
        self.index = index
        self.paused_until = 0.0
        self.crashing = False
        self.crash_after_effect = False
        self.session: Session | None = None
        self.lease: Lease | None = None

    # -- its clock

    def now(self) -> float:
        return self.world.time

    def monotonic(self) -> float:
        return self.world.time + 1000.0 * self.index

    def wait(self, event: threading.Event, timeout: float) -> bool:
        self.world.park(self, "wait", event, timeout)
        return event.is_set()

    # -- its way to the store

    def get(self, name: str) -> bytes | None:
        return self.step("get", lambda: self.world.store.get(name))

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        return [self.get(name) for name in names]

    def put_if_absent(self, name: str, data: bytes) -> bool:
        return self.step("put_if_absent", lambda: self.world.store.put_if_absent(name, data))

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        self.step("put", lambda: self.world.store.put(name, data))

    def delete(self, name: str) -> None:
        self.step("delete", lambda: self.world.store.delete(name))

    def list(self, prefix: str) -> Iterator[Listed]:
        entries = self.step("list", lambda: [*self.world.store.list(prefix)])
        if not self.world.torn_listings:
            return iter(entries)
        # Entries are looked at in steps of their own, and left out if they were deleted meanwhile.
        return iter([entry for entry in entries if self.look(entry.name)])

    def look(self, name: str) -> bool:
        return self.step("look", lambda: self.world.store.get(name)) is not None

    def step(self, doing: str, call: Callable[[], T]) -> T:
        self.world.park(self, doing)
        result = call()
        if self.crashing:
            raise Crashed
        return result

    # -- its driver

    def drive(self, manager: SlotLockManager, keys: Sequence[str], rounds: int) -> None:
        rng = random.Random(self.index)
        for turn in range(rounds):
            try:
                if self.session is None or self.session.lost:
                    self.session = manager.open_session(lease_seconds=LEASE)
                key = keys[turn % len(keys)]
                (answer,) = self.session.try_acquire([key])
                if isinstance(answer, Lease):
                    self.world.took(self, answer)
                    self.wait(threading.Event(), rng.choice([0.0, 0.0, 0.01 * LEASE, 0.5 * LEASE]))
                    self.lease = None
                    self.session.release([answer], "failed")
                else:
                    self.session.wait_any([key], 2 * LEASE)
            except SessionLost:
                self.lease = None


class World:
    """The machines, their one store and the time."""

    def __init__(
        self,
        seed: int,
        *,
        machines: int = 3,
        rounds: int = 12,
        keys: Sequence[str] = ("k",),
        torn_listings: bool = False,
        epochs: type[Epochs] = Epochs,
        registry: type[SessionRegistry] = SessionRegistry,
    ) -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self.time = 100.0
        # Each world has its own kinds of misfortune: all of them all the time would hide what needs quiet in between.
        self._crashes = self.rng.choice([0.0, 0.003])
        self._pauses = self.rng.choice([0.0, 0.01])
        self._stalls = self.rng.choice([0.0, 0.02])
        self._delicate = self.rng.sample(["put_if_absent", "put", "look"], k=self.rng.choice([0, 1, 2]))
        self.store = MemoryStore()
        self.torn_listings = torn_listings
        self.takes = 0
        self._tokens: dict[str, int] = {}
        self._parked: dict[threading.Thread, Parked] = {}
        self._changed = threading.Condition()
        self._over = False
        self._failure: str | None = None
        self._others = set(threading.enumerate())
        self.machines = [Machine(self, index) for index in range(machines)]
        self._managers = []
        for machine in self.machines:
            manager = SlotLockManager(machine, reach="network", poll_seconds=(0.1, 2.0), clock=machine)
            manager._prepared = True  # the probe is not what is simulated here
            manager._epochs = epochs(machine, clock=machine)
            manager._registry = registry(machine, clock=machine)
            self._managers.append(manager)
        self._drivers = [
            threading.Thread(target=machine.drive, args=[manager, keys, rounds], name="driver")
            for machine, manager in zip(self.machines, self._managers, strict=True)
        ]

    # -- called by the threads of the machines

    def park(self, machine: Machine, doing: str, event: threading.Event | None = None, timeout: float = 0.0) -> None:
        thread = threading.current_thread()
        parked = Parked((machine.index, thread.name), machine, doing, event, self.time + timeout)
        with self._changed:
            if not self._over:
                self._parked[thread] = parked
                self._changed.notify_all()
        if not self._over:
            parked.gate.acquire()
        if self._over or (machine.crashing and not machine.crash_after_effect):
            raise Crashed

    def took(self, machine: Machine, lease: Lease) -> None:
        machine.lease = lease
        self.takes += 1
        if lease.fencing_token <= self._tokens.get(lease.key, 0):
            self._fail(f"token {lease.fencing_token} after {self._tokens[lease.key]}")
        self._tokens[lease.key] = lease.fencing_token

    # -- the simulation

    def run(self, *, max_steps: int = 4_000) -> World:
        """Until all drivers are done or dead; raises `Violation`."""
        jitter, report = random.getstate(), threading.excepthook
        random.seed(self.seed)
        threading.excepthook = lambda args: None if args.exc_type is Crashed else report(args)
        try:
            for driver in self._drivers:
                driver.start()
            for _ in range(max_steps):
                self._let_everybody_park()
                self._check()
                if not any(driver.is_alive() for driver in self._drivers):
                    return self
                self._misfortune()
                self._grant()
            raise TimeoutError(f"seed {self.seed}: not done after {max_steps} steps")
        finally:
            self._end()
            random.setstate(jitter)
            threading.excepthook = report

    def _threads(self) -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread not in self._others]

    def _let_everybody_park(self) -> None:
        with self._changed:
            while not all(thread in self._parked for thread in self._threads()):
                self._changed.wait(0.001)  # a thread that ends does not say so

    def _check(self) -> None:
        believers: dict[str, list[int]] = {}
        for machine in self.machines:
            if machine.lease and machine.session and not machine.crashing and not machine.session.lost:
                believers.setdefault(machine.lease.key, []).append(machine.index)
        for key, indices in believers.items():
            if len(indices) > 1:
                self._fail(f"{key!r} is held by {indices} at once")
        if self._failure:
            raise Violation(f"seed {self.seed}: {self._failure}")

    def _fail(self, what: str) -> None:
        self._failure = what

    def _misfortune(self) -> None:
        machine = self.rng.choice(self.machines)
        if self.rng.random() < self._crashes and sum(not m.crashing for m in self.machines) > 1:
            machine.crashing, machine.crash_after_effect = True, self.rng.random() < 0.5
        if self.rng.random() < self._pauses:
            machine.paused_until = self.time + self.rng.uniform(0.1, 2.5) * LEASE
        for parked in sorted(self._parked.values(), key=lambda p: p.order):
            likely = 0.1 if parked.doing in self._delicate else self._stalls / len(self._parked)
            if self.rng.random() < likely:
                parked.stalled_until = self.time + self.rng.uniform(0.1, 2.5) * LEASE

    def _grant(self) -> None:
        """Let one thread go its next step; if none may, let time pass until one does."""
        self.time += self.rng.choice([0.0, 0.001, 0.01]) * LEASE
        queue = sorted(self._parked.items(), key=lambda item: item[1].order)
        ready = [item for item in queue if self._ready_at(item[1]) <= self.time]
        if not ready:
            self.time = min(self._ready_at(parked) for _, parked in queue)
            ready = [item for item in queue if self._ready_at(item[1]) <= self.time]
        thread, parked = self.rng.choice(ready)
        del self._parked[thread]
        parked.gate.release()

    def _ready_at(self, parked: Parked) -> float:
        if parked.machine.crashing:
            return self.time
        until = 0.0 if parked.event is not None and parked.event.is_set() else parked.deadline
        return max(until, parked.stalled_until, parked.machine.paused_until)

    def _end(self) -> None:
        with self._changed:
            self._over = True
            for parked in self._parked.values():
                parked.gate.release()
        for thread in self._threads():
            thread.join()


# -- the tests

SEEDS = range(25)
MORE_SEEDS = range(25, 100)


class NoLookAfterCreating(Epochs):
    """Takes a successful `put_if_absent` for the lock."""

    def is_top(self, epoch: Epoch) -> bool:
        super().is_top(epoch)
        return True


class DeleteAndCreate(Epochs):
    """Breaks a dead lock by deleting it and creating it again under the same name."""

    def create(self, epoch: Epoch) -> bool:
        name = _name(epoch.key, 1)
        self._store.delete(name)
        return self._store.put_if_absent(name, _encoded(epoch))

    def is_top(self, epoch: Epoch) -> bool:
        return True


class Impatient(SessionRegistry):
    """Judges a session dead after half its lease."""

    def _left(self, session: SessionObject, before: float, after: float) -> float:
        return super()._left(replace(session, lease_seconds=session.lease_seconds / 2), before, after)


class DeletesTheTop(Epochs):
    """Clears up all epochs when it releases."""

    def overwrite(self, epoch: Epoch) -> None:
        for number in self._numbers(epoch.key):
            self._store.delete(_name(epoch.key, number))


def run_all(worlds: Sequence[World]) -> None:
    for world in worlds:
        world.run()


@pytest.mark.parametrize("seed", SEEDS)
def test_no_two_drivers_hold_a_key(seed: int) -> None:
    assert World(seed).run().takes > 0


@pytest.mark.slow
@pytest.mark.parametrize(("torn_listings", "keys"), [(False, "k"), (True, "k"), (False, "kl")])
def test_no_two_drivers_hold_a_key_in_many_worlds(torn_listings: bool, keys: str) -> None:
    run_all([World(seed, torn_listings=torn_listings, keys=keys) for seed in MORE_SEEDS])


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [NoLookAfterCreating, DeleteAndCreate, DeletesTheTop])
def test_a_wrong_algorithm_is_caught(mutant: type[Epochs]) -> None:
    worlds = [World(seed, epochs=mutant) for seed in range(60)]
    with pytest.raises(Violation):
        run_all(worlds)


@pytest.mark.slow
def test_judging_too_early_is_caught() -> None:
    worlds = [World(seed, registry=Impatient) for seed in range(60)]
    with pytest.raises(Violation, match="at once"):
        run_all(worlds)
