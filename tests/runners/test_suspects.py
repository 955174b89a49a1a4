"""Calls that were at a worker when it died run one at a time until it is known which of them kills workers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from penstock.runners.remote.suspects import Suspects


def flight(number: int) -> Any:
    return SimpleNamespace(bundle=SimpleNamespace(number=number, calls=[SimpleNamespace(node=number)]))


def test_a_call_that_was_alone_at_its_worker_is_to_blame() -> None:
    one = flight(1)
    assert Suspects().blamed([one]) is one


def test_of_several_nobody_is_to_blame_and_they_run_one_at_a_time() -> None:
    tried, one, two, three = Suspects(), flight(1), flight(2), flight(3)
    assert tried.blamed([one, two, three]) is None
    assert [tried.hold_back(each) for each in (one, two, three)] == [False, True, True]
    assert tried.waits(3)
    assert tried.ended(one, {2, 3}, well=True) is two
    assert not tried.hold_back(two)
    assert tried.ended(two, {3}, well=True) is three


def test_the_one_that_is_tried_is_to_blame_and_who_came_with_it_is_a_suspect() -> None:
    tried, one, two, late = Suspects(), flight(1), flight(2), flight(3)
    tried.blamed([one, two])
    assert not tried.hold_back(one)
    assert not tried.hold_back(late)  # nothing is known against it yet
    assert tried.blamed([late, one]) is one
    tried.ended(one, set(), well=False)
    assert not tried.hold_back(two)
    assert tried.hold_back(late)


def test_one_that_ended_well_is_no_suspect_any_more() -> None:
    tried, one, two = Suspects(), flight(1), flight(2)
    tried.blamed([one, two])
    tried.hold_back(one)
    tried.ended(one, set(), well=True)
    assert not tried.hold_back(two)
    assert not tried.hold_back(one)


def test_one_that_was_cancelled_while_it_waited_keeps_nobody_waiting() -> None:
    tried, one, two, three = Suspects(), flight(1), flight(2), flight(3)
    tried.blamed([one, two, three])
    assert [tried.hold_back(each) for each in (one, two, three)] == [False, True, True]
    assert tried.ended(one, {3}, well=True) is three
