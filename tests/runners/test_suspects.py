"""Calls that were on a worker when it died run one at a time, until it is known which of them kills workers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from penstock.runners.remote.suspects import Suspects


def flight(number: int) -> Any:
    return SimpleNamespace(bundle=SimpleNamespace(number=number, calls=[SimpleNamespace(node=number)]))


def test_a_call_alone_on_its_dead_worker_is_to_blame() -> None:
    one = flight(1)
    assert Suspects().blamed([one]) is one


def test_several_calls_on_a_dead_worker_become_suspects_and_run_one_at_a_time() -> None:
    tried, one, two, three = Suspects(), flight(1), flight(2), flight(3)
    assert tried.blamed([one, two, three]) is None
    assert [tried.hold_back(each) for each in (one, two, three)] == [False, True, True]
    assert tried.waits(3)
    assert tried.ended(one, {2, 3}, well=True) is two
    assert not tried.hold_back(two)
    assert tried.ended(two, {3}, well=True) is three


def test_the_suspect_on_trial_is_to_blame_and_its_companion_becomes_a_suspect() -> None:
    tried, one, two, late = Suspects(), flight(1), flight(2), flight(3)
    tried.blamed([one, two])
    assert not tried.hold_back(one)
    assert not tried.hold_back(late)  # there is nothing against it yet
    assert tried.blamed([late, one]) is one
    tried.ended(one, set(), well=False)
    assert not tried.hold_back(two)
    assert tried.hold_back(late)


def test_a_suspect_that_ends_well_is_cleared() -> None:
    tried, one, two = Suspects(), flight(1), flight(2)
    tried.blamed([one, two])
    tried.hold_back(one)
    tried.ended(one, set(), well=True)
    assert not tried.hold_back(two)
    assert not tried.hold_back(one)


def test_a_suspect_cancelled_while_it_waits_blocks_nobody() -> None:
    tried, one, two, three = Suspects(), flight(1), flight(2), flight(3)
    tried.blamed([one, two, three])
    assert [tried.hold_back(each) for each in (one, two, three)] == [False, True, True]
    assert tried.ended(one, {3}, well=True) is three
