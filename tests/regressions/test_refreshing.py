"""What a refresh means for the other calls of its run, and for later attempts of the run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from penstock import INPUTS, flow, task


@pytest.fixture
def counter() -> Any:
    numbers: Iterator[int] = itertools.count(1)

    @task(cache_policy=INPUTS, key_name="counter")
    def count(x: int) -> int:
        return next(numbers)

    return count


def test_calls_before_a_refresh_see_the_old_result_and_calls_after_it_the_new_one(counter: Any, runner: str) -> None:
    if runner == "processes":
        pytest.skip("its workers count for themselves")

    @flow
    def pipeline() -> list[int]:
        return [counter(0), counter.with_options(refresh_cache=True)(0), counter(0)]

    assert pipeline() == [1, 2, 2]
    assert pipeline() == [2, 3, 3]


def test_a_value_made_from_a_call_follows_that_call(counter: Any) -> None:
    @task(cache_policy=INPUTS, key_name="negative")
    def negative(x: int) -> int:
        return -x

    @flow
    def pipeline() -> list[int]:
        before = counter(0)
        after = counter.with_options(refresh_cache=True)(0)
        return [negative(before), negative(after), negative(counter(0))]

    assert pipeline() == [-1, -2, -2]
    assert pipeline() == [-2, -3, -3]


def test_two_refreshing_calls_run_twice(counter: Any) -> None:
    @flow
    def pipeline() -> list[int]:
        again = counter.with_options(refresh_cache=True)
        return [again(0), again(0)]

    assert pipeline() == [1, 2]
    assert pipeline() == [3, 4]


def test_a_refreshing_flow_computes_each_result_once(counter: Any) -> None:
    @flow
    def pipeline() -> list[int]:
        return [counter(0), counter(0), counter(1)]

    first, same, other = pipeline()
    assert (first, {first, other}) == (same, {1, 2})
    first, same, other = pipeline.with_options(refresh_cache=True)()
    assert (first, {first, other}) == (same, {3, 4})


def test_a_call_with_wait_for_sees_what_was_refreshed_before_it(counter: Any) -> None:
    @task
    def other() -> None:
        return None

    @flow
    def pipeline() -> list[int]:
        counter.with_options(refresh_cache=True)(0)
        return [counter.submit(0, wait_for=[other()])]

    assert [pipeline(), pipeline()] == [[1], [2]]


def test_after_a_failed_refresh_the_stored_result_is_still_there() -> None:
    numbers = itertools.count(1)

    @task(cache_policy=INPUTS, key_name="shaky")
    def shaky(x: int) -> int:
        number = next(numbers)
        if number > 1:
            raise OSError("no connection")
        return number

    @flow
    def pipeline(refresh: bool) -> int:
        if refresh:
            try:
                return shaky.with_options(refresh_cache=True)(0).result()
            except OSError:
                pass
        return shaky(0)

    assert [pipeline(False), pipeline(True)] == [1, 1]


def test_a_later_attempt_of_a_run_does_not_refresh_again(counter: Any) -> None:
    tried: list[int] = []

    @flow(retries=2)
    def pipeline() -> int:
        value = counter.with_options(refresh_cache=True)(0).result()
        tried.append(value)
        if len(tried) < 3:
            raise OSError("not yet")
        return value

    assert pipeline() == 1
    assert tried == [1, 1, 1]
    tried.clear()
    assert pipeline() == 2
    assert tried == [2, 2, 2]
