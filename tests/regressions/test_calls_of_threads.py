"""Calls of tasks by several threads that share the context of one flow."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from penstock import INPUTS, TASK_CODE, flow, task
from penstock.errors import TracingError
from penstock.runners import ThreadRunner
from penstock.storage import MemoryStore

THREADS, CALLS, ROUNDS = 8, 40, 4
LARGE = 10_000
RAN: list[int] = []
DOUBLES: dict[int, int] = {}


@pytest.fixture(autouse=True)
def _threads_take_turns_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(params=["plain", "cached"])
def made(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """Make a task of a function, cached or not."""
    return task if request.param == "plain" else task(cache_policy=INPUTS + TASK_CODE)


def one(x: int) -> list[int]:
    return [x]


def two(xs: list[int], y: int) -> int:
    return xs[0] * 1000 + y


def in_threads(work: Callable[[int], Any]) -> list[Any]:
    """Return what the function returns for the number of each thread, in the context of the caller."""
    with ThreadPoolExecutor(THREADS) as pool:
        runs = [pool.submit(contextvars.copy_context().run, work, i) for i in range(THREADS)]
        return [run.result() for run in runs]


def expected() -> list[list[int]]:
    return [[two(one(i), k) for k in range(CALLS)] for i in range(THREADS)]


def test_calls_of_the_threads_of_an_async_flow_return_their_own_values(made: Any) -> None:
    first, second = made(one), made(two)

    @flow(result_storage=MemoryStore())
    async def many() -> Any:
        def calls(i: int) -> Any:
            return [second(first(i), k) for k in range(CALLS)]

        return await asyncio.gather(*(asyncio.to_thread(calls, i) for i in range(THREADS)))

    for _ in range(ROUNDS):  # the first one is cold, the others are warm
        assert asyncio.run(many()) == expected()


def test_calls_of_the_threads_of_a_flow_return_their_own_values(made: Any) -> None:
    first, second = made(one), made(two)

    @flow(result_storage=MemoryStore())
    def many() -> Any:
        return in_threads(lambda i: [second(first(i), k) for k in range(CALLS)])

    for _ in range(ROUNDS):
        assert many() == expected()


def test_threads_that_ask_for_values_meanwhile_get_their_own(made: Any) -> None:
    first, second = made(one), made(two)

    @flow(result_storage=MemoryStore())
    def many() -> Any:
        def calls(i: int) -> Any:
            return [second(first(i), k).result() for k in range(10)]

        return in_threads(calls)

    for _ in range(ROUNDS):
        assert many() == [[two(one(i), k) for k in range(10)] for i in range(THREADS)]


def test_parts_that_several_threads_take_of_one_value_are_right(made: Any) -> None:
    first = made(one)

    @flow(result_storage=MemoryStore())
    def many() -> Any:
        shared = first(7)
        return in_threads(lambda i: [shared[0].result() for _ in range(CALLS)])

    for _ in range(ROUNDS):
        assert many() == [[7] * CALLS] * THREADS


def test_large_arguments_of_several_threads_are_not_mixed_up(made: Any) -> None:
    def ends(xs: list[int], y: int) -> tuple[int, int, int]:
        return xs[0], xs[-1], y

    both = made(ends)

    @flow(result_storage=MemoryStore())
    def many() -> Any:
        def calls(i: int) -> Any:
            return [both([i * 1000 + k] * LARGE, k) for k in range(3)]

        return in_threads(calls)

    for _ in range(2):
        assert many() == [[(i * 1000 + k, i * 1000 + k, k) for k in range(3)] for i in range(THREADS)]


def test_plain_calls_of_threads_run_once() -> None:
    @task
    def noted(x: int) -> int:
        RAN.append(x)
        return x

    @task
    def following(x: int) -> int:
        return x

    @flow
    def many() -> Any:
        def calls(i: int) -> Any:
            return [following(noted(i * CALLS + k)).result() if k % 4 == 0 else noted(i * CALLS + k) for k in range(20)]

        return in_threads(calls)

    for _ in range(ROUNDS):
        RAN.clear()
        many()
        assert sorted(RAN) == sorted(i * CALLS + k for i in range(THREADS) for k in range(20))


def test_cached_calls_that_several_threads_make_run_once() -> None:
    @task(cache_policy=INPUTS)
    def noted(x: int) -> int:
        RAN.append(x)
        return x

    @flow
    def many() -> Any:
        return in_threads(lambda i: [noted(k) for k in range(CALLS)])

    for _ in range(ROUNDS):
        RAN.clear()
        many.with_options(result_storage=MemoryStore())()
        assert sorted(RAN) == list(range(CALLS))


def test_threads_can_call_further_tasks_for_the_first_time() -> None:
    def own(i: int) -> Any:
        return task(cache_policy=INPUTS + TASK_CODE, name=f"own_{i}", key_name=f"own_{i}")(lambda x: [i, x])

    @flow(result_storage=MemoryStore())
    def many() -> Any:
        return in_threads(lambda i: [own(i * 100 + k)(k) for k in range(5)])

    for _ in range(ROUNDS):
        assert many() == [[[i * 100 + k, k] for k in range(5)] for i in range(THREADS)]


def test_a_failure_in_a_subflow_with_threads_is_retried() -> None:
    tries: list[int] = []

    @task
    def fails_at_first(x: int) -> int:
        if not tries:
            tries.append(x)
            raise ValueError("at first")
        return x

    @flow(retries=1)
    def inner() -> Any:
        return in_threads(fails_at_first)

    @flow(result_storage=MemoryStore(), runner=ThreadRunner(1))
    def outer() -> Any:
        return inner()

    assert outer() == list(range(THREADS))


def test_a_call_of_a_thread_after_the_flow_has_ended_raises_an_error() -> None:
    returned, tried = threading.Event(), threading.Event()
    errors: list[BaseException] = []
    first = task(one)

    def late() -> None:
        returned.wait()
        try:
            first(1)
        except TracingError as error:
            errors.append(error)
        tried.set()

    @flow
    def leaves_a_thread() -> int:
        threading.Thread(target=contextvars.copy_context().run, args=(late,), daemon=True).start()
        return 1

    assert leaves_a_thread() == 1
    returned.set()
    assert tried.wait(60)
    assert "was called after its flow had ended" in str(errors[0])


def test_objects_that_are_collected_may_call_tasks() -> None:
    first = task(one)
    found: list[Any] = []

    class Calls:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            found.append(first(5))

    @flow
    def collects() -> Any:
        futures = []
        for k in range(CALLS):
            Calls()
            futures.append(first(k))
            gc.collect(0)
        return [each.result() for each in (*futures, *found)]

    try:
        assert collects() == [[k] for k in range(CALLS)] + [[5]] * CALLS
    finally:
        found.clear()


def test_an_async_flow_goes_on_calling_a_task_that_fills_a_cache() -> None:
    @task(cache_policy=INPUTS + TASK_CODE)
    def doubled(x: int) -> int:
        if x not in DOUBLES:
            DOUBLES[x] = 2 * x
        return DOUBLES[x]

    @flow(result_storage=MemoryStore())
    async def doubles() -> list[int]:
        called = [doubled(i) for i in range(3)]
        return [await called[0], await doubled(3), *[await each for each in called[1:]]]

    assert asyncio.run(doubles()) == [0, 6, 2, 4]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python starts no thread any more when a program ends")
def test_a_first_run_when_the_program_ends_is_like_any_other(tmp_path: Path) -> None:
    program = tmp_path / "ending.py"
    program.write_text("""
import atexit
from penstock import INPUTS, flow, task
@task(cache_policy=INPUTS)
def square(x: int) -> int:
    return x * x
@flow
def squares(n: int) -> list[int]:
    return [square(i) for i in range(n)]
atexit.register(lambda: print(squares(4)))
""")
    ended = subprocess.run([sys.executable, program], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert (ended.stdout, ended.stderr) == ("[0, 1, 4, 9]\n", "")
