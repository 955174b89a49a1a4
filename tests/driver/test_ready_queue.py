"""Nodes that wait for resources: which comes next, and how often those that do not fit are looked at."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from penstock import flow, load_settings, task
from penstock.driver.dispatching.ready_queue import ReadyQueue
from penstock.runners import ThreadRunner

BIG, SMALL = {"gpu": 2.0}, {"gpu": 1.0}


def test_the_lowest_number_that_fits_comes_first() -> None:
    waiting = ReadyQueue()
    for id in (7, 3, 9):
        waiting.push(id)
    waiting.set_aside(1, BIG)
    waiting.set_aside(5, SMALL)
    assert waiting.pop(lambda needs: needs["gpu"] <= 1) == 3
    assert waiting.pop(lambda needs: needs["gpu"] <= 1) == 5
    assert waiting.pop(lambda needs: True) == 1
    assert [waiting.pop(lambda needs: True) for _ in range(3)] == [7, 9, None]


def test_a_node_that_does_not_fit_stays_queued() -> None:
    waiting = ReadyQueue()
    waiting.set_aside(1, BIG)
    assert waiting.pop(lambda needs: False) is None
    assert waiting.pop(lambda needs: True) == 1


@given(st.lists(st.tuples(st.integers(0, 99), st.sampled_from([None, 1.0, 2.0, 3.0])), unique_by=lambda each: each[0]))
def test_all_nodes_come_once_and_in_order_if_everything_fits(nodes: list[tuple[int, float | None]]) -> None:
    waiting = ReadyQueue()
    for id, amount in nodes:
        if amount is None:
            waiting.push(id)
        else:
            waiting.set_aside(id, {"gpu": amount})

    def fits(needs: Mapping[str, float]) -> bool:
        return True

    assert [waiting.pop(fits) for _ in nodes] == sorted(id for id, _ in nodes)
    assert waiting.pop(fits) is None


def test_nodes_that_compete_for_scarce_resources_are_looked_at_only_a_few_times() -> None:
    nodes, asked = 300, []

    def one(attempt: int) -> dict[str, float]:
        asked.append(attempt)
        return {"gpu": 1}

    @task(resources=one)
    def work(n: int) -> int:
        return n

    @flow(runner=ThreadRunner(4, resources={"gpu": 1}))
    def many() -> list[int]:
        return work.map(list(range(nodes)))

    settings = load_settings(overrides={"store": "memory://waiting"})
    assert many.run_with({}, settings=settings).result() == list(range(nodes))
    assert len(asked) <= 3 * nodes


def test_a_node_without_requirements_overtakes_those_that_wait_for_resources() -> None:
    overtook = threading.Event()

    @task(resources={"gpu": 1})
    def scarce(n: int) -> bool:
        return overtook.wait(100)

    @task
    def plain() -> None:
        overtook.set()

    @flow(runner=ThreadRunner(2, resources={"gpu": 1}))
    def both() -> list[bool]:
        waited = scarce.map([1, 2, 3])
        plain()
        return waited

    assert both.run_with({}, settings=load_settings(overrides={"store": "memory://waiting"})).result() == [True] * 3
