"""Locks in Redis in a simulated cluster (see `worlds`): real sessions and heartbeats over the model of the scripts.

Requests and answers are lost or late, messages are lost, Redis restarts empty. Each driver works through the same
keys: it takes the lock, looks again, computes, and publishes its result by put-if-absent.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from penstock.errors import LockError, LocksUnreachable, SessionLost
from penstock.locks.base import Lease, LockOutcome
from penstock.locks.redis.listener import Ear
from penstock.locks.redis.namespace import Namespace
from penstock.locks.redis.sessions import OwnSession
from penstock.redis.client import Script
from tests.amounts import amount
from tests.locks.model_redis import ModelRedis
from tests.locks.worlds import LEASE, Crashed, Machine, Violation, World, seeds

pytestmark = pytest.mark.untraced


class RedisMachine(Machine):
    """A machine whose locks are in the world's Redis. It is its own client and its own listener."""

    world: RedisWorld
    timeout = 3.0

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        world, rng = self.world, self.world.rng
        fate = rng.choice(["lost", "unanswered", "late"]) if rng.random() < world.trouble else "fine"
        self.world.park(self, "request")
        if fate == "late":
            world.late.append((world.time + rng.uniform(0.0, 1.5) * LEASE, script, keys, arguments))
        answer = world.serve(script, keys, arguments) if fate in ("fine", "unanswered") else None
        if self.crashing:
            raise Crashed
        if fate != "fine":
            self.wait(threading.Event(), self.timeout)
            raise LocksUnreachable("no answer")
        self.world.park(self, "answer")
        return answer

    @contextmanager
    def listening(self, keys: Sequence[bytes], event: threading.Event) -> Iterator[Ear]:
        ear = Ear(event)
        entry = (frozenset(keys), ear)
        self.world.ears.append(entry)
        try:
            yield ear
        finally:
            self.world.ears.remove(entry)

    def drive(self, manager: Callable[[], OwnSession], keys: Sequence[str], rounds: int) -> None:
        rng = random.Random(self.index)
        for turn in range(rounds):
            key = keys[turn % len(keys)]
            result = f"{key}{turn}"
            while not self.world.published(self, result):
                try:
                    if self.session is None or self.session.lost:
                        self.session = manager()
                    (answer,) = self.session.try_acquire([key])
                    if isinstance(answer, Lease):
                        self.world.took(self, answer)
                        outcome = self.compute(result, rng)
                        self.lease = None
                        self.session.release([answer], outcome)
                    else:
                        self.session.wait_any([key], 2 * LEASE)
                except SessionLost:
                    self.lease = self.session = None
                except LockError:
                    self.lease = None

    def compute(self, key: str, rng: random.Random) -> LockOutcome:
        if self.world.looks_again and self.world.published(self, key):
            return "published"
        self.world.executions[key] += 1
        self.wait(threading.Event(), rng.choice([0.0, 0.01 * LEASE, 0.5 * LEASE, 2.0 * LEASE]))
        if rng.random() < 0.5:
            self.world.executions[key] -= 1  # a failed attempt does not count as an execution
            return "failed"
        self.world.publish(self, key)
        return "published"


class SimulatedNamespace(Namespace):
    def listener(self) -> Any:
        return self.client


class RedisWorld(World):
    """Machines that share a Redis and a result store."""

    machine_class = RedisMachine

    def __init__(
        self,
        seed: int,
        *,
        machines: int = 3,
        rounds: int = 12,
        quiet: bool = False,
        restarts: bool = False,
        redis: type[ModelRedis] = ModelRedis,
        session: type[OwnSession] = OwnSession,
        commits: str = "if absent",
        looks_again: bool = True,
    ) -> None:
        self.redis_class = redis
        self.session_class = session
        self.redis = redis()
        self.late: list[tuple[float, Script, Sequence[str], Sequence[Any]]] = []
        self.ears: list[tuple[frozenset[bytes], Ear]] = []
        self.results: dict[str, tuple[int, int]] = {}
        self.commits = commits
        self.looks_again = looks_again
        self.executions: Counter[str] = Counter()
        super().__init__(seed, machines=machines, rounds=rounds, keys=("k", "l"), delicate=["request", "answer"])
        self.quiet = quiet
        self.restarts = restarts
        self.trouble = 0.0 if quiet else self.rng.choice([0.0, 0.05, 0.2])
        self.deaf = 0.0 if quiet else self.rng.choice([0.0, 0.3])
        if quiet:
            self._crashes = self._pauses = self._stalls = 0.0
            self._delicate = []

    def make_manager(self, machine: RedisMachine) -> Callable[[], OwnSession]:
        space = SimulatedNamespace(machine, "penstock")  # type: ignore[arg-type]
        return lambda: self.session_class(space, machine, {}, LEASE, None)

    # -- the servers

    def serve(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        answer = self.redis.run(script, keys, arguments, int(self.time * 1000))
        for issued in self.redis.issued:
            self.issued(*issued)
        self.redis.issued.clear()
        messages, self.redis.messages = self.redis.messages, []
        for message in messages:
            outcome, _, key = message.partition(b"\n")
            for wanted, ear in self.ears:
                if key in wanted and self.rng.random() >= self.deaf:
                    ear.heard[key] = outcome.decode() or None  # type: ignore[assignment]
                    ear.event.set()
        return answer

    def took(self, machine: Machine, lease: Lease) -> None:
        machine.lease = lease
        self.takes += 1

    def issued(self, key: bytes, token: int) -> None:
        """Record a number when it is issued. When its holder hears of it, Redis may already have issued another one."""
        if token <= self._tokens.get(key.decode(), 0):
            self._fail(f"token {token} after {self._tokens[key.decode()]}")
        self._tokens[key.decode()] = token

    def published(self, machine: Machine, key: str) -> bool:
        return machine.step("look", lambda: key in self.results)

    def publish(self, machine: Machine, key: str) -> None:
        value = (machine.index, self.executions.total())

        def write() -> None:
            if self.commits == "if absent":
                self.results.setdefault(key, value)
            elif self.results.setdefault(key, value) != value:
                self._fail(f"two results of {key} became visible")

        machine.step("publish", write)

    # -- faults -------------

    def _misfortune(self) -> None:
        super()._misfortune()
        for entry in [entry for entry in self.late if entry[0] <= self.time]:
            self.late.remove(entry)
            self.serve(*entry[1:])
        if self.restarts and self.rng.random() < 0.004:
            self.time += 0.01  # a restart takes a moment
            self.redis = self.redis_class()
            for _, ear in self.ears:
                ear.broken = True
                ear.event.set()

    def _believers(self) -> dict[str, list[int]]:
        # A holder that Redis forgot learns of it at its next beat. Until then it may still consider itself the holder.
        found = super()._believers()
        if self.restarts:
            now = int(self.time * 1000)
            for key, indices in found.items():
                found[key] = [i for i in indices if self.redis.left(self.machines[i].session.id, now) > 0]  # type: ignore[union-attr]
        return found


# -- the tests

SEEDS = range(25)
MORE_SEEDS = range(25, 25 + amount(here=25, in_ci=100))
SHORT_WORLDS = amount(here=250, in_ci=1_000)


class Careless(ModelRedis):
    """A mistake: release any lock under the key."""

    def may_release(self, key: bytes, me: str, token: int) -> bool:
        return key in self.locks


class Impatient(ModelRedis):
    """A mistake: take a lock away after half of its lease."""

    def alive_for_others(self, session: str, now: int) -> bool:
        return self.left(session, now) > LEASE * 500


class ClockOnly(ModelRedis):
    """A mistake: number holders by the clock alone, which ticks every second."""

    def next_token(self, token: int, now: int) -> int:
        return now // 1000


class CountOnly(ModelRedis):
    """A mistake: number holders by a counter alone."""

    def next_token(self, token: int, now: int) -> int:
        return max(self.fence, token) + 1


class TakesUpAgain(OwnSession):
    """A mistake: reuse a lease whose release may still arrive."""

    @property
    def _given_up(self) -> dict[str, int]:
        return {}

    @_given_up.setter
    def _given_up(self, value: dict[str, int]) -> None:
        pass


def run_all(worlds: Iterable[RedisWorld]) -> None:
    for world in worlds:
        world.run(max_steps=40_000)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_two_drivers_hold_a_key(seed: int) -> None:
    assert RedisWorld(seed).run(max_steps=40_000).takes > 0


@pytest.mark.parametrize("seed", range(5))
def test_without_faults_each_key_is_computed_once(seed: int) -> None:
    world = RedisWorld(seed, quiet=True)
    run_all([world])
    assert set(world.executions.values()) == {1}
    assert len(world.results) == 12
    assert world.redis.locks == {}


@pytest.mark.slow
@pytest.mark.parametrize("restarts", [False, True])
def test_no_two_drivers_hold_a_key_in_many_worlds(restarts: bool) -> None:
    run_all([RedisWorld(seed, restarts=restarts) for seed in MORE_SEEDS])


def short_world(seed: int, **wrong: Any) -> RedisWorld:
    return RedisWorld(seed, machines=2 + seed % 2, rounds=2, restarts=seed % 5 > 2, **wrong)


@pytest.mark.slow
def test_no_two_drivers_hold_a_key_in_many_short_worlds() -> None:
    for seed in seeds(SHORT_WORLDS):
        short_world(seed).run(max_steps=40_000)


@pytest.mark.evidence
@pytest.mark.timeout(3600)
def test_no_two_drivers_hold_a_key_in_twenty_thousand_short_worlds() -> None:
    for seed in seeds(20_000)[SHORT_WORLDS:]:
        short_world(seed).run(max_steps=40_000)


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong",
    [
        {"redis": Careless},
        {"redis": Impatient},
        {"redis": ClockOnly},
        {"redis": CountOnly},
        {"session": TakesUpAgain},
        {"commits": "always"},
    ],
    ids=lambda wrong: getattr(next(iter(wrong.values())), "__name__", "overwrites"),
)
def test_short_worlds_find_the_mistakes_too(wrong: dict[str, Any]) -> None:
    with pytest.raises(Violation):
        run_all(short_world(seed, **wrong) for seed in range(3_000))


@pytest.mark.parametrize("seed", range(3))
def test_a_seed_determines_the_history(seed: int) -> None:
    one, other = (RedisWorld(seed, restarts=True).run(max_steps=40_000) for _ in range(2))
    assert one.trace == other.trace


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mutant", "restarts"), [(Careless, False), (Impatient, False), (ClockOnly, False), (CountOnly, True)]
)
def test_a_wrong_script_is_caught(mutant: type[ModelRedis], restarts: bool) -> None:
    with pytest.raises(Violation):
        run_all([RedisWorld(seed, redis=mutant, restarts=restarts) for seed in range(100)])


@pytest.mark.slow
def test_reusing_a_lease_whose_release_may_still_arrive_is_caught() -> None:
    with pytest.raises(Violation):
        run_all([RedisWorld(seed, session=TakesUpAgain) for seed in range(300)])


@pytest.mark.slow
def test_a_commit_that_overwrites_is_caught() -> None:
    with pytest.raises(Violation, match="two results"):
        run_all([RedisWorld(seed, commits="always") for seed in range(100)])


@pytest.mark.slow
def test_a_lock_without_a_second_look_is_caught() -> None:
    worlds = [RedisWorld(seed, quiet=True, looks_again=False) for seed in range(20)]
    run_all(worlds)
    assert max(count for world in worlds for count in world.executions.values()) > 1
