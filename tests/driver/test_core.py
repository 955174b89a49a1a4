"""The driver's core, event by event: inputs, outputs and the states of nodes, without threads or real time."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import events as log
from penstock.digests.python import digest
from penstock.driver import instructions as do
from penstock.driver.events import (
    Answered,
    Broken,
    Cancel,
    Dropped,
    Extend,
    FinishRunning,
    GiveUp,
    GoOn,
    LocksDown,
    LocksLost,
    Refused,
    Remake,
    Stop,
)
from penstock.driver.planning import MAX_REMAKES
from penstock.driver.state.scheduler import Scheduler
from penstock.driver.state.transitions import OVER, IllegalMove, Move, State
from penstock.errors import (
    Cancelled,
    DamagedResult,
    LocksUnreachable,
    RunnerError,
    StoreRefused,
    StoreUnreachable,
    TaskTimeout,
    UpstreamFailed,
    ValuesChanged,
    WorkerLost,
)
from penstock.graph.futures import Future
from penstock.graph.steps import Hit, NoAnswer
from penstock.locks.single_flight import Flight
from penstock.worker.failures import describe
from penstock.worker.messages import NO_GENERATION, Finished, Started, Waits
from tests.driver.world import LOCKS, World, made, record_of

D1, D2 = digest("one value"), digest("another")

# -- the table --------------------------------------------------------------------------------------------------------


def test_every_state_can_be_reached_and_every_unfinished_state_can_be_left() -> None:
    assert {move.target for move in Move} | {State.WAITING} == set(State)
    left = {state for move in Move for state in move.sources}
    assert left >= {state for state in State if state not in OVER}


def test_failed_and_skipped_are_final() -> None:
    assert not any(state in move.sources for move in Move for state in (State.FAILED, State.SKIPPED))


@pytest.mark.parametrize("move", Move)
def test_a_move_from_a_wrong_state_is_refused(move: Move) -> None:
    scheduler = Scheduler()
    scheduler.add(0, ())
    for state in set(State) - set(move.sources):
        scheduler._work[0].state = state
        with pytest.raises(IllegalMove, match=f"node 0 is {state.value}, and cannot be {move.name.lower()}"):
            scheduler.move(0, move)


# -- the life of a node -----------------------------------------------------------------------------------------------


def test_a_plain_call_is_planned_submitted_and_done() -> None:
    world = World()
    node = world.call("t")
    world.extend()
    assert world.states() == {node: State.READY}
    assert not world.open
    world.go()
    assert world.states() == {node: State.RUNNING}
    assert world.submissions == [[node]]
    assert world.answered == []
    world.held.add(node)
    world.end(node)
    assert world.states() == {node: State.DONE}
    assert world.answered == ["run"]
    assert [type(event) for event in world.log] == [log.NodesPlanned, log.NodeFinished]
    assert [type(question) for question in world.asked] == [do.OpenEngine, do.Submit]
    world.held.clear()
    world.tell(Dropped([node]))
    assert world.forgotten == [f"value {node}"]


def test_a_cached_call_is_looked_up_locked_run_and_published() -> None:
    world = World(flights={"t": Flight(LOCKS, required=True)})
    node = world.call(made("t", cached=True))
    world.run()
    key = world.state.graph[node].cache_key
    # Planning has looked it up, and nothing has happened since.
    assert [type(question) for question in world.asked] == [do.LookUp, do.Acquire, do.OpenEngine, do.Submit]
    assert world.leases == {node: key}
    world.end(node)
    assert world.released == [(node, "published")]
    assert world.answered == ["run"]


def test_a_hit_needs_no_engine() -> None:
    world = World()
    node = world.call(made("t", cached=True))
    key = world.state.graph[node].cache_key
    assert key is not None
    world.store[key] = record_of(key, "d")
    world.run()
    assert world.states() == {}
    assert not world.open
    assert world.answered == ["run"]
    assert world.state.over(node)
    assert world.state.values.there(node)


def test_a_node_waits_for_its_inputs_and_its_predecessors() -> None:
    world = World(slots=9)
    first, second = world.call("a"), world.call("b")
    third = world.call("c", first, after=(second,))
    world.run()
    assert world.states()[third] is State.WAITING
    world.end(first)
    assert world.states()[third] is State.WAITING
    world.end(second)
    assert world.states()[third] is State.RUNNING


def test_nodes_queue_for_slots_in_order() -> None:
    world = World(slots=1)
    nodes = [world.call("t", n=n) for n in range(3)]
    world.run()
    assert list(world.states().values()) == [State.RUNNING, State.QUEUED, State.QUEUED]
    world.end(nodes[0])
    assert world.states()[nodes[1]] is State.RUNNING


def test_only_waiters_for_the_finished_nodes_are_answered() -> None:
    world = World()
    first, second = world.call("a"), world.call("b")
    world.run(first, waiter="first")
    world.run(second, waiter="second")
    world.run(second, waiter="impatient")
    world.tell(GiveUp("impatient"))
    world.end(first)
    assert world.answered == ["first"]
    world.end(second)
    assert world.answered == ["first", "second"]


# -- failures ---------------------------------------------------------------------------------------------------------


def test_a_failure_skips_its_dependents() -> None:
    world = World()
    first = world.call("a")
    second = world.call("b", first)
    third = world.call("c", second)
    world.run()
    world.end(first, kind="failed")
    assert world.states() == {first: State.FAILED, second: State.SKIPPED, third: State.SKIPPED}
    assert world.state.failed_nodes() == [first]
    error = world.state.error(third)
    assert isinstance(error, UpstreamFailed)
    assert isinstance(error.__cause__, ValueError)
    assert world.told(log.NodeFailed)[0].skipped == 2
    assert world.answered == ["run"]
    # A node added below a failure is skipped, and its error names the node that failed.
    fourth, fifth = world.call("d", third), world.call("e", first)
    world.run(waiter="more")
    assert world.states()[fourth] is world.states()[fifth] is State.SKIPPED
    assert world.answered == ["run", "more"]


def test_a_retry_waits_for_its_delay() -> None:
    world = World()
    node = world.call(made("t", retries=2, retry_delay_seconds=[0, 30]))
    world.run()
    world.end(node, kind="failed")
    assert world.states() == {node: State.RUNNING}
    world.end(node, kind="failed")
    assert world.states() == {node: State.RESTING}
    world.pass_time(29)
    assert world.states() == {node: State.RESTING}
    world.pass_time(1)
    assert world.states() == {node: State.RUNNING}
    assert world.bundle_of(node).calls[0].attempt == 3
    world.end(node, kind="failed")
    assert world.states() == {node: State.FAILED}
    assert [event.delay for event in world.told(log.NodeRetried)] == [0, 30]


def test_a_retry_condition_decides_and_can_fail() -> None:
    def breaks(*args: Any) -> bool:
        raise KeyError("mine")

    world = World(slots=9)
    willing = world.call(made("a", retries=1, retry_condition_fn=lambda *args: True))
    unwilling = world.call(made("b", retries=1, retry_condition_fn=lambda *args: False))
    broken = world.call(made("c", retries=1, retry_condition_fn=breaks))
    world.run()
    for node in (willing, unwilling, broken):
        world.end(node, kind="failed")
    assert world.states() == {willing: State.RUNNING, unwilling: State.FAILED, broken: State.FAILED}
    assert isinstance(world.state.error(unwilling), ValueError)
    error = world.state.error(broken)
    assert isinstance(error, ValueError)
    assert any("KeyError: 'mine'" in note for note in error.__notes__)


def test_a_call_that_times_out_is_stopped() -> None:
    world = World()
    node = world.call(made("t", timeout_seconds=5))
    other = world.call("quick")
    world.run()
    world.start(node)
    world.start(other)
    world.end(other)
    number = world.bundle_of(node).number
    world.pass_time(5)
    assert world.stopped == [number]
    assert isinstance(world.state.error(node), TaskTimeout)
    # Its outcome is ignored afterwards.
    world.tell(Started(number))
    world.tell(Waits(number, node, waits=True))
    world.tell(Finished(number, []))


def test_a_call_that_ends_in_time_is_left_alone() -> None:
    world = World()
    node = world.call(made("t", timeout_seconds=5))
    world.run()
    world.start(node)
    world.end(node)
    world.pass_time(5)
    assert world.stopped == []


def test_a_timeout_reported_by_a_worker_counts_as_one() -> None:
    world = World()
    node = world.call("t")
    world.run()
    world.end(node, kind="timeout", seconds=3.0)
    assert isinstance(world.state.error(node), TaskTimeout)


def test_a_node_whose_worker_dies_is_retried_a_few_times() -> None:
    world = World()
    node = world.call("t")
    world.run()
    world.end(node, kind="worker_lost")
    world.end(node, kind="worker_lost", failure=None)
    world.end(node, kind="worker_lost", failure=describe(MemoryError("killed")))
    assert world.states() == {node: State.RUNNING}
    world.end(node, kind="worker_lost")
    assert isinstance(world.state.error(node), WorkerLost)
    assert world.told(log.NodeRetried)[2].reason == "its worker died: killed"


# -- bundles ----------------------------------------------------------------------------------------------------------


def timed(world: World, *tasks: str) -> None:
    """Let the core learn that these tasks are quick."""
    for task in tasks:
        node = world.call(task, n=99)
        world.run(node, waiter=f"timed {task}")
        world.end(node)


def test_quick_nodes_are_bundled_and_end_independently() -> None:
    world = World(slots=1)
    timed(world, "t")
    nodes = [world.call("t", n=n) for n in range(4)]
    world.run()
    assert world.submissions[1:] == [nodes]
    assert world.told(log.BundleSubmitted)[0].nodes == 4
    hows = {nodes[1]: {"kind": "failed"}, nodes[2]: {"kind": "not_started"}}
    world.finish(world.bundle_of(nodes[0]), hows)
    expected = [State.DONE, State.FAILED, State.RUNNING, State.DONE]
    assert [world.states()[node] for node in nodes] == expected


def test_a_node_joins_the_bundle_that_makes_all_its_inputs() -> None:
    world = World(slots=1)
    first = world.call("a")
    second = world.call("b", first)
    world.run()
    assert world.submissions == [[first, second]]
    assert world.states()[second] is State.RUNNING
    world.finish(world.bundle_of(first), {first: {"kind": "failed"}, second: {"kind": "not_started"}})
    assert world.states() == {first: State.FAILED, second: State.SKIPPED}


@pytest.mark.parametrize("kind", ["worker_lost", "apart"])
def test_each_node_of_a_lost_bundle_is_retried_alone(kind: str) -> None:
    world = World(slots=1)
    timed(world, "t")
    nodes = [world.call("t", n=n) for n in range(3)]
    world.run()
    world.finish(world.bundle_of(nodes[0]), {node: {"kind": kind} for node in nodes})
    assert world.submissions[2:] == [[nodes[0]]]
    assert [world.states()[node] for node in nodes] == [State.RUNNING, State.QUEUED, State.QUEUED]
    for node in nodes:
        world.end(node)
    assert world.state.scheduler.idle


def test_the_node_that_makes_a_bundle_unpicklable_fails_alone() -> None:
    world = World(slots=1)
    timed(world, "t")
    nodes = [world.call("t", n=n) for n in range(3)]
    below = world.call("below", nodes[2])

    def bad(question: Any) -> BaseException | None:
        return TypeError("no pickle") if any(call.node == nodes[1] for call in question.bundle.calls) else None

    world.refuse[do.Submit] = bad
    world.run()
    assert world.submissions[1:] == [[nodes[0]]]
    assert [world.states()[node] for node in (*nodes, below)] == [
        State.RUNNING, State.QUEUED, State.QUEUED, State.WAITING,
    ]  # fmt: skip
    world.end(nodes[0])
    assert isinstance(world.state.error(nodes[1]), TypeError)
    world.end(nodes[2])
    assert world.submissions[1:] == [[nodes[0]], [nodes[2]], [below]]


def test_a_task_is_sent_to_the_engine_until_it_is_accepted() -> None:
    world = World(slots=1)
    nodes = [world.call("t", n=n) for n in range(3)]
    given: list[int] = []

    def first_fails(question: Any) -> BaseException | None:
        given.append(len(question.shipped_tasks))
        return OSError("away") if len(given) == 1 else None

    world.refuse[do.Submit] = first_fails
    world.run()
    assert isinstance(world.state.error(nodes[0]), OSError)
    world.end(nodes[1])
    assert given == [1, 1, 0]


def test_a_node_that_no_worker_can_run_fails_and_others_continue() -> None:
    world = World(slots=1)
    big = world.call(made("big", resources={"gpu": 1}))
    strange = world.call(made("strange", resources=lambda attempt: 1 / 0))
    small = world.call("small")
    world.run()
    assert isinstance(world.state.error(big), RunnerError)
    assert isinstance(world.state.error(strange), ZeroDivisionError)
    assert world.states()[small] is State.RUNNING


def test_a_node_that_does_not_fit_now_is_set_aside() -> None:
    world = World(slots=2)
    wide = [world.call(made(f"wide{n}", resources={"slots": 2})) for n in range(2)]
    narrow = world.call("narrow")
    world.run()
    assert [world.states()[n] for n in (*wide, narrow)] == [State.RUNNING, State.QUEUED, State.QUEUED]
    world.end(wide[0])
    assert world.states()[wide[1]] is State.RUNNING
    world.end(wide[1])
    assert world.states()[narrow] is State.RUNNING


# -- sent ahead -------------------------------------------------------------------------------------------------------


def test_a_call_sent_ahead_of_its_predecessor_comes_back_if_that_fails() -> None:
    world = World(slots=1, held_back=2, options={"bundle_seconds": 0.0})
    first = world.call("a")
    second = world.call("b", first)
    world.run()
    assert world.submissions == [[first], [second]]
    assert world.bundle_of(second).calls[0].inputs[first].handle == f"promise {first}"
    world.end(first, kind="worker_lost")
    world.end(second, kind="not_started")
    assert world.submissions == [[first], [second], [first]]
    assert world.states()[second] is State.WAITING
    world.end(first)
    world.end(second)
    assert world.state.scheduler.idle


def test_a_failure_reaches_the_calls_sent_after_it() -> None:
    world = World(slots=1, held_back=2, options={"bundle_seconds": 0.0})
    first = world.call("a")
    second = world.call("b", first)
    world.run()
    world.end(first, kind="failed")
    assert world.states()[second] is State.SKIPPED
    world.end(second, kind="not_started")
    assert world.states()[second] is State.SKIPPED
    assert world.bundles == {}


# -- single flight ----------------------------------------------------------------------------------------------------


def two_of_one_key(world: World) -> tuple[int, int]:
    """Return two nodes that get the same key, because their inputs turn out equal."""
    inner, outer = made("inner", cached=True), made("t", cached=True)
    inputs = [world.call(inner, n=n) for n in range(2)]
    nodes = world.call(outer, inputs[0]), world.call(outer, inputs[1])
    for node in inputs:
        key = world.state.graph[node].cache_key or ""
        world.store[key] = record_of(key, digest("same"), attempt="e" * 17)
    world.run()
    return nodes


def test_one_of_two_nodes_with_the_same_key_runs_and_the_other_is_a_hit() -> None:
    world = World()
    first, second = two_of_one_key(world)
    assert world.states() == {first: State.RUNNING, second: State.PARKED}
    world.end(first)
    assert world.states() == {first: State.DONE, second: State.DONE}
    assert [event.how for event in world.told(log.NodeFinished)] == ["executed", "hit"]


def test_the_second_node_of_a_key_runs_if_the_first_fails() -> None:
    world = World()
    first, second = two_of_one_key(world)
    world.end(first, kind="failed")
    assert world.states() == {first: State.FAILED, second: State.RUNNING}


def test_a_key_that_another_run_computes_is_awaited_and_found() -> None:
    world = World(flights={"t": Flight(LOCKS)})
    node = world.call(made("t", cached=True))
    key = world.state.graph[node].cache_key
    assert key is not None
    world.locked_by_others.add(key)
    world.run()
    assert world.states() == {node: State.PARKED}
    assert world.state.counts["contended"] == 1
    world.wake(key)
    assert len(world.told(log.NodeParked)) == 1  # the same holder is reported once
    world.store[key] = record_of(key, "d")
    world.locked_by_others.clear()
    world.now = world.now._replace(monotonic=4.0)
    world.wake(key)
    assert world.states() == {node: State.DONE}
    assert [event.seconds for event in world.told(log.NodeUnparked)] == [4.0]


def test_a_node_that_waits_too_long_for_a_key_fails() -> None:
    world = World(flights={"t": Flight(LOCKS)}, options={"lock_wait_seconds": 10.0})
    node = world.call(made("t", cached=True))
    key = world.state.graph[node].cache_key or ""
    world.locked_by_others.add(key)
    world.run()
    world.pass_time(10)
    world.wake(key)
    assert "waited 10 s" in str(world.state.error(node))
    assert world.leases == {}


def test_a_node_is_parked_until_the_lock_manager_answers() -> None:
    world = World(flights={"t": Flight(LOCKS, required=True)})
    node = world.call(made("t", cached=True))
    key = world.state.graph[node].cache_key or ""
    world.silent_locks = True
    world.run()
    assert world.states() == {node: State.PARKED}
    assert world.told(log.NodeParked) == []
    world.silent_locks = False
    world.wake(key)
    assert world.states() == {node: State.RUNNING}


def test_an_expensive_lock_is_taken_only_for_calls_known_to_be_long() -> None:
    world = World(slots=9, flights={"t": Flight(LOCKS, after_seconds=5.0)})
    task = made("t", cached=True)
    quick = world.call(task)
    world.run()
    assert world.leases == {}
    world.end(quick, seconds=9.0)
    slow = world.call(task, n=1)
    world.run()
    assert set(world.leases) == {slow}


def test_calls_queued_behind_a_waiting_one_release_their_locks() -> None:
    world = World(slots=1, flights={"t": Flight(LOCKS)})
    task = made("t", cached=True)
    one = world.call(task, n=99)
    world.run()
    world.end(one)
    nodes = [world.call(task, n=n) for n in range(3)]
    world.run()
    bundle = world.bundle_of(nodes[0])
    assert [call.node for call in bundle.calls] == nodes
    world.tell(Waits(bundle.number, nodes[0], waits=False))
    assert len(world.leases) == 3
    world.tell(Waits(bundle.number, nodes[0], waits=True))
    assert set(world.leases) == {nodes[0]}
    world.finish(bundle, {nodes[1]: {"kind": "not_started"}, nodes[2]: {"kind": "not_started"}})
    assert set(world.leases) == {nodes[1], nodes[2]}


def test_a_key_found_by_its_worker_is_decided_again_by_the_driver() -> None:
    world = World(options={"bundle_seconds": 0.0})
    plain = world.call("plain")
    cached = world.call(made("t", cached=True), plain)
    world.run()
    world.end(plain)
    assert world.bundle_of(cached).calls[0].cache_key is None
    world.store["k"] = record_of("k", "d")
    world.end(cached, kind="unowned", cache_key="k")
    assert world.states()[cached] is State.DONE


# -- lost values ------------------------------------------------------------------------------------------------------


def test_a_value_that_a_worker_cannot_find_is_recomputed() -> None:
    world = World()
    first = world.call("a")
    world.held.add(first)
    world.run()
    world.end(first)
    second = world.call("b", first)
    world.run()
    world.end(second, kind="input_lost", lost={first: NO_GENERATION})
    assert world.states() == {first: State.RUNNING, second: State.WAITING}
    world.end(first)
    world.end(second)
    assert world.answered == ["run", "run"]
    assert len(world.told(log.NodeRevived)) == 1


def test_a_value_that_several_nodes_miss_is_recomputed_once() -> None:
    world = World(slots=9)
    first = world.call("a")
    world.held.add(first)
    world.run()
    world.end(first)
    nodes = [world.call(task, first) for task in "bcd"]
    world.run()
    world.end(nodes[0], kind="input_lost", lost={first: NO_GENERATION})
    world.end(first)
    world.end(nodes[1], kind="input_lost", lost={first: NO_GENERATION})
    assert world.state.ages.remade == {first: 1}
    assert world.states()[nodes[1]] is State.RUNNING


def test_a_value_that_is_lost_repeatedly_fails_its_consumer() -> None:
    world = World()
    first = world.call("a")
    world.held.add(first)
    world.run()
    world.end(first)
    second = world.call("b", first)
    world.run()
    for _ in range(MAX_REMAKES):
        world.end(second, kind="input_lost", lost={first: NO_GENERATION})
        world.end(first)
    world.end(second, kind="input_lost", lost={first: NO_GENERATION})
    assert isinstance(world.state.error(second), DamagedResult)


def test_a_damaged_stored_value_is_recomputed_as_a_new_generation() -> None:
    world = World()
    node = world.call(made("t", cached=True))
    key = world.state.graph[node].cache_key or ""
    world.store[key] = record_of(key, "d", generation=3)
    world.run()
    world.tell(Remake(node, "damaged", 2))
    assert world.states() == {}  # another generation than the present one
    world.tell(Remake(node, "damaged", 3))
    assert world.states() == {node: State.READY}
    world.tell(Remake(node, "damaged", 3))
    assert len(world.told(log.NodeRevived)) == 1
    world.run(node, waiter="again")
    call = world.bundle_of(node).calls[0]
    assert call.seen == 3  # the file that is still there must not be used
    world.end(node)
    assert world.answered == ["run", "again"]


def test_a_released_value_is_recomputed_for_a_new_consumer() -> None:
    world = World()
    first = world.call("a")
    world.run()
    world.end(first)
    assert world.forgotten == [f"value {first}"]
    world.run(first, waiter="late")
    assert world.states() == {first: State.RUNNING}
    world.end(first)
    assert world.answered == ["run", "late"]


def test_a_queued_node_waits_for_its_lost_input() -> None:
    world = World(slots=3)
    first = world.call("a")
    world.held.add(first)
    world.run()
    world.end(first)
    small = [world.call(task) for task in "bc"]
    wide = world.call(made("wide", resources={"slots": 2}), first)
    world.run()
    assert world.states()[wide] is State.QUEUED
    world.tell(Remake(first, "lost", None))
    world.go()
    for node in small:
        world.end(node)
    assert world.states()[first] is State.RUNNING
    assert world.states()[wide] is State.WAITING
    world.end(first)
    assert world.states()[wide] is State.RUNNING


def test_a_missing_input_is_made_before_its_ready_consumer() -> None:
    world = World(slots=9)
    first = world.call("a")
    world.held.add(first)
    world.run()
    world.end(first)
    second = world.call("b", first)
    world.extend()
    world.state.values.results[first].handle = None
    world.go()
    assert world.states() == {first: State.RUNNING, second: State.WAITING}


# -- values that change -----------------------------------------------------------------------------------------------


def remade(world: World) -> tuple[int, int]:
    """Return a stored value that is being recomputed, and a value made of it."""
    first = world.call(made("a", cached=True))
    second = world.call(made("b", cached=True), first)
    key = world.state.graph[first].cache_key or ""
    world.store[key] = record_of(key, D1, attempt="e" * 17)
    world.run()
    world.end(second)
    world.tell(Remake(first, "damaged", 0))
    world.go()
    return first, second


def test_what_was_made_from_a_changed_value_is_decided_again() -> None:
    world = World(slots=9)
    first, second = remade(world)
    below = world.call(made("c", cached=True), second)
    world.run()
    world.end(first, digest=D2, record=record_of("k", D2))
    assert world.states()[second] is State.RUNNING
    # A call that is already running used the old value, and does not count.
    assert world.states()[below] is State.RUNNING
    world.end(below)
    assert world.states()[below] is State.WAITING
    world.end(second)
    world.end(below)
    assert world.state.scheduler.idle


def test_recomputing_an_equal_value_changes_nothing() -> None:
    world = World(slots=9)
    first, second = remade(world)
    world.end(first, digest=D1)
    assert world.states()[second] is State.DONE
    assert world.state.ages.changes == {}


def test_a_value_that_the_flow_has_seen_cannot_change() -> None:
    world = World(slots=9)
    first, _ = remade(world)
    world.state.handed_out.add(first)
    world.end(first, digest=D2, record=record_of("k", D2))
    assert "changed while the run was using it" in str(world.crash)


def about_to_take_a_hit_back(world: World) -> tuple[int, int, int]:
    """Return a pruned node, a hit that was computed from it, and a node that runs and needs both."""
    a, b, c = (made(name, cached=True) for name in "abc")
    above = world.call(a)
    hit = world.call(b, above)
    both = world.call(c, above, hit)
    stored = {hit: [D1], both: [D1, D1]}  # the second one was computed from an older value of the first
    for node, inputs in stored.items():
        world.answers[world.state.graph[node].recipe_key] = Hit("k", D2, record_of("k", D2), inputs=inputs)
    return above, hit, both


def test_a_ready_node_waits_for_an_input_whose_hit_is_taken_back_in_the_same_turn() -> None:
    world = World(slots=9)
    above, hit, both = about_to_take_a_hit_back(world)
    below = world.call(made("d", cached=True), hit)
    world.run()
    assert world.crash is None
    assert world.states() == {above: State.RUNNING, hit: State.WAITING, both: State.WAITING, below: State.WAITING}
    for node in (above, hit, both, below):
        world.end(node)
    assert world.state.failed_nodes() == []


def test_a_queued_node_whose_input_changes_gets_another_key() -> None:
    world = World(options={"bundle_seconds": 0.0}, slots=1)
    above, hit, both = about_to_take_a_hit_back(world)
    blocking = world.call("other")
    below = world.call(made("d", cached=True), hit)
    world.run(blocking, below)
    assert world.states()[below] is State.QUEUED
    key = world.state.progress[below].key
    assert key is not None
    for node in (blocking, above, hit, both):
        world.end(node)
    assert world.bundle_of(below).calls[0].cache_key not in (None, key)


def test_a_result_that_is_computed_again_no_longer_belongs_to_the_cohort_of_the_earlier_one() -> None:
    world = World(slots=9)
    a, b, c = (made(name, cached=True) for name in "abc")
    first = world.call(a)
    key = world.state.graph[first].cache_key or ""
    world.answers[key] = Hit(key, D1, record_of(key, D1), cohort="one run")
    world.run()
    del world.answers[key]
    world.tell(Remake(first, "damaged", 0))
    world.go()
    world.end(first, digest=D2, record=record_of(key, D2))
    middle = world.call(b, first)
    last = world.call(c, middle)
    recipe = world.state.graph[last].recipe_key
    world.answers[recipe] = Hit("k", D2, record_of("k", D2), inputs=[D1], cohort="one run")
    world.run()
    # What is between them is looked up, and was not computed from the new value.
    assert world.states() == {first: State.DONE, middle: State.RUNNING, last: State.WAITING}


def lost_after_its_source_was_released(world: World, digest: str | None) -> tuple[int, int]:
    """Return a plain value with this digest that was released, and a stored value made of it that was lost."""
    first = world.call("a")
    second = world.call(made("b", cached=True), first)
    world.run()
    world.finish(world.bundle_of(first), {first: {"digest": digest}})
    world.end(second)
    assert world.state.values.absent(second) == [first]
    world.tell(Remake(second, "damaged", 0))
    world.go()
    return first, second


def test_a_seen_value_that_was_released_cannot_change() -> None:
    world = World(options={"bundle_seconds": 0.0}, slots=9)
    first, _ = lost_after_its_source_was_released(world, D1)
    world.state.handed_out.add(first)
    assert world.bundle_of(first).calls[0].digest  # without it, nobody could tell
    world.end(first, digest=D2)
    assert "it is not cached, and was computed a second time" in str(world.crash)


def test_a_seen_value_that_was_released_may_be_computed_again_if_it_is_equal() -> None:
    world = World(options={"bundle_seconds": 0.0}, slots=9)
    first, second = lost_after_its_source_was_released(world, D1)
    world.state.handed_out.add(first)
    world.end(first, digest=D1)
    world.end(second)
    assert world.crash is None
    assert world.states()[second] is State.DONE


def test_a_plain_value_without_digest_that_is_computed_again_counts_as_changed() -> None:
    world = World(options={"bundle_seconds": 0.0}, slots=9)
    first = world.call("a")
    other, second = world.call("b", first), world.call("c", first)
    world.held.add(other)
    world.run()
    world.end(first)
    world.end(other)
    world.end(second, kind="input_lost", lost={first: NO_GENERATION})
    world.end(first)
    # Its value was made of the first one, and nobody knows whether that was the same.
    assert world.states()[other] is State.RUNNING
    world.end(other)
    world.end(second)
    assert world.state.scheduler.idle


def test_a_plain_value_that_nobody_wants_any_more_is_not_computed_again() -> None:
    world = World(options={"bundle_seconds": 0.0}, slots=9)
    first = world.call("a")
    unwanted, second = world.call("effect", first), world.call("c", first)
    world.run()
    world.end(first)
    world.end(unwanted)
    world.end(second, kind="input_lost", lost={first: NO_GENERATION})
    world.end(first)
    assert world.states()[unwanted] is State.DONE
    world.end(second)
    assert world.state.scheduler.idle


def test_a_stored_result_is_not_decided_by_a_plain_value_that_is_outdated() -> None:
    world = World(options={"bundle_seconds": 0.0}, slots=9)
    first = world.call(made("a", cached=True))
    plain = world.call("b", first)
    stored = world.call(made("c", cached=True), plain)
    world.run()
    world.end(first, digest=D1)
    world.finish(world.bundle_of(plain), {plain: {"digest": D1}})
    world.end(stored)
    world.tell(Remake(first, "damaged", 0))
    world.go()
    world.end(first, digest=D2, record=record_of("k", D2))
    assert world.states() == {first: State.DONE, plain: State.RUNNING, stored: State.WAITING}


def test_a_seen_plain_value_without_digest_cannot_be_computed_again() -> None:
    world = World(slots=9)
    first = world.call("a")
    world.held.add(first)
    world.run()
    world.end(first)
    world.state.handed_out.add(first)
    second = world.call("b", first)
    world.run()
    world.end(second, kind="input_lost", lost={first: NO_GENERATION})
    world.end(first)
    assert isinstance(world.crash, ValuesChanged)
    assert "give the task a cache policy" in str(world.crash)


def test_a_part_that_is_taken_again_of_the_same_result_has_not_changed() -> None:
    world = World(options={"bundle_seconds": 0.0}, slots=9)
    whole = world.call("a")
    world.held.add(whole)
    part = Future(whole, world.trace)["n"]._node
    world.held.add(part)
    world.run(part)
    world.end(whole)
    world.end(part)
    world.state.handed_out.add(part)
    second = world.call("b", part)
    world.run()
    world.end(second, kind="input_lost", lost={part: NO_GENERATION})
    world.end(part)
    world.end(second)
    assert world.crash is None
    assert world.states()[second] is State.DONE


# -- the store --------------------------------------------------------------------------------------------------------


def test_a_store_without_an_answer_is_not_a_miss() -> None:
    world = World()
    world.call(made("t", cached=True))
    world.unknown = NoAnswer(StoreUnreachable("down"))
    world.run()
    assert isinstance(world.crash, StoreUnreachable)
    assert world.answered == ["run"]


def test_an_unreachable_store_can_be_ignored_but_a_refusal_cannot() -> None:
    world = World(options={"on_unknown": "recompute"})
    node = world.call(made("t", cached=True))
    world.unknown = NoAnswer(StoreUnreachable("down"))
    world.run()
    assert world.states() == {node: State.RUNNING}
    world.call(made("t", cached=True), n=1)
    world.unknown = NoAnswer(StoreRefused("not signed"), generation=1)
    world.run()
    assert isinstance(world.crash, StoreRefused)


def test_a_refresh_reuses_only_results_that_this_run_has_made() -> None:
    world = World(slots=9)
    task = made("t", cached=True, refresh_cache=True)
    old, earlier, refused = (world.call(task, n=n) for n in range(3))
    keys = [world.state.graph[node].cache_key or "" for node in (old, earlier, refused)]
    world.store[keys[0]] = record_of(keys[0], "d", generation=4)
    world.store[keys[1]] = record_of(keys[1], "d", run="run")
    world.answers[keys[2]] = NoAnswer(StoreRefused("not signed"), generation=7)
    world.run()
    assert world.states() == {old: State.RUNNING, earlier: State.DONE, refused: State.RUNNING}
    assert world.bundle_of(old).calls[0].seen == 4
    assert world.bundle_of(refused).calls[0].seen == 7


def test_a_result_found_by_its_inputs_is_linked_to_its_recipe() -> None:
    world = World(options={"bundle_seconds": 0.0})
    plain = made("plain", cached=True)
    first = world.call(plain)
    second = world.call(made("t", cached=True), first)
    world.run()
    world.end(first)
    key = world.state.planner.content_key(world.state.graph[second])
    assert world.states()[second] is State.RUNNING
    world.store[key or ""] = record_of(key or "", "d")
    world.end(second, kind="closed")
    assert world.states()[second] is State.DONE
    assert [entry.key for entry in world.recipes] == [key]


# -- the end ----------------------------------------------------------------------------------------------------------


def test_a_cancelled_run_stops_everything_and_keeps_nothing() -> None:
    world = World(slots=1, flights={"t": Flight(LOCKS)}, options={"bundle_seconds": 0.0})
    task = made("t", cached=True, retries=1, retry_delay_seconds=9)
    nodes = [world.call(task, n=n) for n in range(3)]
    below = world.call("below", nodes[0])
    world.run()
    world.end(nodes[0], kind="failed")
    world.tell(Cancel())
    world.tell(Cancel())
    world.go()
    assert list(world.states().values()) == [State.FAILED] * 3 + [State.SKIPPED]
    assert all(isinstance(world.state.error(n), Cancelled) for n in (*nodes, below))
    assert world.leases == {}
    assert world.bundles == {}
    assert world.answered == ["run"]
    # Timers and new nodes have no effect.
    world.pass_time(9)
    world.call("late")
    world.run(waiter="late")
    assert len(world.submissions) == 2


def test_a_finished_run_starts_nothing_more() -> None:
    world = World(slots=1)
    first, second = world.call("a"), world.call("b")
    world.run()
    world.tell(FinishRunning("last"))
    world.go()
    assert world.answered == []
    world.end(first)
    assert world.answered == ["last"]
    assert world.states()[second] is State.QUEUED
    world.tell(Stop())
    assert world.answered == ["last", "run"]


def test_after_a_crash_current_and_later_waiters_get_the_error() -> None:
    world = World(flights={"t": Flight(LOCKS)})
    world.at_once = {"few": 1}
    node = world.call(made("t", cached=True, tags=frozenset({"few"})))
    world.run()
    assert len(world.leases) == 2
    world.tell(Broken(OSError("the log is full")))
    assert isinstance(world.crash, OSError)
    assert world.leases == {}
    assert world.answered == ["run"]
    world.run(waiter="late")
    world.tell(FinishRunning("last"))
    assert world.answered == ["run", "late", "last"]
    world.tell(Stop())
    assert world.bundles == {}
    assert isinstance(world.state.error(node), Cancelled)


@pytest.mark.parametrize("question", [do.LookUp, do.Acquire, do.OpenEngine, do.ReadLimits])
def test_a_refused_question_ends_the_run(question: type) -> None:
    world = World(flights={"t": Flight(LOCKS, required=True)})
    world.at_once = {"few": 1}
    world.call(made("t", cached=True, tags=frozenset({"few"})))
    world.refuse[question] = lambda asked: LocksUnreachable("down")
    world.run()
    assert isinstance(world.crash, LocksUnreachable)
    assert world.answered == ["run"]
    assert world.leases == {}


def test_an_error_within_a_question_ends_the_run() -> None:
    world = World()
    world.call("t")
    world.extend()
    (question,) = world.core.handle(GoOn(None), world.now)
    assert isinstance(question, do.OpenEngine)
    assert world.core.asking
    world.tell(Broken(OSError("gone")))
    assert not world.core.asking
    assert isinstance(world.crash, OSError)


def test_an_answer_without_a_question_is_an_error() -> None:
    world = World()
    for event in (Answered(1), Refused(OSError())):
        found = World().core.handle(event, world.now)
        assert isinstance(found[0], do.Crash)
    world.call("t")
    world.extend()
    world.core.handle(GoOn(None), world.now)
    found = world.core.handle(Extend(1, (), "x"), world.now)
    assert isinstance(found[0], do.Crash)


def test_trouble_with_locks_is_reported() -> None:
    world = World()
    world.tell(LocksLost(3))
    world.tell(LocksDown("lock", "away", True))
    assert [type(event) for event in world.log] == [log.LocksLost, log.LocksDown]
