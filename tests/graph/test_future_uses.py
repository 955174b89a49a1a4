"""Futures in whole flows: what libraries do with them, and the error where they cannot."""

from __future__ import annotations

import datetime
import statistics
from typing import Any

import pytest

from penstock import flow, task, wait
from penstock.errors import TracingError


@task
def given(value: Any) -> Any:
    return value


@task
def fails() -> Any:
    raise ValueError("broken")


def test_a_result_that_was_modified_cannot_be_passed_on() -> None:
    @flow
    def appends() -> Any:
        rows = given([1, 2])
        rows.append(3)
        return given(rows)

    with pytest.raises(TracingError, match=r"given\.append"):
        appends()


def test_wait_returns_sets_without_requesting_values() -> None:
    @flow
    def waits() -> Any:
        unhashable, failed = given.submit([1]), fails.submit()
        done, not_done = wait([unhashable, failed])
        assert isinstance(failed.result(raise_on_failure=False), ValueError)
        return len(done), failed in done, failed in not_done

    assert waits() == (2, True, False)


def test_the_error_of_a_library_names_the_future_it_was_given() -> None:
    @flow
    def averages() -> Any:
        sizes = [given(2), 4]
        return statistics.mean(sizes)

    with pytest.raises(TypeError) as caught:
        averages()
    assert "an item of sizes is a Future of given" in caught.value.__notes__[0]


def test_the_failure_of_a_task_is_not_blamed_on_futures() -> None:
    @flow
    def adds() -> Any:
        day = fails()
        return datetime.timedelta(days=1) + day

    with pytest.raises(ValueError, match="broken") as caught:
        adds()
    assert "Future" not in "".join(getattr(caught.value, "__notes__", ()))


@pytest.mark.needs("pandas")
def test_a_method_of_a_table_accepts_futures_as_values() -> None:
    import pandas

    @flow
    def compares() -> Any:
        return given(pandas.DataFrame({"a": [1]})).equals(given(pandas.DataFrame({"a": [1]})))

    assert compares()


@pytest.mark.needs("pandas")
def test_pandas_does_not_make_a_table_without_names_from_a_future() -> None:
    import pandas

    @flow
    def builds() -> Any:
        return pandas.DataFrame(given(pandas.DataFrame({"a": [1]})))

    with pytest.raises(TracingError, match="to pandas"):
        builds()
