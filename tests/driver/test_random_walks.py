"""Random walks of the driver's core: in any order of events, no node is lost, forgotten, or run twice at once."""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import Any

import pytest

from penstock.digests.python import digest
from penstock.driver import instructions as do
from penstock.driver.events import Broken, Cancel, Dropped, FinishRunning, GiveUp, Remake, Rested, Stop, TimedOut
from penstock.driver.state.transitions import OVER, State
from penstock.errors import LocksUnreachable, PenstockError, ValuesChanged
from penstock.graph.tasks import TaskDefinition
from penstock.limits.rates import Rate
from penstock.locks.single_flight import Flight
from penstock.worker.messages import NO_GENERATION, Waits
from tests.driver.world import LOCKS, World, made

FIRST_SEED = int(os.environ.get("PENSTOCK_FIRST_SEED", "0"))
WALKS, STEPS = 60, 60

TASKS: list[TaskDefinition] = [
    made("plain"),
    made("slow", timeout_seconds=5.0),
    made("retried", retries=2, retry_delay_seconds=[0, 7]),
    made("cached", cached=True),
    made("locked", cached=True, retries=1),
    made("serial", cached=True),
    made("fresh", cached=True, refresh_cache=True),
    made("few", cached=True, tags=frozenset({"few"})),
    made("rated", tags=frozenset({"rated", "few"}), retries=1, retry_delay_seconds=3),
    made("wide", resources={"slots": 2}),
]
KINDS = ["executed"] * 8 + [
    "failed",
    "failed",
    "worker_lost",
    "input_lost",
    "unowned",
    "closed",
    "not_started",
    "apart",
]


class Walk:
    """One walk: a flow that grows while bundles end in every way, others hold locks, and time passes."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        chance = self.chance
        self.world = world = World(
            slots=chance.randint(1, 4),
            held_back=chance.choice([0, 0, 2]),
            seed=seed,
            flights={
                "locked": Flight(LOCKS),
                "few": Flight(LOCKS, after_seconds=1.0),
                "serial": Flight(LOCKS, required=True),
            },
            options={"bundle_seconds": chance.choice([0.0, 0.1]), "lock_wait_seconds": chance.choice([None, 30.0])},
        )
        world.at_once = {"few": chance.choice([0, 1, 2])}
        world.rates = {"rated": Rate(2, 10.0)}
        world.starts = {"rated": 2}
        self.waiters: dict[str, bool] = {}
        self.given_up: set[str] = set()
        self.remaking_may_change = chance.random() < 0.2
        self.ended = False

    # -- possible events ------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Perform one event, then check all invariants."""
        self.chance.choices(
            [self.grow, self.report, self.start, self.let_time_pass, self.others, self.wake, self.drop, self.remake,
             self.stray, self.waits, self.give_up],
            [6, 10, 3, 2, 3, 3, 2, 1, 1, 1, 1],
        )[0]()  # fmt: skip
        self.check()

    def grow(self) -> None:
        world, chance = self.world, self.chance
        for _ in range(chance.randint(1, 6)):
            there = range(len(world.state.graph))
            inputs = chance.sample(there, min(len(there), chance.choice([0, 1, 1, 2])))
            after = tuple(chance.sample(there, min(len(there), chance.choice([0, 0, 0, 1]))))
            node = world.call(chance.choice(TASKS), *inputs, n=chance.randint(0, 3), after=after)
            if chance.random() < 0.5:
                world.held.add(node)
        waiter = f"waiter {len(self.waiters)}"
        want = chance.sample(range(len(world.state.graph)), chance.choice([0, 1, 2]) % (len(world.state.graph) + 1))
        self.waiters[waiter] = False
        world.run(*want, waiter=waiter)

    def report(self) -> None:
        world, chance = self.world, self.chance
        ends = [b for b in world.bundles.values() if self.may_end(b)]
        if ends:
            bundle = chance.choice(ends)
            kind = chance.choice([*KINDS, None])
            world.finish(bundle, {call.node: self.how(call, kind or chance.choice(KINDS)) for call in bundle.calls})

    def may_end(self, bundle: Any) -> bool:
        """Tell whether the node may end: a call sent ahead ends after its predecessors."""
        under_way = {call.node for other in self.world.bundles.values() if other is not bundle for call in other.calls}
        return not any(dep in under_way for call in bundle.calls for dep in call.inputs)

    def how(self, call: Any, kind: str) -> dict[str, Any]:
        world, chance = self.world, self.chance
        node = world.state.graph[call.node]
        if any(not world.state.values.there(d) and d not in call.inner for d in node.deps):
            return {"kind": "not_started"}  # it was sent ahead in vain
        if kind == "input_lost":
            outer = [d for d in node.deps if d not in call.inner]
            if not outer:
                return {"kind": "executed"}
            lost = chance.choice(outer)
            record = world.state.results[lost].record
            return {"kind": kind, "lost": {lost: NO_GENERATION if record is None else record.generation}}
        if kind in ("unowned", "closed") and not node.cached:
            return {"kind": "failed"}
        if kind == "unowned":
            key = world.state.planner.content_key(node) or call.cache_key or digest(call.node)
            return {"kind": kind, "cache_key": key}
        if kind == "executed" and self.remaking_may_change and node.cached:
            return {"digest": digest(chance.random())}
        return {"kind": kind}

    def start(self) -> None:
        for bundle in list(self.world.bundles.values())[:1]:
            self.world.start(bundle.calls[0].node)

    def let_time_pass(self) -> None:
        self.world.starts["rated"] = 2
        self.world.pass_time(self.chance.choice([0.5, 6.0, 12.0]))

    def others(self) -> None:
        """Let another run take a lock or release some."""
        world, chance = self.world, self.chance
        if world.locked_by_others and chance.random() < 0.6:
            world.locked_by_others.discard(chance.choice(sorted(world.locked_by_others)))
        else:
            keys = {node.cache_key for node in world.state.graph if node.cache_key} - set(world.leases.values())
            world.locked_by_others.update(chance.sample(sorted(keys), min(len(keys), 1)))

    def wake(self) -> None:
        world, chance = self.world, self.chance
        parked = world.core._admission._locking._parked
        keys = [*parked, *sorted(world.watched), "penstock limit few paused", "penstock rate rated", "nobody's key"]
        world.wake(chance.choice(keys))

    def drop(self) -> None:
        if self.world.held:
            node = self.chance.choice(sorted(self.world.held))
            self.world.held.discard(node)
            self.world.tell(Dropped([node]))

    def remake(self) -> None:
        world, state = self.world, self.world.state
        if state.results:
            node = self.chance.choice(sorted(state.results))
            record = state.results[node].record
            if record is not None and state.ages.remade.get(node, 0) < 2:
                world.tell(Remake(node, "damaged", record.generation))
                world.go()

    def stray(self) -> None:
        """Send an event that is late or refers to nothing."""
        self.world.tell(TimedOut(10_000, 1.0))
        for node, state in self.world.states().items():
            if state is not State.RESTING:
                self.world.tell(Rested(node))
        self.world.go()

    def waits(self) -> None:
        for bundle in list(self.world.bundles.values())[:1]:
            self.world.tell(Waits(bundle.number, bundle.calls[0].node, self.chance.random() < 0.8))

    def give_up(self) -> None:
        waiting = [w for w in self.waiters if w not in self.world.answered and w not in self.given_up]
        if waiting:
            self.given_up.add(waiting[0])
            self.world.tell(GiveUp(waiting[0]))

    # -- invariants -----------------------------------------------------------------------------------------------

    def check(self) -> None:
        world, state, scheduler = self.world, self.world.state, self.world.state.scheduler
        if world.crash is not None:
            self.check_crashed()
            return
        core = world.core
        states = world.states()
        in_bundles = Counter(call.node for bundle in world.bundles.values() for call in bundle.calls)
        queue = core._dispatch._waiting
        queued = Counter([*queue.ready, *(id for heap in queue._aside.values() for id in heap)])
        waiting_lists = [
            *core._admission._followers.values(),
            *core._admission._locking._parked.values(),
            *core._admission._limits._parked.values(),
            *core._admission._rates._parked.values(),
            *core._admission._fusion._waiting.values(),
        ]
        parked = Counter(id for ids in waiting_lists for id in ids if states[id] is State.PARKED)
        resting = Counter(event.node for _, _, event in world.timers if isinstance(event, Rested))
        listed = Counter(
            dependent for node in states for dependent in scheduler.dependents(node) if states[node] not in OVER
        )
        for node, at in states.items():
            assert at is not State.ADMITTING, "a turn decides all that it takes"
            assert at is not State.READY, "nothing is ready when the turns are over"
            assert at is State.RUNNING or at in OVER or not in_bundles[node]
            assert at is not State.RUNNING or in_bundles[node] == 1, "who runs is with the engine, once"
            assert at is not State.QUEUED or queued[node] == 1, "who queues is in the queue, once"
            assert at is not State.PARKED or parked[node] == 1, "who is parked is on one list"
            assert at is not State.RESTING or resting[node] >= 1, "who rests has a timer"
            assert at is not State.WAITING or scheduler.waits(node) > 0, "who waits waits for something"
            assert scheduler.waits(node) == listed[node], node
            progress = state.progress.get(node)
            assert (progress is None) == (at is State.DONE)
            if at in OVER:
                assert node not in world.leases, "who is over has no lock"
            if progress is not None:
                assert at not in (State.FAILED, State.SKIPPED) or progress.error is not None
                assert progress.leased == (node in world.leases)
                assert progress.parked_since is None or at not in (State.RUNNING, State.QUEUED)
        self.check_keys(states)
        permits = Counter(holder[1] for holder in world.leases if isinstance(holder, tuple))
        assert permits["few"] <= world.at_once["few"]
        in_use = sum(bundle.resources.get("slots", 0.0) for bundle in world.bundles.values())
        assert in_use == core._dispatch._in_use.get("slots", 0.0) <= world.slots
        self.check_waiters()

    def check_keys(self, states: dict[int, State]) -> None:
        """Check that no two nodes compute one key at the same time, as far as keys are known."""
        state = self.world.state
        keys = Counter(
            state.progress[node].key
            for node, at in states.items()
            if at in (State.RUNNING, State.QUEUED) and state.graph[node].cached and state.progress[node].key is not None
        )
        assert max(keys.values(), default=0) <= 1

    def check_waiters(self) -> None:
        waiting = {waiter for _, waiter in self.world.core._waiters._waiting}
        for waiter in self.waiters:
            assert (waiter in waiting) + (waiter in self.given_up) + (waiter in self.world.answered) >= 1
            assert self.world.answered.count(waiter) <= 1

    def check_crashed(self) -> None:
        assert self.world.leases == {}
        assert {*self.world.answered, *self.given_up} >= set(self.waiters)

    # -- to the end -----------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Let everything succeed from now on, until all nodes have ended."""
        world = self.world
        world.refuse.clear()
        world.locked_by_others.clear()
        self.remaking_may_change = False
        if world.at_once["few"] == 0:
            world.at_once["few"] = 1
        for _ in range(500):
            if world.crash is not None or (world.state.scheduler.idle and not world.bundles):
                break
            for bundle in [b for b in world.bundles.values() if self.may_end(b)]:
                if bundle.number in world.bundles:
                    world.finish(bundle, {call.node: self.how(call, "executed") for call in bundle.calls})
            world.starts["rated"] = 2
            for key in [*world.core._admission._locking._parked, "penstock limit few 0", "penstock limit few paused"]:
                world.wake(key)
            world.pass_time(11.0)
            self.check()
        if world.crash is None:
            assert world.state.scheduler.idle, world.states()
            assert world.leases == {}
            assert {*world.answered, *self.given_up} >= set(self.waiters)
            waiting = world.core._admission
            assert not any((waiting._leaders, waiting._followers, waiting._limits._held))
            assert not world.core._dispatch._pipelining._promises
            assert min(world.state.values._uses.values(), default=0) >= 0


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + WALKS))
def test_nothing_is_lost_run_twice_or_forgotten(seed: int) -> None:
    walk = Walk(seed)
    for _ in range(STEPS):
        walk.step()
    walk.finish()
    assert walk.world.crash is None or isinstance(walk.world.crash, ValuesChanged), walk.world.crash


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + WALKS))
def test_every_failure_around_the_core_fails_a_node_or_ends_the_run(seed: int) -> None:
    walk = Walk(seed)
    chance = random.Random(seed)
    often = {
        do.Submit: 0.2,
        do.LookUp: 0.02,
        do.Acquire: 0.03,
        do.ReadLimits: 0.02,
        do.FindFree: 0.02,
        do.TakeStarts: 0.02,
    }

    def fails(question: Any) -> BaseException | None:
        return LocksUnreachable("away") if chance.random() < often[type(question)] else None

    walk.world.refuse = dict.fromkeys(often, fails)
    for _ in range(STEPS):
        walk.step()
        walk.world.silent_locks = chance.random() < 0.1
    walk.world.silent_locks = False
    walk.finish()
    assert walk.world.crash is None or isinstance(walk.world.crash, PenstockError), walk.world.crash


@pytest.mark.parametrize(
    "event", [Cancel(), Stop(), Broken(OSError("gone")), FinishRunning("last")], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + WALKS // 6))
def test_a_run_can_end_at_any_time(seed: int, event: Any) -> None:
    walk = Walk(seed)
    for _ in range(random.Random(seed).randint(1, STEPS)):
        walk.step()
    world = walk.world
    if isinstance(event, FinishRunning):
        walk.waiters["last"] = False
    world.tell(event)
    world.go()
    if isinstance(event, FinishRunning):
        submitted = len(world.submissions)
        while world.bundles:
            walk.report()
        assert len(world.submissions) == submitted
        assert "last" in world.answered
    world.tell(Stop())
    assert {*world.answered, *walk.given_up} >= set(walk.waiters)
    assert world.leases == {}
    assert world.bundles == {}
    assert world.state.scheduler.idle
