"""What stored results state about their inputs: when it is compared, and what has to be looked up for that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from penstock import INPUTS, flow, task
from penstock.graph.agreement import Agreement
from penstock.graph.between import Between
from penstock.graph.graphs import Graph


@task(cache_policy=INPUTS)
def step(x: int) -> int:
    return x


@flow
def chain() -> int:
    return step(step(step(1)))


FIRST, MIDDLE, LAST = range(3)
ONE, OTHER = "one run", "another run"


def chained() -> Graph:
    graph: Graph = chain.trace()
    assert [graph[node].deps for node in (FIRST, MIDDLE, LAST)] == [(), (FIRST,), (MIDDLE,)]
    return graph


@dataclass
class Decided:
    digest: str | None
    runs: bool = False


def hit_at_the_end(cohorts: dict[int, str | None]) -> Between:
    """Decide the last node first: the others are pruned."""
    decided = {LAST}
    between = Between(chained(), decided, cohorts)
    between.heard(LAST, silent=False)
    decided.add(FIRST)
    return between


def test_once_a_hit_prunes_nodes_every_decision_counts() -> None:
    assert hit_at_the_end({LAST: ONE}).active
    assert not Between(chained(), set(), {}).active


def test_a_pruned_node_is_looked_up_if_what_is_above_it_comes_from_another_run() -> None:
    between = hit_at_the_end({LAST: ONE, FIRST: OTHER})
    between.decided(FIRST)
    assert between.take_needed() == [MIDDLE]


def test_a_pruned_node_is_not_looked_up_if_what_is_above_it_comes_from_the_same_run() -> None:
    between = hit_at_the_end({LAST: ONE, FIRST: ONE})
    between.decided(FIRST)
    assert between.take_needed() == []


def test_a_hit_is_in_doubt_once_its_input_is_decided_again() -> None:
    steps: dict[int, Any] = {MIDDLE: Decided("a"), LAST: Decided("c")}
    agreement = Agreement(chained(), steps)
    agreement.decided(MIDDLE, None, ONE)
    agreement.decided(LAST, ["a"], ONE)
    agreement.to_look_at()
    assert list(agreement.broken()) == []
    steps[MIDDLE] = Decided("b")
    agreement.decided(MIDDLE, None, OTHER)
    agreement.to_look_at()
    assert [node for node, _ in agreement.broken()] == [LAST]
