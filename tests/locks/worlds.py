"""A simulated cluster: one step at a time, in an order and with faults that a seed decides.

Every call of a server is one step, and so is waking from a wait. Between two steps only the simulation runs, so it can
look at what every driver believes. A machine may be paused (all its threads, while its clock goes on), a single
thread may be stalled (while its session's heartbeat goes on), and a machine may crash before or after a call took
effect.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from penstock.locks.base import Lease, Session

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
    """One driver's machine: its clock, its steps, and what it believes to hold."""

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

    # -- its steps

    def step(self, doing: str, call: Callable[[], T]) -> T:
        self.world.park(self, doing)
        result = call()
        if self.crashing:
            raise Crashed
        return result

    # -- its driver

    def drive(self, manager: Any, keys: Sequence[str], rounds: int) -> None:
        """What its driver does, in a thread of its own."""
        raise NotImplementedError


class World:
    """The machines and the time."""

    machine_class: type[Machine]

    def __init__(
        self,
        seed: int,
        *,
        machines: int = 3,
        rounds: int = 12,
        keys: Sequence[str] = ("k",),
        delicate: Sequence[str] = (),
    ) -> None:
        """`delicate` are the steps of which some are likely to be stalled."""
        self.rng = random.Random(seed)
        self.seed = seed
        self.time = 100.0
        # Each world has its own kinds of misfortune: all of them all the time would hide what needs quiet in between.
        self._crashes = self.rng.choice([0.0, 0.003])
        self._pauses = self.rng.choice([0.0, 0.01])
        self._stalls = self.rng.choice([0.0, 0.02])
        self._delicate = self.rng.sample(list(delicate), k=self.rng.choice(range(len(delicate) or 1)))
        self.takes = 0
        self._tokens: dict[str, int] = {}
        self._parked: dict[threading.Thread, Parked] = {}
        self._changed = threading.Condition()
        self._over = False
        self._failure: str | None = None
        self._others = set(threading.enumerate())
        self.machines = [self.machine_class(self, index) for index in range(machines)]
        self._drivers = [
            threading.Thread(target=machine.drive, args=[self.make_manager(machine), keys, rounds], name="driver")
            for machine in self.machines
        ]

    def make_manager(self, machine: Any) -> Any:
        """The lock manager as this machine has it."""
        raise NotImplementedError

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
        for key, indices in self._believers().items():
            if len(indices) > 1:
                self._fail(f"{key!r} is held by {indices} at once")
        if self._failure:
            raise Violation(f"seed {self.seed}: {self._failure}")

    def _believers(self) -> dict[str, list[int]]:
        """The machines that believe they hold each key."""
        believers: dict[str, list[int]] = {}
        for machine in self.machines:
            if machine.lease and machine.session and not machine.crashing and not machine.session.lost:
                believers.setdefault(machine.lease.key, []).append(machine.index)
        return believers

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
