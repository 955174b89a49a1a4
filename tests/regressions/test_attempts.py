"""The attempts of a flow: of a run and of a subflow, sync and async, behave the same."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from penstock import flow, task
from penstock.flows import Flow
from penstock.runtime import flow_run


class Steps:
    """The number of each attempt, and the run it belongs to."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.runs: set[str] = set()

    def note(self) -> int:
        self.numbers.append(flow_run.run_count)
        self.runs.add(str(flow_run.id))
        return len(self.numbers)


def plain(body: Callable[[], Any], **options: Any) -> Callable[[], Any]:
    made: Flow[[], Any] = flow(name="tried", **options)(body)
    return made


def asynchronous(body: Callable[[], Any], **options: Any) -> Callable[[], Any]:
    async def function() -> Any:
        await asyncio.sleep(0)
        return body()

    made: Any = flow(name="tried", **options)(function)
    return lambda: asyncio.run(made())


def joined(body: Callable[[], Any], **options: Any) -> Callable[[], Any]:
    inner = flow(name="tried", **options)(body)

    @flow
    def outer() -> Any:
        return inner()

    return outer


def joined_asynchronous(body: Callable[[], Any], **options: Any) -> Callable[[], Any]:
    async def function() -> Any:
        await asyncio.sleep(0)
        return body()

    inner: Any = flow(name="tried", **options)(function)

    @flow
    async def outer() -> Any:
        return await inner()

    return lambda: asyncio.run(outer())


ways = pytest.mark.parametrize("made", [plain, asynchronous, joined, joined_asynchronous])


@task
def fails(n: int) -> int:
    if n < 3:
        raise LookupError(n)
    return n


@ways
def test_a_flow_is_called_until_it_returns(made: Any) -> None:
    steps = Steps()

    def body() -> str:
        if steps.note() < 3:
            raise LookupError
        return "done"

    assert made(body, retries=4)() == "done"
    assert steps.numbers == [1, 2, 3]
    assert len(steps.runs) == 1


@ways
def test_the_error_of_the_last_attempt_is_raised(made: Any) -> None:
    steps = Steps()

    def body() -> None:
        raise LookupError(steps.note())

    with pytest.raises(LookupError) as caught:
        made(body, retries=2)()
    assert caught.value.args == (3,)
    assert steps.numbers == [1, 2, 3]


@ways
def test_an_unobserved_task_failure_fails_the_attempt(made: Any) -> None:
    steps = Steps()

    def body() -> str:
        fails(steps.note())
        return "done"

    assert made(body, retries=2)() == "done"
    assert steps.numbers == [1, 2, 3]


@ways
def test_a_flow_that_returned_is_not_called_again(made: Any) -> None:
    steps = Steps()
    assert made(steps.note, retries=2)() == 1
    assert steps.numbers == [1]


@ways
def test_an_interrupt_ends_all_attempts(made: Any) -> None:
    steps = Steps()

    def body() -> None:
        steps.note()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(body, retries=2)()
    assert steps.numbers == [1]


@pytest.mark.parametrize("made", [plain, joined])
@pytest.mark.parametrize("retries", [0, 1])
def test_a_function_can_raise_stop_iteration(made: Any, retries: int) -> None:
    def body() -> None:
        raise StopIteration("of the user")

    with pytest.raises(StopIteration, match="of the user"):
        made(body, retries=retries)()


@ways
def test_a_traceback_goes_straight_from_the_call_to_the_users_code(made: Any) -> None:
    def body() -> int:
        future: Any = fails(1)
        return future

    with pytest.raises(LookupError) as caught:
        made(body)()
    files = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert not [file for file in files if "contextlib" in file]
    assert files[-1] == __file__
