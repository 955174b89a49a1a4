"""A simulated cluster: one step at a time, in an order and with faults that a seed determines.

Every server call is one step, and so is waking from a wait. One thread runs at a time. Between two steps it runs the
simulation, which checks what every driver assumes and lets the next thread continue, often itself. A machine can be
paused (all its threads, while its clock continues), a single thread can be stalled (while its session's heartbeat
continues), and a machine can crash before or after a call took effect.
"""

from __future__ import annotations

import os
import random
import threading
import uuid
from _thread import allocate_lock
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from penstock.clocks import JITTER
from penstock.errors import SessionLost
from penstock.locks.base import Lease, LockManager, Session

T = TypeVar("T")
LEASE = 30.0
_TICKS = (0.0, 0.001 * LEASE, 0.01 * LEASE)
"""The time between two steps."""


# Read before the environment of tests is cleared.
_FIRST_SEED = int(os.environ.get("PENSTOCK_FIRST_SEED", "1000"))


def seeds(count: int) -> range:
    """Return that many seeds, the same ones every time; others with PENSTOCK_FIRST_SEED."""
    return range(_FIRST_SEED, _FIRST_SEED + count)


class Crashed(BaseException):
    """Ends a thread of a crashed machine."""


class Violation(AssertionError):
    """Two drivers held one key, or a token did not grow."""


@dataclass(eq=False, slots=True)
class Parked:
    """A thread between two steps."""

    machine: Machine
    doing: str
    event: threading.Event | None
    deadline: float
    gate: Any
    stalled_until: float = 0.0


class Machine:
    """One driver's machine: its clock, its steps, and the locks it assumes to hold."""

    def __init__(self, world: World, index: int) -> None:
        self.world = world
        self.index = index
        self.paused_until = 0.0
        self.crashing = False
        self.crash_after_effect = False
        self.session: Session | None = None
        self.lease: Lease | None = None

    # -- clock ---

    def now(self) -> float:
        return self.world.time

    def monotonic(self) -> float:
        return self.world.time + 1000.0 * self.index

    def wait(self, event: threading.Event, timeout: float) -> bool:
        self.world.park(self, "wait", event, timeout)
        return event.is_set()

    # -- steps ---

    def step(self, doing: str, call: Callable[[], T]) -> T:
        self.world.park(self, doing)
        result = call()
        if self.crashing:
            raise Crashed
        return result

    # -- driver ---

    def drive(self, manager: Any, keys: Sequence[str], rounds: int) -> None:
        """Run the driver in its own thread."""
        raise NotImplementedError


def take_turns(machine: Machine, manager: LockManager, keys: Sequence[str], rounds: int) -> None:
    """Take and release each key in turn, or wait for it; open a new session after losing one."""
    rng = random.Random(machine.index)
    for turn in range(rounds):
        try:
            if machine.session is None or machine.session.lost:
                machine.session = manager.open_session(lease_seconds=LEASE)
            key = keys[turn % len(keys)]
            (answer,) = machine.session.try_acquire([key])
            if isinstance(answer, Lease):
                machine.world.took(machine, answer)
                machine.wait(threading.Event(), rng.choice([0.0, 0.0, 0.01 * LEASE, 0.5 * LEASE]))
                machine.lease = None
                machine.session.release([answer], "failed")
            else:
                machine.session.wait_any([key], 2 * LEASE)
        except SessionLost:
            machine.lease = None


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
        """Create a world. Some of the steps in `delicate` are likely to be stalled."""
        self.rng = random.Random(seed)
        self.seed = seed
        self.time = 100.0
        # Each world has its own kinds of faults: all of them all the time would hide bugs that need quiet periods.
        self._crashes = self.rng.choice([0.0, 0.003])
        self._pauses = self.rng.choice([0.0, 0.01])
        self._stalls = self.rng.choice([0.0, 0.02])
        self._delicate = self.rng.sample(list(delicate), k=self.rng.choice(range(len(delicate) or 1)))
        self.takes = 0
        self.trace: list[tuple[int, str]] = []
        """The steps so far: the number of a thread, and its next operation."""
        self._tokens: dict[str, int] = {}
        self._parked: dict[threading.Thread, Parked] = {}
        self._mutex = allocate_lock()
        self._running = 0
        """Threads that are running between two steps: one, except for a moment while one starts another."""
        self._gates: dict[threading.Thread, Any] = {}
        """Every thread that was started in this world."""
        self._numbers: dict[threading.Thread, int] = {}
        """Threads in the order in which they were started."""
        self._newborn: dict[threading.Thread, Any] = {}
        self._over = False
        self._ended = allocate_lock()
        self._failure: str | None = None
        self._error: BaseException | None = None
        self._steps_left = 0
        self.machines = [self.machine_class(self, index) for index in range(machines)]
        self._drivers = [
            threading.Thread(target=machine.drive, args=[self.make_manager(machine), keys, rounds], name="driver")
            for machine in self.machines
        ]
        self._driving = set(self._drivers)

    def make_manager(self, machine: Any) -> Any:
        """Return the lock manager that this machine uses."""
        raise NotImplementedError

    # -- called by the threads of the machines

    def park(self, machine: Machine, doing: str, event: threading.Event | None = None, timeout: float = 0.0) -> None:
        if self._over:
            raise Crashed
        thread = threading.current_thread()
        gate = self._gates[thread]
        parked = Parked(machine, doing, event, self.time + timeout, gate)
        self._leave(thread, parked)
        gate.acquire()
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
        """Run until all drivers are done or dead. Raise `Violation` if a rule is broken."""
        self._steps_left = max_steps
        self._ended.acquire()
        self._running = 1  # this thread, until all drivers have started
        jitter, start, unique = JITTER.getstate(), threading.Thread.start, uuid.uuid4
        JITTER.seed(self.seed)
        uuid.uuid4 = lambda: uuid.UUID(int=JITTER.getrandbits(128))
        threading.Thread.start = self._starting(start)  # type: ignore[method-assign]
        try:
            for driver in self._drivers:
                self._start(driver, start)
            self._leave(None, None)
            self._ended.acquire()
            if self._error is not None:
                self._error.add_note(f"seed {self.seed}")
                raise self._error
            return self
        finally:
            self._end()
            JITTER.setstate(jitter)
            threading.Thread.start, uuid.uuid4 = start, unique  # type: ignore[method-assign]

    def _starting(self, start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
        """Return a `Thread.start` that takes over the threads started in this world."""

        def starting(thread: threading.Thread) -> None:
            if threading.current_thread() in self._gates:
                self._start(thread, start)
            else:
                start(thread)

        return starting

    def _start(self, thread: threading.Thread, start: Callable[[threading.Thread], None]) -> None:
        """Start a thread, and let it reach its first step before its starter continues."""
        self._gates[thread], self._newborn[thread] = allocate_lock(), allocate_lock()
        self._numbers[thread] = len(self._numbers)
        begun = self._newborn[thread]
        self._gates[thread].acquire()
        begun.acquire()
        run = thread.run

        def run_and_leave() -> None:
            try:
                run()
            except Crashed:
                pass
            except BaseException as error:  # noqa: BLE001 (raised by `World.run`)
                self._error = self._error or error
            finally:
                self._leave(thread, None)

        thread.run = run_and_leave  # type: ignore[method-assign]
        with self._mutex:
            self._running += 1
        start(thread)
        begun.acquire()

    def _leave(self, thread: threading.Thread | None, parked: Parked | None) -> None:
        """Note that a thread has stopped, for now or for good. The last one lets the next thread continue."""
        with self._mutex:
            if parked is not None and thread is not None:
                self._parked[thread] = parked
            elif thread in self._driving:
                self._driving.discard(thread)
            self._running -= 1
            last = self._running == 0
        if thread in self._newborn:
            self._newborn.pop(thread).release()
        if last and not self._over:
            self._next_step()

    def _next_step(self) -> None:
        """Choose the next step. Runs alone, in the thread that came last."""
        try:
            self._check()
            if self._driving and self._error is None:
                if not self._steps_left:
                    raise TimeoutError(f"seed {self.seed}: too many steps")
                self._steps_left -= 1
                self._misfortune()
                self._grant()
                return
        except BaseException as error:  # noqa: BLE001 (raised by `run`)
            self._error = self._error or error
        self._over = True
        self._ended.release()

    def _check(self) -> None:
        for key, indices in self._believers().items():
            if len(indices) > 1:
                self._fail(f"{key!r} is held by {indices} at once")
        if self._failure:
            raise Violation(f"seed {self.seed}: {self._failure}")

    def _believers(self) -> dict[str, list[int]]:
        """Return the machines that assume they hold each key."""
        believers: dict[str, list[int]] = {}
        for machine in self.machines:
            if machine.lease and machine.session and not machine.crashing and not machine.session.lost:
                believers.setdefault(machine.lease.key, []).append(machine.index)
        return believers

    def _fail(self, what: str) -> None:
        self._failure = what

    def _misfortune(self) -> None:
        chance = self.rng.random
        if self._crashes and chance() < self._crashes and sum(not m.crashing for m in self.machines) > 1:
            machine = self.rng.choice(self.machines)
            machine.crashing, machine.crash_after_effect = True, chance() < 0.5
        if self._pauses and chance() < self._pauses:
            machine = self.rng.choice(self.machines)
            machine.paused_until = self.time + self.rng.uniform(0.1, 2.5) * LEASE
        if self._stalls or self._delicate:
            usual = self._stalls / len(self._parked)
            for parked in self._parked.values():
                if chance() < (0.1 if parked.doing in self._delicate else usual):
                    parked.stalled_until = self.time + self.rng.uniform(0.1, 2.5) * LEASE

    def _grant(self) -> None:
        """Let one thread take its next step. If none can, let time pass until one can."""
        self.time += _TICKS[int(self.rng.random() * len(_TICKS))]
        times = {thread: self._ready_at(parked) for thread, parked in self._parked.items()}
        self.time = max(self.time, min(times.values()))
        ready = [thread for thread, at in times.items() if at <= self.time]
        # In the order in which threads were started, because their order in the table is random.
        ready.sort(key=self._numbers.__getitem__)
        thread = ready[int(self.rng.random() * len(ready))]
        parked = self._parked.pop(thread)
        self.trace.append((self._numbers[thread], parked.doing))
        self._running = 1
        parked.gate.release()

    def _ready_at(self, parked: Parked) -> float:
        machine, event = parked.machine, parked.event
        if machine.crashing:
            return self.time
        until = 0.0 if event is not None and event.is_set() else parked.deadline
        if parked.stalled_until > until:
            until = parked.stalled_until
        return machine.paused_until if machine.paused_until > until else until

    def _end(self) -> None:
        self._over = True
        with self._mutex:
            parked = list(self._parked.values())
        for each in parked:
            each.gate.release()
        for thread in list(self._gates):
            thread.join()
