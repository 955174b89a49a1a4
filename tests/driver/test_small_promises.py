"""Small promises of the core that larger tests miss."""

from __future__ import annotations

import contextvars
from typing import Any

import msgspec
import pytest

from penstock import events as log
from penstock import flow, task
from penstock.digests.python import digest
from penstock.driver import instructions as do
from penstock.driver.effects.lookups import NEVER_COMPUTED, _as_answer
from penstock.driver.events import Remake
from penstock.driver.rates import _JITTER
from penstock.driver.revising import _same_bytes
from penstock.driver.state.transitions import State
from penstock.errors import DigestError
from penstock.graph.policies import INPUTS, Files
from penstock.graph.steps import Hit, NoHit
from penstock.graph.tasks import TaskDefinition, TaskOptions
from penstock.limits.rates import Rate
from penstock.runners import ThreadRunner
from penstock.storage.records.records import RecipeEntry
from penstock.storage.results.generations import NEVER, Absent, Found
from penstock.worker.failures import describe
from penstock.worker.messages import NO_GENERATION, cohort_of
from tests.driver.world import World, made, record_of

D1, D2 = digest(1), digest(2)


def reading(name: str) -> TaskDefinition:
    """Return a task whose keys contain a file."""
    return TaskDefinition(made(name).fn, TaskOptions(name=name, key_name=name, cache_policy=INPUTS + Files("data.csv")))


@pytest.mark.parametrize(("seconds", "together"), [(0.05, True), (0.0501, False)])
def test_only_a_call_that_fills_half_a_bundle_is_sent_alone(seconds: float, together: bool) -> None:
    world = World(slots=1, options={"bundle_seconds": 0.1})
    timed = world.call("t", n=99)
    world.run()
    world.end(timed, busy=seconds)
    nodes = [world.call("t", n=n) for n in range(6)]
    world.run()
    assert (world.submissions[1] == nodes[:2]) is together


def test_calls_of_very_different_durations_are_not_bundled() -> None:
    world = World(slots=1, options={"bundle_seconds": 0.1})
    for number, busy in enumerate([0.001, 0.08] * 5):
        node = world.call("t", n=number + 100)
        world.run()
        world.end(node, busy=busy)
    nodes = [world.call("t", n=n) for n in range(6)]
    world.run()
    assert world.submissions[-1] == nodes[:1]


def test_a_call_carries_its_recipe_only_if_its_inputs_need_it() -> None:
    world = World(slots=1)
    source = world.call(made("source", cached=True))
    node = world.call(made("t", cached=True), source)
    world.run()
    recipe = world.state.graph[node].recipe_key
    assert recipe is not None
    assert [call.recipe_key for call in world.bundle_of(source).calls] == [None, recipe]


def test_a_plan_counts_the_calls_of_each_task_that_will_run() -> None:
    world = World()
    key = world.state.graph[world.call(made("hit", cached=True))].cache_key or ""
    world.store[key] = record_of(key, D1)
    for number in range(3):
        world.call("many", n=number)
    world.call("one")
    world.run()
    (told,) = world.told(log.NodesPlanned)
    assert told.tasks == {"many": 3, "one": 1}


def test_the_reason_for_recomputing_a_value_is_reported() -> None:
    world = World(slots=9)
    stored, plain = world.call(made("stored", cached=True)), world.call("plain")
    world.held.add(plain)
    key = world.state.graph[stored].cache_key or ""
    world.store[key] = record_of(key, D1)
    world.run()
    world.end(plain)
    of_stored, of_plain = world.call("a", stored), world.call("b", plain)
    world.run()
    world.end(of_stored, kind="input_lost", lost={stored: 0})
    world.end(of_plain, kind="input_lost", lost={plain: NO_GENERATION})
    reasons = {event.node: event.reason for event in world.told(log.NodeRevived)}
    assert reasons == {stored: "its stored bytes are missing or damaged", plain: "its value is lost"}


def test_drivers_do_not_all_start_at_the_beginning_of_a_period() -> None:
    def woken_after(seed: int) -> float:
        world = World(seed=seed)
        world.rates = {"api": Rate(1, 60.0)}
        world.call(made("t", tags=frozenset({"api"})))
        world.run()
        ((due, _, _),) = world.timers
        return due - Rate(1, 60.0).seconds_left(1_000.0)

    late = [woken_after(seed) for seed in range(20)]
    assert len(set(late)) == len(late)
    assert all(0.0 <= each <= _JITTER * 10.0 for each in late)


def test_results_in_records_are_the_same_if_their_bytes_and_format_are() -> None:
    record: Any = record_of("k", D1)
    assert _same_bytes(record, record_of("k", D1))
    assert not _same_bytes(record, record_of("k", D2))
    assert not _same_bytes(record, msgspec.structs.replace(record, codec="pickle"))


def test_calls_after_a_changed_value_get_a_new_origin() -> None:
    world = World(slots=9)
    first = world.call(made("a", cached=True))
    key = world.state.graph[first].cache_key or ""
    world.store[key] = record_of(key, D1, attempt="e" * 17)
    second = world.call(made("b", cached=True), first)
    world.run()
    before = world.bundle_of(second).calls[0].attempt_id
    world.end(second)
    world.tell(Remake(first, "damaged", 0))
    world.go()
    world.end(first, digest=D2, record=record_of("k", D2))
    assert world.states()[second] is State.RUNNING
    assert cohort_of(world.bundle_of(second).calls[0].attempt_id) != cohort_of(before)


class BrokenEngine:
    """An engine that reports its capacity that many times and then fails."""

    def __init__(self, engine: Any, times: int) -> None:
        self._engine = engine
        self._left = times

    @property
    def capacity(self) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ZeroDivisionError("broken")
        return self._engine.capacity

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


class DoesNotOpen(ThreadRunner):
    def open(self, *args: Any, **options: Any) -> Any:
        raise ZeroDivisionError("broken")


class OpensBroken(ThreadRunner):
    def open(self, *args: Any, **options: Any) -> Any:
        return BrokenEngine(super().open(*args, **options), 0)


class Breaks(ThreadRunner):
    def open(self, *args: Any, **options: Any) -> Any:
        return BrokenEngine(super().open(*args, **options), 1)


@pytest.mark.parametrize("runner", [DoesNotOpen, OpensBroken, Breaks])
def test_an_error_in_a_turn_ends_the_run_with_its_reason(
    runner: type[ThreadRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    @task
    def more(x: int) -> int:
        return x + 1

    monkeypatch.setenv("PENSTOCK_BUNDLE_SECONDS", "0")  # each call needs its own turn

    @flow(runner=runner(1))
    def chain() -> int:
        return more(more(0))

    with pytest.raises(ZeroDivisionError, match="broken"):
        chain()


def test_a_retry_condition_that_raises_the_tasks_error_adds_nothing_to_it() -> None:
    def raises(task: Any, run: Any, state: Any) -> bool:
        raise failed.error  # type: ignore[misc]

    world = World()
    node = world.call(made("t", retries=1, retry_condition_fn=raises))
    world.run()
    failed = describe(ValueError("mine"))
    world.end(node, kind="failed", failure=failed)
    error = world.state.error(node)
    assert error is failed.error
    assert not any("not tried again" in note for note in getattr(error, "__notes__", ()))


def found_by_content(world: World, node: int, *inputs: str, value: str) -> None:
    """Let the store find a result of the node by the values of its inputs."""
    graph_node = world.state.graph[node]
    assert graph_node.entry.template is not None
    by_node = dict(zip(graph_node.deps, inputs, strict=True))
    key = graph_node.entry.template.cache_key(graph_node.arguments, lambda ref: by_node[ref.node])
    world.store[key] = record_of(key, value)


def test_a_whole_chain_is_found_by_its_inputs_during_planning() -> None:
    world = World()
    source = world.call(made("source", cached=True))
    key = world.state.graph[source].cache_key or ""
    world.store[key] = record_of(key, D1)
    middle = world.call(made("middle", cached=True), source)
    last = world.call(made("last", cached=True), middle)
    found_by_content(world, middle, D1, value=D2)
    found_by_content(world, last, D2, value=D1)
    world.run()
    assert world.states() == {}
    assert [event.hit for event in world.told(log.NodesPlanned)] == [3]


def test_hits_that_were_not_compared_with_others_are_not_recorded_again() -> None:
    world = World()
    source = world.call(made("source", cached=True))
    node = world.call(made("t", cached=True), source)
    key, recipe = world.state.graph[source].cache_key or "", world.state.graph[node].recipe_key or ""
    world.answers[key] = Hit(key, D1, record_of(key, D1))
    record = record_of("k", D2)
    world.answers[recipe] = Hit(record.key, D2, record, [D1], cohort="another run")
    world.run()
    assert world.states() == {}
    assert world.recipes == []


# -- what is traced ---------------------------------------------------------------------------------------------------


def test_a_call_carries_only_the_context_variables_that_were_set() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
    world = World()

    def with_variable(value: int) -> int:
        variable.set(value)
        return world.call("t", n=value)

    nodes = [contextvars.Context().run(with_variable, n) for n in (1, 2, 2)]
    assert [world.state.graph[node].context for node in nodes] == [{variable: 1}, {variable: 2}, {variable: 2}]
    bare = contextvars.Context().run(world.call, "t", n=3)
    assert world.state.graph[bare].context is None


def test_results_of_one_recipe_are_distinguished_only_if_there_can_be_two() -> None:
    def ambiguous(*refreshing: bool) -> bool:
        world = World()
        task = made("t", cached=True)
        for refresh in refreshing:
            world.call(task.with_options(refresh_cache=True) if refresh else task)
        return world.state.graph.ambiguous

    assert [ambiguous(False), ambiguous(True), ambiguous(True, False)] == [False] * 3
    assert [ambiguous(True, True), ambiguous(False, True)] == [True] * 2


def test_a_call_that_waits_sees_the_result_of_an_earlier_refresh() -> None:
    world = World(slots=9)
    task = made("t", cached=True)
    first, other = (world.call(made(name, cached=True)) for name in ("first", "other"))
    refreshing = world.call(task.with_options(refresh_cache=True), first)
    later = world.call(task, first, after=(other,))
    elsewhere = world.call(task, other, after=(other,))
    assert refreshing in world.state.graph[later].order
    assert refreshing not in world.state.graph[elsewhere].order


# -- what becomes of the store's answers ------------------------------------------------------------------------------

ENTRY = RecipeEntry(recipe="1" * 40, key="k", task="t", digest=D1, inputs=["i"], origin="noted")


def test_a_result_names_the_run_that_made_it_or_linked_it_to_its_recipe() -> None:
    found = Found(record_of("k", D1, attempt="a" * 17), 0)
    by_key, by_recipe = _as_answer("k", found, None), _as_answer("k", found, ENTRY)
    assert isinstance(by_key, Hit)
    assert isinstance(by_recipe, Hit)
    assert (by_key.cohort, by_key.inputs) == (cohort_of("a" * 17), None)
    assert (by_recipe.cohort, by_recipe.inputs) == ("noted", ["i"])


def test_a_recipe_does_not_give_the_inputs_of_a_newer_result() -> None:
    answer = _as_answer("k", Found(record_of("k", D2), 1), ENTRY)
    assert isinstance(answer, Hit)
    assert (answer.cohort, answer.inputs) == (None, None)


def test_a_recipe_gives_the_inputs_of_a_deleted_result() -> None:
    answer = _as_answer("k", NEVER, ENTRY)
    assert isinstance(answer, NoHit)
    assert (answer.digest, answer.inputs, answer.cohort) == (D1, ["i"], "noted")
    plain = _as_answer("k", NEVER, None)
    assert isinstance(plain, NoHit)
    assert (plain.reason, plain.record) == (NEVER_COMPUTED, NEVER)
    assert _as_answer("another", NEVER, None) is plain  # one object for a whole new flow
    expired = _as_answer("k", Absent(0, "expired", record_of("k", D1)), None)
    assert isinstance(expired, NoHit)
    assert expired.reason == "expired"


def test_limits_are_read_only_if_a_task_has_tags() -> None:
    world = World()
    world.call("plain")
    world.run()
    assert not any(isinstance(question, do.ReadLimits) for question in world.asked)


def test_a_call_whose_code_the_flow_has_changed_is_not_sent() -> None:
    world, levels = World(), [0]

    def reads(xs: Any, n: int) -> Any:
        return levels[0]

    node = world.call(TaskDefinition(reads, TaskOptions(name="reads", cache_policy=INPUTS)))
    levels[0] = 1
    world.run()
    assert isinstance(world.state.error(node), DigestError)


@pytest.mark.parametrize("changed", [False, True])
def test_what_is_computed_from_other_files_than_at_its_call_has_no_recipe(changed: bool) -> None:
    world = World(options={"bundle_seconds": 0.0})
    source = world.call(made("source", cached=True))
    reader = world.call(reading("reader"), source)
    below = world.call(made("below", cached=True), reader)
    last = world.call(made("last", cached=True), below)
    nodes = world.state.graph.nodes
    sent = []
    for node in (source, reader, below, last):
        world.run()
        sent += [call.recipe_key for call in world.bundle_of(node).calls]
        world.end(node, off_recipe=changed and node == reader)
    expected = [nodes[reader].recipe_key, nodes[below].recipe_key, nodes[last].recipe_key]
    assert None not in expected
    assert sent == [None, expected[0], *([None, None] if changed else expected[1:])]
    again = world.call(reading("reader"), source)
    assert (again == reader) is not changed


def test_a_call_has_no_recipe_while_a_call_above_it_may_find_other_files() -> None:
    world = World(slots=1)
    source = world.call(made("source", cached=True))
    reader = world.call(reading("reader"), source)
    below = world.call(made("below", cached=True), reader)
    world.run()
    recipes = {call.node: call.recipe_key for call in world.bundle_of(source).calls}
    assert recipes == {source: None, reader: world.state.graph[reader].recipe_key, below: None}


def test_what_is_computed_from_a_value_that_the_run_refreshes_has_no_recipe() -> None:
    world = World(options={"bundle_seconds": 0.0})
    old = world.call(made("source", cached=True))
    below = world.call(made("below", cached=True), old)
    last = world.call(made("last", cached=True), below)
    new = world.call(made("source", cached=True, refresh_cache=True))
    other = world.call(made("below", cached=True), new)
    world.run()
    sent = {}
    while world.bundles:
        (call,) = next(iter(world.bundles.values())).calls
        sent[call.node] = call.recipe_key
        world.end(call.node)
    nodes = world.state.graph.nodes
    assert nodes[below].recipe_key == nodes[other].recipe_key is not None
    assert (sent[below], sent[last]) == (None, None)
    assert [entry.recipe for entry in world.recipes] == [nodes[other].recipe_key]


def test_a_part_that_is_taken_of_a_result_is_told_of_only_if_it_has_notes() -> None:
    def told(notes: list[str]) -> list[str]:
        world = World()
        part = world.trace.part(world.call("t"), "attribute", "x")._node
        world.run(part)
        while world.bundles:
            bundle = next(iter(world.bundles.values()))
            world.finish(bundle, {call.node: {"notes": notes if call.node == part else []} for call in bundle.calls})
        return [event.task for event in world.told(log.NodeFinished)]

    assert told([]) == ["t"]
    assert told(["look at this"]) == ["t", "attribute"]
