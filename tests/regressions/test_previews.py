"""A plan predicts what a run does: random small flows, with results removed and refreshed in between."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import INPUTS, flow, task
from penstock.environments import Environment
from penstock.flows import Flow
from penstock.graph.graphs import Graph
from penstock.graph.planning import Planner
from penstock.settings import current_settings, in_force, load_settings
from penstock.storage import open_store
from penstock.storage.results.maintenance import current_records
from penstock.storage.results.store import ResultStore
from tests.amounts import amount

pytestmark = pytest.mark.untraced

RAN: list[int] = []
STATUSES = ("hit", "miss", "pruned", "bypass")


def body(n: int, inputs: list[Any]) -> dict[str, int]:
    RAN.append(n)
    return {"n": n + 100 * len(inputs)}


KINDS = {
    "cached": {"cache_policy": INPUTS},
    "plain": {},
    "short": {"cache_policy": INPUTS, "cache_expiration": timedelta(microseconds=1)},
    "refreshing": {"cache_policy": INPUTS, "refresh_cache": True},
}


@dataclass(frozen=True)
class Call:
    """One call of a flow, and what the flow does with its future."""

    kind: str
    whole: frozenset[int] = field(default_factory=frozenset)
    parts: frozenset[int] = field(default_factory=frozenset)
    then: str = ""
    """Whether the flow waits for this call's value or drops its future."""
    returned: str = ""


def pipeline(calls: list[Call]) -> Flow[[], Any]:
    """Return a flow that makes these calls."""

    def function() -> Any:
        futures: list[Any] = []
        back: list[Any] = []
        for n, call in enumerate(calls):
            inputs = [futures[i] for i in sorted(call.whole) if futures[i] is not None]
            inputs += [futures[i]["n"] for i in sorted(call.parts) if futures[i] is not None]
            options: Any = KINDS[call.kind]
            future: Any = task(name=f"t{n}", key_name=f"t{n}", **options)(body)(n, inputs)
            if call.then == "result":
                future.result()
            elif call.then == "wait":
                future.wait()
            if call.returned:
                back.append(future if call.returned == "whole" else {"part": future["n"]})
            futures.append(None if call.then == "dropped" else future)
            del future
        return back

    return flow(name="pipeline")(function)


@st.composite
def flows(draw: st.DrawFn) -> list[Call]:
    calls = []
    for n in range(draw(st.integers(1, 6))):
        earlier = st.frozensets(st.integers(0, n - 1), max_size=2) if n else st.just(frozenset())
        kind = draw(st.sampled_from(["cached"] * 6 + ["plain", "short", "refreshing"]))
        then = draw(st.sampled_from(["", "", "", "dropped", "result", "wait"]))
        calls.append(Call(kind, draw(earlier), draw(earlier), then, draw(st.sampled_from(["", "", "whole", "part"]))))
    return calls


def compare(work: Flow[[], Any]) -> None:
    """Plan, run, and check that the run did what the plan said."""
    plan = work.plan()
    RAN.clear()
    run = work.run()
    run.result()
    called = {node.id: node.arguments["n"] for node in plan.graph if not node.entry.task.derived}
    said = {called[node.id]: node for node in plan.nodes if node.id in called}
    runs = {n for n, node in said.items() if plan.steps.get(node.id) is not None and plan.steps[node.id].runs}
    found = {n for n, node in said.items() if node.status == "hit"}
    ran = set(RAN)
    assert not ran & found, (str(plan), ran)
    assert plan.work or not ran, (str(plan), ran)
    if plan.stopped_at is not None:
        return
    assert ran <= runs, (str(plan), ran)
    for n in runs - ran:  # only what depends on the value of an input can turn out to be a hit
        above = ancestors(plan.graph, said[n].id)
        assert any(plan.steps[id].runs for id in above if id in plan.steps), (str(plan), ran)
    for n, node in said.items():
        became = {status for status in STATUSES if run.tasks[node.task][status]}
        assert became == {node.status} if n not in runs - ran else became <= {"hit", "pruned"}, (str(plan), run.tasks)


def ancestors(graph: Graph, id: int) -> set[int]:
    found, stack = set(), [id]
    while stack:
        new = set(graph.nodes[stack.pop()].deps) - found
        found |= new
        stack += new
    return found


def remove(results: ResultStore, gone: set[int]) -> None:
    for record in list(current_records(results)):
        if record.task in {f"t{n}" for n in gone}:
            results.invalidate(record.task, record.key)


@pytest.mark.slow
@hypothesis.settings(max_examples=amount(here=25, in_ci=60))
@given(flows(), st.sets(st.integers(0, 5)), st.sets(st.integers(0, 5)))
def test_a_run_does_what_its_plan_said(
    tmp_path_factory: pytest.TempPathFactory, calls: list[Call], removed: set[int], later: set[int]
) -> None:
    settings = load_settings(overrides={"store": str(tmp_path_factory.mktemp("store"))})
    work, results = pipeline(calls), ResultStore(open_store(settings.store))
    with in_force(settings):
        for gone in (set(), set(), removed, later):
            remove(results, gone)
            compare(work)


def test_what_a_flow_returns_is_a_target_of_its_plan() -> None:
    both = pipeline([Call("cached", returned="whole"), Call("cached", frozenset({0}), returned="whole")])
    first = pipeline([Call("cached", returned="whole"), Call("cached", frozenset({0}), then="dropped")])
    nested = pipeline([Call("cached", returned="part"), Call("cached", frozenset({0}), then="dropped")])
    results = Environment(current_settings()).results()
    for work in (both, first, nested):
        work()
        remove(results, {0})
        assert work.plan().work
        RAN.clear()
        work()
        assert RAN == [0]


def test_a_warm_plan_counts_the_hits_of_the_run() -> None:
    work = pipeline([Call("cached", returned="whole"), Call("cached", frozenset({0}), returned="part")])
    work()
    plan = work.plan()
    assert not plan.work
    assert plan.counts["hit"] == work.run().counts["hit"] == 2


def test_a_plan_does_not_keep_what_its_planner_needed() -> None:
    gc.collect()
    before = {id(each) for each in gc.get_objects() if isinstance(each, Planner)}
    plan = pipeline([Call("cached", returned="whole")]).plan()
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, Planner) and id(each) not in before]
    assert plan.work
