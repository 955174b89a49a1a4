"""Choices of the driver's core: which calls share a bundle, which go first, and which result counts."""

from __future__ import annotations

import random
from typing import Any

import pytest

from penstock import events as log
from penstock.digests.python import digest
from penstock.driver import instructions as do
from penstock.driver.dispatching.bundling import MOST_BYTES
from penstock.driver.events import Broken, Cancel, Remake
from penstock.driver.limits import PAUSE_SECONDS
from penstock.driver.locking import MAX_DEPTH
from penstock.driver.retries import delay_before, exponential_backoff
from penstock.driver.state import values
from penstock.driver.state.transitions import State
from penstock.errors import ConfigurationError, LockTimeout, PolicyError, TracingError
from penstock.graph.steps import Hit
from penstock.graph.tasks import TaskOptions
from penstock.limits.rates import Rate
from penstock.locks.single_flight import Flight
from penstock.worker.nesting import PATIENCE_SECONDS, Nesting
from tests.driver.world import LOCKS, World, made, record_of

D1, D2, D3 = digest(1), digest(2), digest(3)


# -- limits and rates -------------------------------------------------------------------------------------------------


def limited(world: World, count: int, **options: Any) -> list[int]:
    task = made("few", tags=frozenset({"few"}), **options)
    return [world.call(task, n=n) for n in range(count)]


def test_no_more_calls_run_than_there_are_permits() -> None:
    world = World(slots=9)
    world.at_once = {"few": 2}
    nodes = limited(world, 4)
    world.run()
    assert list(world.states().values()) == [State.RUNNING] * 2 + [State.PARKED] * 2
    assert world.watched == {"penstock limit few 0", "penstock limit few 1"}
    world.end(nodes[0])
    assert list(world.states().values()) == [State.DONE, State.RUNNING, State.RUNNING, State.PARKED]
    assert len(world.told(log.NodeParked)) == 2
    assert len(world.told(log.NodeUnparked)) == 1


def test_a_permit_held_by_others_is_awaited() -> None:
    world = World()
    world.at_once = {"few": 1}
    world.locked_by_others.add("penstock limit few 0")
    (node,) = limited(world, 1)
    world.run()
    assert world.states() == {node: State.PARKED}
    world.locked_by_others.clear()
    world.wake("penstock limit few 0")
    assert world.states() == {node: State.RUNNING}


def test_after_losing_a_race_for_a_permit_the_node_waits_and_keeps_no_other_permit() -> None:
    world = World()
    world.at_once = {"few": 1, "other": 1}
    node = world.call(made("both", tags=frozenset({"few", "other"})))
    world.taken_first.add("penstock limit other 0")
    world.run()
    assert world.states() == {node: State.PARKED}
    assert world.leases == {}


def test_a_paused_tag_is_checked_now_and_then() -> None:
    world = World(slots=9)
    world.at_once = {"few": 0}
    nodes = limited(world, 3)
    world.run()
    world.pass_time(PAUSE_SECONDS)
    assert set(world.states().values()) == {State.PARKED}
    world.at_once = {"few": 2}
    world.pass_time(PAUSE_SECONDS)
    assert [world.states()[node] for node in nodes] == [State.RUNNING, State.RUNNING, State.PARKED]


def test_removing_a_limit_releases_all_waiting_calls() -> None:
    world = World(slots=9)
    world.at_once = {"few": 0}
    nodes = limited(world, 3)
    world.run()
    world.at_once = {}
    world.pass_time(PAUSE_SECONDS)
    assert [world.states()[node] for node in nodes] == [State.RUNNING] * 3


def test_a_permit_is_returned_between_attempts() -> None:
    world = World()
    world.at_once = {"few": 1}
    first, second = limited(world, 2, retries=1, retry_delay_seconds=5)
    world.run()
    world.end(first, kind="failed")
    assert world.states() == {first: State.RESTING, second: State.RUNNING}
    world.pass_time(5)
    assert world.states() == {first: State.PARKED, second: State.RUNNING}
    world.end(second)
    assert world.states()[first] is State.RUNNING


def test_no_more_calls_start_in_a_period_than_its_rate_allows() -> None:
    world = World(slots=9)
    world.rates, world.starts = {"api": Rate(2, 60.0)}, {"api": 2}
    nodes = [world.call(made("t", tags=frozenset({"api"})), n=n) for n in range(5)]
    world.run()
    assert list(world.states().values()) == [State.RUNNING] * 2 + [State.PARKED] * 3
    world.starts["api"] = 2
    world.pass_time(63)
    assert list(world.states().values()) == [State.RUNNING] * 4 + [State.PARKED]
    world.rates = {}
    world.pass_time(63)
    assert world.states()[nodes[4]] is State.RUNNING


def test_a_call_that_waits_for_a_period_holds_no_permit() -> None:
    world = World()
    world.at_once, world.rates = {"few": 1}, {"few": Rate(1, 60.0)}
    (node,) = limited(world, 1)
    world.run()
    assert world.states() == {node: State.PARKED}
    assert world.leases == {}


def test_recomputing_a_value_of_a_limited_task_is_limited_too() -> None:
    world = World()
    node = world.call(made("few", cached=True, tags=frozenset({"few"})))
    key = world.state.graph[node].cache_key or ""
    world.store[key] = record_of(key, D1)
    world.run()
    world.at_once = {"few": 0}
    world.tell(Remake(node, "damaged", 0))
    world.go()
    assert world.states() == {node: State.PARKED}


# -- inside another call ----------------------------------------------------------------------------------------------


def test_a_call_for_the_key_that_its_caller_computes_is_an_error() -> None:
    task = made("t", cached=True)
    trial = World()
    key = trial.state.graph[trial.call(task)].cache_key or ""
    around = Nesting(runs=("outer",), keys=((task.identity, key),))
    world = World(flights={"t": Flight(LOCKS)}, around=around)
    node, other = world.call(task), world.call(task, n=1)
    world.run()
    assert isinstance(world.state.error(node), TracingError)
    assert world.states()[other] is State.RUNNING


def test_without_a_lock_a_call_can_request_its_own_key_but_not_forever() -> None:
    task = made("t", cached=True)
    trial = World()
    key = trial.state.graph[trial.call(task)].cache_key or ""
    for depth, expected in ((MAX_DEPTH - 1, State.RUNNING), (MAX_DEPTH, State.FAILED)):
        world = World(around=Nesting(keys=((task.identity, key),) * depth))
        node = world.call(task)
        world.run()
        assert world.states() == {node: expected}


def test_a_key_held_by_the_enclosing_run_is_computed_under_its_lock() -> None:
    world = World(flights={"t": Flight(LOCKS, required=True)}, around=Nesting(runs=("other",)))
    node, free = (world.call(made("t", cached=True), n=n) for n in range(2))
    key = world.state.graph[node].cache_key or ""
    world.locked_by_others.add(key)
    world.run()
    assert world.states() == {node: State.RUNNING, free: State.RUNNING}
    assert world.leases[node] == key


@pytest.mark.parametrize("lends", [True, False])
def test_a_nested_call_without_a_worker_to_lend_stops_waiting_for_a_lock(
    lends: bool, caplog: pytest.LogCaptureFixture
) -> None:
    lend = (lambda waits: None,) if lends else ()
    world = World(flights={"t": Flight(LOCKS)}, around=Nesting(runs=("outer",), lend=lend))
    node = world.call(made("t", cached=True))
    key = world.state.graph[node].cache_key or ""
    world.locked_by_others.add(key)
    world.run()
    world.pass_time(PATIENCE_SECONDS)
    for _ in range(2):
        world.wake(key)
    assert world.states() == {node: State.PARKED if lends else State.RUNNING}
    assert [record.levelname for record in caplog.records] == (["WARNING"] if lends else [])


def test_a_nested_call_without_a_worker_to_lend_stops_waiting_for_a_permit() -> None:
    world = World(slots=9, around=Nesting(runs=("outer",)))
    world.at_once = {"few": 1}
    world.locked_by_others.add("penstock limit few 0")
    (node,) = limited(world, 1)
    world.run()
    world.pass_time(PATIENCE_SECONDS)
    world.wake("penstock limit few 0")
    assert isinstance(world.state.error(node), LockTimeout)


def test_a_run_inside_a_call_shares_its_permits() -> None:
    world = World(around=Nesting(runs=("outer",), tags=frozenset({"few"})))
    world.at_once = {"few": 0}
    (node,) = limited(world, 1)
    world.run()
    assert world.states() == {node: State.RUNNING}


# -- what is bundled --------------------------------------------------------------------------------------------------


def test_a_chain_of_cached_calls_is_bundled_and_its_task_owned_meanwhile() -> None:
    world = World(slots=9)
    link = made("link", cached=True)
    first = world.call(link)
    second = world.call(link, first)
    world.run()
    assert world.submissions == [[first, second]]
    assert [call.owns_task for call in world.bundle_of(first).calls] == [False, True]
    late = world.call(link, n=7)
    world.run()
    assert world.states()[late] is State.PARKED
    world.end(first)
    assert world.states()[late] is State.RUNNING


def test_a_cached_call_with_consumers_outside_the_bundle_does_not_join() -> None:
    world = World(slots=1)
    link = made("link", cached=True)
    plain = world.call("plain")
    elsewhere = world.call(link, plain)
    first = world.call(link)
    second = world.call(link, first)
    world.run()
    world.end(plain)
    assert world.submissions == [[plain], [elsewhere]]
    world.end(elsewhere)
    assert world.submissions[2:] == [[first, second]]


def test_the_later_calls_of_a_diamond_of_cached_calls_are_found() -> None:
    world = World(slots=1)
    link, other = made("link", cached=True), made("other", cached=True)
    top = world.call(link)
    left, right = world.call(other, top), world.call(other, top, n=1)
    bottom = world.call(link, left, right)
    world.run()
    for node in (top, left, right, bottom):
        if world.states()[node] is State.RUNNING:
            world.end(node)
    assert world.state.scheduler.idle


def test_trouble_with_the_locks_of_a_task_is_reported_when_its_turn_comes() -> None:
    world = World(slots=1)
    first = world.call("a")
    second = world.call(made("t", cached=True), first)
    world.broken_flights["t"] = PolicyError("no lock reaches that far")
    world.run()
    assert world.submissions == [[first]]
    world.end(first)
    assert isinstance(world.state.error(second), PolicyError)


def test_calls_with_large_arguments_are_not_bundled() -> None:
    world = World(slots=1)
    world.sizes = {"heavy": MOST_BYTES}
    for task in ("light", "heavy"):
        node = world.call(task, n=99)
        world.run()
        world.end(node)
    light, *heavy = [world.call("light")] + [world.call("heavy", n=n) for n in range(2)]
    world.run()
    world.end(light)
    world.end(heavy[0])
    assert world.submissions[2:] == [[light], [heavy[0]], [heavy[1]]]


def test_a_call_can_follow_another_in_its_bundle_without_using_its_value() -> None:
    world = World(slots=1)
    first = world.call("a")
    second = world.call(made("b", retries=1), after=(first,))
    world.run()
    assert [call.after for call in world.bundle_of(first).calls] == [(), (first,)]
    # The first is decided again; the second is queued when the first fails for good.
    world.finish(world.bundle_of(first), {first: {"kind": "closed"}, second: {"kind": "failed"}})
    assert world.states() == {first: State.RUNNING, second: State.QUEUED}
    world.end(first, kind="failed")
    assert world.states() == {first: State.FAILED, second: State.SKIPPED}
    other = world.call("c")
    world.run()
    assert world.states()[other] is State.RUNNING


def test_a_parked_node_is_skipped_when_its_predecessor_fails() -> None:
    world = World(slots=1)
    quick, source = made("quick"), made("source", cached=True)
    for task in (quick, source):
        node = world.call(task, n=99)
        world.run()
        world.end(node)
    first, value = world.call(quick), world.call(source)
    last = world.call(made("last", cached=True, retries=1), value, after=(first,))
    world.run()
    assert world.submissions[2:] == [[first, value, last]]
    world.flights["last"] = Flight(LOCKS)
    world.others_have_all = True
    world.finish(world.bundle_of(first), {first: {"kind": "closed"}, last: {"kind": "failed"}})
    assert world.states()[last] is State.PARKED
    world.end(first, kind="failed")
    world.wake(world.state.progress[last].key or "")
    assert world.states()[last] is State.SKIPPED


def test_a_call_that_ran_before_its_predecessor_ended_counts() -> None:
    world = World(slots=9)
    first = world.call("a")
    second = world.call("b", after=(first,))
    world.run()
    world.finish(world.bundle_of(first), {first: {"kind": "closed"}})
    assert world.states() == {first: State.RUNNING, second: State.DONE}
    world.end(first)
    assert world.state.scheduler.idle


def test_an_engine_error_during_submission_is_not_a_failure_of_the_nodes() -> None:
    world = World()
    node = world.call("t")
    world.run()
    world.call("t", n=1)
    world.extend()
    from penstock.driver.events import GoOn

    (*_, question) = world.core.handle(GoOn({"slots": 2.0}), world.now)
    assert isinstance(question, do.Submit)
    world.tell(Broken(OSError("gone")))
    assert isinstance(world.crash, OSError)
    assert world.states()[node] is State.RUNNING


def test_a_call_carries_the_expiry_of_its_inputs() -> None:
    world = World(slots=1)
    source = world.call(made("source", cached=True))
    key = world.state.graph[source].cache_key or ""
    world.answers[key] = Hit(key, D1, record_of(key, D1), expires=2_000.0)
    node = world.call(made("t", cached=True), source)
    world.run()
    assert world.bundle_of(node).calls[0].upstream_expires == 2_000.0


def test_a_node_reached_on_several_paths_is_counted_once() -> None:
    world = World(slots=9)
    link = made("link", cached=True)
    plain = world.call("plain")
    first = world.call(link, plain)
    sides = [world.call(name, first) for name in ("left", "right")]
    world.call("joined", *sides)
    world.call(link, sides[0])
    world.run()
    assert world.submissions[0][:2] == [plain, first]


def test_a_permit_skips_a_node_that_no_longer_wants_it() -> None:
    world = World()
    world.at_once = {"few": 1}
    first, second, third = limited(world, 3)
    world.run()
    world.state.stop(second, ValueError("stopped"))
    world.end(first)
    assert world.states()[third] is State.RUNNING


# -- contradictory hits -----------------------------------------------------------------------------------------------


def by_recipe(world: World, node: int, made_of: str, value: str, cohort: str) -> None:
    """Let the store find a result of the node by its recipe, made from this input."""
    recipe = world.state.graph[node].recipe_key or ""
    record = record_of(f"key of {node}", value)
    world.answers[recipe] = Hit(record.key, value, record, [made_of], cohort=cohort)


def test_a_hit_that_contradicts_a_later_one_is_withdrawn() -> None:
    world = World(slots=9)
    source = world.call(made("source", cached=True))
    first = world.call(made("first", cached=True), source)
    by_recipe(world, first, D1, D3, "one run")
    world.run()
    assert world.states() == {}
    key = world.state.graph[source].cache_key or ""
    world.answers[key] = Hit(key, D2, record_of(key, D2))
    second = world.call("second", source)
    world.run()
    assert world.states() == {first: State.RUNNING, second: State.RUNNING}
    assert not world.state.values.there(first)
    assert world.state.ages.changes[first] == 1


def test_agreeing_hits_of_several_runs_are_recorded() -> None:
    world = World()
    source = world.call(made("source", cached=True))
    middle = world.call(made("middle", cached=True), source)
    left = world.call(made("left", cached=True), source)
    right = world.call(made("right", cached=True), middle)
    key = world.state.graph[source].cache_key or ""
    world.answers[key] = Hit(key, D1, record_of(key, D1))
    by_recipe(world, middle, D1, D2, "another")
    by_recipe(world, left, D1, D3, "one run")
    by_recipe(world, right, D2, D3, "another")
    world.run()
    assert world.states() == {}
    assert {entry.recipe for entry in world.recipes} == {world.state.graph[node].recipe_key for node in (left, right)}
    assert world.told(log.NodesPlanned)[0].hit == 2


def test_a_hit_found_by_its_inputs_during_planning_is_linked_to_its_recipe() -> None:
    world = World()
    source = world.call(made("source", cached=True))
    key = world.state.graph[source].cache_key or ""
    world.answers[key] = Hit(key, D1, record_of(key, D1))
    node = world.call(made("t", cached=True), source)
    trial = world.state.graph[node].entry.template
    assert trial is not None
    found = trial.cache_key(world.state.graph[node].arguments, lambda ref: D1)
    world.store[found] = record_of(found, D2)
    world.run()
    assert world.states() == {}
    assert [entry.key for entry in world.recipes] == [found]


def test_a_hit_below_a_value_that_always_differs_has_no_recipe() -> None:
    world = World()
    plain = world.call("plain")
    world.held.add(plain)
    world.run()
    world.end(plain, digest=D1)
    node = world.call(made("t", cached=True), plain)
    assert world.state.graph[node].recipe_key is None
    key = world.state.planner.content_key(world.state.graph[node]) or ""
    world.store[key] = record_of(key, D2)
    world.run()
    assert node not in world.states()
    assert world.recipes == []


def test_a_value_replaced_by_others_invalidates_what_was_made_of_it() -> None:
    world = World(slots=9)
    source = world.call(made("source", cached=True))
    key = world.state.graph[source].cache_key or ""
    world.store[key] = record_of(key, D1)
    node = world.call(made("t", cached=True), source)
    world.run()
    world.end(node)
    world.store[key] = record_of(key, D2, generation=1)
    world.tell(Remake(source, "damaged", 0))
    world.go()
    assert world.states() == {source: State.DONE, node: State.RUNNING}


def test_what_is_planned_after_a_cancellation_does_not_run() -> None:
    world = World()
    world.tell(Cancel())
    world.call("t")
    world.run(waiter="late")
    assert world.states() == {}
    assert world.answered == ["late"]


def test_values_in_files_are_compared_by_checksum() -> None:
    from penstock.driver.revising import _same_bytes
    from penstock.storage.records.records import PayloadFile

    def stored(checksum: str) -> Any:
        import msgspec

        file = PayloadFile("f", 1, checksum)
        return msgspec.structs.replace(record_of("k", D1), payload=file)

    assert _same_bytes(stored("a"), stored("a"))
    assert not _same_bytes(stored("a"), stored("b"))
    assert not _same_bytes(stored("a"), record_of("k", D1))


def test_what_was_compared_with_a_changed_value_is_looked_up_again() -> None:
    world = World(slots=9)
    source = world.call(made("source", cached=True))
    middle = world.call(made("middle", cached=True), source)
    nodes = [world.call(made(name, cached=True), middle) for name in ("left", "right")]
    key = world.state.graph[source].cache_key or ""
    world.answers[key] = Hit(key, D1, record_of(key, D1))
    by_recipe(world, middle, D1, D2, "one run")
    for node, cohort in zip(nodes, ("one run", "another"), strict=True):
        by_recipe(world, node, D2, D3, cohort)
    below = world.call("below", source)
    world.run()
    assert world.states() == {below: State.RUNNING}
    world.tell(Remake(source, "damaged", 0))
    world.go()
    world.answers.clear()
    world.end(source, digest=D3, record=record_of("k", D3))
    assert middle not in world.state.planner.steps or world.state.planner.steps[middle].runs
    assert all(world.states()[node] is not State.DONE for node in nodes)


# -- arguments that the flow can still change -------------------------------------------------------------------------


def test_a_call_with_a_function_carries_its_digest() -> None:
    world, task = World(slots=2), made("t", cached=True)
    node = world.big(task, [1])
    other = world.big(task, [test_a_call_with_a_function_carries_its_digest])
    world.run()
    (plain,), (carried,) = (world.bundle_of(each).calls for each in (node, other))
    assert plain.digested is None
    assert carried.digested is not None
    assert carried.key_arguments() == dict(carried.digested)
    template = world.state.graph[other].entry.template
    assert template is not None
    assert template.cache_key(carried.key_arguments()) == template.cache_key(carried.arguments)


def test_a_call_whose_argument_changed_since_is_not_submitted() -> None:
    world, task = World(slots=1), made("t", cached=True)
    level = 1

    def reads() -> int:
        return level

    node = world.big(task, reads)
    level = 2
    world.run()
    assert world.states() == {node: State.FAILED}
    assert world.submissions == []


# -- large arguments --------------------------------------------------------------------------------------------------


def test_large_arguments_stay_on_the_workers_while_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "IDLE_BYTES", 0)
    world = World(slots=9)
    big = bytes(2**20)
    task = made("t", cached=True)
    first = world.big(task, big)
    world.run()
    (large,) = world.state.graph.large[first]
    assert world.bundle_of(first).calls[0].large == (large,)
    large.handle = "on the workers"
    world.end(first)
    assert world.forgotten == ["on the workers"]
    assert large.handle is None


def test_a_large_argument_is_idle_after_its_last_call() -> None:
    world = World(slots=9)
    big = bytes(2**20)
    first, second = world.big(made("a"), big), world.big(made("b"), big)
    world.run()
    (large,) = world.state.graph.large[first]
    assert world.state.graph.large[second] == (large,)
    large.handle = "on the workers"
    world.end(first)
    assert not world.state.values._idle
    world.end(second)
    assert list(world.state.values._idle) == [large]


def test_large_arguments_that_are_needed_again_are_kept() -> None:
    world = World(slots=9)
    big = bytes(2**20)
    task = made("t")
    first = world.big(task, big)
    world.run()
    (large,) = world.state.graph.large[first]
    large.handle = "on the workers"
    world.end(first)
    assert world.state.values.let_all_go() == ["on the workers"]
    world.state.values._idle[large] = large.size
    second = world.big(task, big)
    world.run()
    assert world.state.graph.large[second] == (large,)
    assert large not in world.state.values._idle
    world.end(second)


# -- delays -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("delays", "expected"),
    [(3, [3, 3, 3]), ([1, 5], [1, 5, 5]), ([], [0, 0, 0]), (-1, [0, 0, 0]), (exponential_backoff(2), [2, 4, 8])],
)
def test_a_short_list_of_delays_repeats_its_last_one(delays: Any, expected: list[float]) -> None:
    options = TaskOptions(retries=3, retry_delay_seconds=delays)
    assert [delay_before(options, retry, random.Random(0)) for retry in (1, 2, 3)] == expected


def test_jitter_lengthens_a_delay_at_random() -> None:
    options = TaskOptions(retries=1, retry_delay_seconds=10, retry_jitter_factor=0.5)
    assert 10 <= delay_before(options, 1, random.Random(0)) <= 15


@pytest.mark.parametrize("delays", [["soon"], lambda retries: [float("inf")]])
def test_an_invalid_delay_is_an_error(delays: Any) -> None:
    with pytest.raises(ConfigurationError):
        delay_before(TaskOptions(retries=1, retry_delay_seconds=delays), 1, random.Random(0))
