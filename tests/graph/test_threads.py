"""Nodes and futures when several threads, or an interrupt, come between two steps of a call."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest

from penstock.graph.futures import Future
from penstock.graph.graphs import Graph, Node
from penstock.graph.keys import KeyContext
from penstock.graph.policies import INPUTS
from penstock.graph.tasks import TaskDefinition, TaskOptions
from penstock.graph.tracing import FlowFrame, Trace

THREADS, TIMES = 4, 2_000
COLOUR: ContextVar[str] = ContextVar("colour")


class Values:
    """Values of nothing, with a record of the nodes whose last future was gone."""

    def __init__(self) -> None:
        self.let_go: list[int] = []

    def failed(self, node: int) -> bool:
        return False

    def released(self, node: int) -> None:
        self.let_go.append(node)


@pytest.fixture
def trace() -> Trace:
    values: Any = Values()
    return Trace(values, FlowFrame("flow", KeyContext("run", {}, "flow", lambda path: "", lambda pattern: [])))


@pytest.fixture
def _threads_take_turns_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def body(x: Any = None) -> Any:
    raise AssertionError("tracing runs nothing")


PLAIN = TaskDefinition(body, TaskOptions())
CACHED = TaskDefinition(body, TaskOptions(cache_policy=INPUTS))


class Watched(list[Node]):
    """Nodes, with a look at each when others can see it."""

    def __init__(self, look: Callable[[Node], object]) -> None:
        super().__init__()
        self.look = look

    def append(self, node: Node) -> None:
        super().append(node)
        self.look(node)


def in_threads(work: Callable[[], object]) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        for run in [pool.submit(work) for _ in range(THREADS)]:
            run.result()


def test_a_node_that_others_can_see_is_held(trace: Trace) -> None:
    held: list[bool] = []
    trace.graph.nodes = Watched(lambda node: held.append(trace.held(node.id)))
    trace.call(CACHED, (1,), {})
    assert held == [True]


def test_a_node_that_others_can_see_has_its_context_and_what_was_lent(trace: Trace) -> None:
    found: list[Any] = []
    trace.graph.nodes = Watched(
        lambda node: found.append(((node.context or {}).get(COLOUR), trace.graph.lent.get(node.id)))
    )
    token = COLOUR.set("red")
    try:
        trace.call(PLAIN, (threading.Lock(),), {})
    finally:
        COLOUR.reset(token)
    assert found == [("red", ("x",))]


def test_a_node_that_others_can_see_can_be_planned(trace: Trace) -> None:
    first, targets = trace.call(PLAIN, (1,), {}), list[list[int]]()
    trace.graph.nodes = nodes = Watched(lambda node: targets.append(trace.graph.targets()))
    list.extend(nodes, [Node(0, trace._entry(PLAIN), {"x": 1}, (), (), None, None)])
    trace.call(PLAIN, (first,), {})
    assert targets == [[1]]


def test_an_interrupt_during_a_call_leaves_the_numbers_of_nodes_right(trace: Trace) -> None:
    graph, entry = Graph(), trace._entry(CACHED)

    def interrupt(node: Node) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        graph.add(entry, {"x": 1}, complete=interrupt)
    other, again = graph.add(entry, {"x": 2}), graph.add(entry, {"x": 1})
    assert [node.id for node in graph] == [other.id, again.id] == graph.targets() == [0, 1]


@pytest.mark.usefixtures("_threads_take_turns_often")
def test_the_futures_that_threads_make_and_drop_are_all_counted(trace: Trace) -> None:
    futures = [trace.call(PLAIN, (), {})]

    def make_and_drop() -> None:
        for _ in range(10 * TIMES):
            Future(0, trace)

    in_threads(make_and_drop)
    assert trace.held(0)
    futures.clear()
    assert not trace.held(0)


@pytest.mark.usefixtures("_threads_take_turns_often")
def test_a_value_is_held_as_long_as_threads_have_its_parts_and_no_longer(trace: Trace) -> None:
    wholes = [trace.call(CACHED, (), {})]

    def take_parts() -> None:
        for _ in range(TIMES):
            assert wholes[0]["a"]._node == 1

    in_threads(take_parts)
    parts = [wholes[0]["a"]]
    wholes.clear()
    assert trace.held(0)
    parts.clear()
    assert not trace.held(0)


@pytest.mark.usefixtures("_threads_take_turns_often")
def test_the_numbers_of_nodes_that_threads_add_are_their_places(trace: Trace) -> None:
    def add() -> None:
        for i in range(TIMES):
            assert trace.graph[trace.call(PLAIN, (i,), {})._node].arguments == {"x": i}

    in_threads(add)
    assert [node.id for node in trace.graph] == list(range(THREADS * TIMES))


def test_every_entry_of_a_flow_is_known_if_two_threads_make_one_of_the_same_task(trace: Trace) -> None:
    entries = [trace._entry(PLAIN), trace._entry(PLAIN)]
    frame = trace.frame
    assert [*frame.earlier, *frame.entries.values()] == entries
