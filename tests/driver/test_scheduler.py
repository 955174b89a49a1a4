"""The scheduler: events in, ready nodes out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.driver.state.scheduler import Scheduler
from penstock.driver.state.transitions import Move, State


def test_a_node_is_ready_once_all_its_inputs_are_done() -> None:
    s = Scheduler()
    s.add(0, ())
    s.add(1, ())
    s.add(2, (0, 1))
    assert s.take_ready() == [0, 1]
    s.finished(0)
    assert s.take_ready() == []
    s.finished(1)
    assert s.take_ready() == [2]


def test_a_node_that_was_never_added_counts_as_done() -> None:
    s = Scheduler()
    s.add(5, (1, 2, 3))
    assert s.take_ready() == [5]


def test_a_failure_skips_only_its_dependents() -> None:
    s = Scheduler()
    for node, needs in ((0, ()), (1, (0,)), (2, (1,)), (3, ()), (4, (3,))):
        s.add(node, needs)
    s.take_ready()
    assert s.failed(0) == [1, 2]
    s.finished(3)
    assert s.take_ready() == [4]
    s.finished(4)
    assert s.idle


def test_a_node_added_below_a_failure_is_skipped_at_once() -> None:
    s = Scheduler()
    s.add(0, ())
    s.take_ready()
    s.failed(0)
    assert s.add(1, (0,)) == [1]
    assert s.state(1) is State.SKIPPED
    assert s.idle


def test_a_held_node_is_not_ready_until_it_is_resumed() -> None:
    s = Scheduler()
    s.add(0, ())
    assert s.take_ready() == [0]
    s.move(0, Move.PARKED)
    assert s.take_ready() == []
    assert not s.idle
    s.move(0, Move.WOKEN)
    assert s.take_ready() == [0]


def test_a_node_stopped_before_its_turn_never_becomes_ready() -> None:
    s = Scheduler()
    s.add(0, ())
    assert s.failed(0, Move.STOPPED) == []
    assert s.has_ready
    assert s.take_ready() == []


def test_a_lost_input_is_recomputed_before_its_consumer_runs_again() -> None:
    s = Scheduler()
    s.add(0, ())
    s.add(1, (0,))
    s.take_ready()
    s.finished(0)
    assert s.take_ready() == [1]
    assert s.reopen(0, ()) == []
    s.wait_again(1, (0,))
    assert s.take_ready() == [0]
    s.finished(0)
    assert s.take_ready() == [1]


def test_a_chain_of_100_000_nodes_fails_without_deep_recursion() -> None:
    s = Scheduler()
    s.add(0, ())
    for node in range(1, 100_000):
        s.add(node, (node - 1,))
    s.take_ready()
    assert len(s.failed(0)) == 99_999
    assert s.idle


@given(st.data())
def test_every_order_of_events_runs_each_node_once_and_after_its_inputs(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 12))
    needs = {n: tuple(data.draw(st.sets(st.integers(0, n - 1), max_size=3)) if n else ()) for n in range(size)}
    s = Scheduler()
    for node, wanted in needs.items():
        s.add(node, wanted)
    running: list[int] = []
    done: list[int] = []
    while not s.idle:
        running += s.take_ready()
        node = data.draw(st.sampled_from(running))
        running.remove(node)
        if data.draw(st.booleans()):
            s.move(node, Move.PARKED)
            s.move(node, Move.WOKEN)
            continue
        assert set(needs[node]) <= set(done)
        s.finished(node)
        done.append(node)
    assert sorted(done) == list(range(size))
