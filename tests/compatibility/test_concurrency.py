"""Published snippets about submitting, mapping and async functions, with only their imports changed."""

from __future__ import annotations

import asyncio

import pytest

from penstock import flow, task, unmapped, wait

RAN: list[object] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@task
def stop_at(floor: int) -> int:
    RAN.append(floor)
    return floor


@flow
def elevator() -> int:
    floors = []
    for floor in range(5, 0, -1):
        floors.append(stop_at.submit(floor))
    wait(floors)
    return len(RAN)


def test_wait_returns_when_all_submitted_calls_have_ended() -> None:
    assert elevator() == 5


@flow
def elevator_by_map() -> tuple[int, int]:
    done, not_done = wait(stop_at.map(list(range(5, 0, -1))))
    return len(done), len(not_done)


def test_wait_reports_what_is_done() -> None:
    assert elevator_by_map() == (5, 0)


def test_wait_gives_up_after_its_timeout() -> None:
    import threading

    go_on = threading.Event()

    @task
    def blocked() -> bool:
        return go_on.wait(100)

    @flow
    def impatient() -> tuple[int, int]:
        quick, slow = stop_at.submit(1), blocked.submit()
        quick.wait()
        done, not_done = wait([quick, slow], timeout=0.01)
        go_on.set()
        return len(done), len(not_done)

    assert impatient() == (1, 1)


@task
def greet(name: str) -> str:
    return f"hello {name}"


@task
def shout(text: str) -> str:
    return text.upper()


@flow
def chained() -> str:
    future = greet.submit("marvin")
    return shout.submit(future).result()


def test_a_future_passed_to_a_task_arrives_as_its_value() -> None:
    assert chained() == "HELLO MARVIN"


def test_printing_a_result_inside_a_flow_prints_the_value(capsys: pytest.CaptureFixture[str]) -> None:
    @flow
    def talkative() -> None:
        greeting = greet("trillian")
        print(greeting)
        print(f"{greeting}!")
        print(shout(greeting))

    talkative()
    assert capsys.readouterr().out == "hello trillian\nhello trillian!\nHELLO TRILLIAN\n"


@task
def add(x: int, y: int) -> int:
    return x + y


@task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@flow
def mapped() -> tuple[list[int], list[int], int]:
    pairs = add.map([1, 2, 3], [10, 20, 30])
    same = add.map([1, 2, 3], unmapped(100))
    return pairs.result(), [future.result() for future in same], total(pairs)


def test_map_zips_iterables_and_repeats_unmapped_values() -> None:
    assert mapped() == ([11, 22, 33], [101, 102, 103], 66)


def test_map_passes_an_unmapped_list_whole() -> None:
    @task
    def pick(index: int, items: list[str]) -> str:
        return items[index]

    @flow
    def picks() -> list[str]:
        return pick.map([1, 0], items=unmapped(["a", "b"])).result()

    assert picks() == ["b", "a"]


def test_map_accepts_the_result_of_another_task() -> None:
    @task
    def numbers() -> list[int]:
        return [1, 2]

    @flow
    def over_a_future() -> list[int]:
        return add.map(numbers.submit(), y=1).result()

    assert over_a_future() == [2, 3]


def test_wait_for_orders_calls_that_share_no_data() -> None:
    @task
    def step(name: str) -> None:
        RAN.append(name)

    @flow
    def ordered() -> None:
        first = step.submit("first")
        second = step.submit("second", wait_for=[first])
        step("third", wait_for=[first, second])
        step.map(["fourth"], wait_for=[second])

    ordered()
    assert RAN[:2] == ["first", "second"]
    assert sorted(RAN[2:]) == ["fourth", "third"]


def test_a_failure_can_be_inspected_instead_of_raised() -> None:
    @task
    def fails() -> None:
        raise ValueError("no")

    @flow
    def tolerant() -> str:
        outcome = fails.submit().result(raise_on_failure=False)
        return type(outcome).__name__

    assert tolerant() == "ValueError"


def test_waiting_neither_fetches_the_value_nor_hides_a_failure() -> None:
    @task
    def fails() -> None:
        raise ValueError("no")

    @flow
    def waits() -> str:
        fails.submit().wait()
        return "went on"

    run = waits.run()
    assert run.state == "failed"
    with pytest.raises(ValueError, match="no"):
        run.result()


# -- async -------------------------------------------------------------------------------------------------------------


@task
async def stop_at_async(floor: int) -> int:
    await asyncio.sleep(0)
    return floor


@flow
async def async_elevator() -> list[int]:
    return await asyncio.gather(*[stop_at_async(floor) for floor in range(3, 0, -1)])


def test_async_tasks_can_be_gathered_in_async_flows() -> None:
    assert asyncio.run(async_elevator()) == [3, 2, 1]


@flow
async def awaits_each() -> int:
    first = await stop_at_async(1)
    second = await stop_at_async(first + 1)
    return first + second


def test_async_calls_can_be_awaited() -> None:
    assert asyncio.run(awaits_each()) == 3


@flow
async def calls_a_sync_task() -> int:
    return add(1, 2) + add(3, 4).result()


def test_sync_tasks_can_be_called_in_async_flows() -> None:
    assert asyncio.run(calls_a_sync_task()) == 10


def test_async_tasks_can_be_called_in_sync_flows() -> None:
    @flow
    def sync_flow() -> int:
        return stop_at_async.submit(4).result()

    assert sync_flow() == 4


def test_an_awaited_task_can_raise_any_exception() -> None:
    @task
    def stops() -> None:
        raise StopIteration

    @flow
    async def waiting() -> None:
        await stops()

    with pytest.raises(RuntimeError, match="stops raised StopIteration"):
        asyncio.run(waiting())


# -- subflows ----------------------------------------------------------------------------------------------------------


@flow
def is_even(number: int) -> bool:
    return number % 2 == 0


@flow
def even_or_odd() -> str:
    number = add(1, 3)
    if is_even(number):
        return "even"
    return "odd"


def test_a_flow_calls_another_with_the_result_of_a_task() -> None:
    assert even_or_odd() == "even"
