"""What can be a task or a flow, and how it can be called."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest

import penstock
from penstock import INPUTS, CachePolicy, flow, task, wait
from penstock.errors import (
    ConfigurationError,
    ParameterError,
    PolicyError,
    ResultError,
    SerializationError,
    TracingError,
)
from penstock.runtime import flow_run, task_run

RAN: list[object] = []
PACKAGE = Path(penstock.__file__).parent


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


# -- calls as written --------------------------------------------------------------------------------------------------


def by_position(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(*args: Any) -> Any:
        return fn(*args)

    return wrapper


def by_name(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(**named: Any) -> Any:
        return fn(**named)

    return wrapper


def renamed(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(a: Any, b: Any = 5) -> Any:
        return fn(a, b)

    return wrapper


def connected(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(*args: Any, **named: Any) -> Any:
        return fn(*args, connection="open", **named)

    return wrapper


def injected(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(*args: Any) -> Any:
        return fn("open", *args)

    return wrapper


@pytest.mark.parametrize("runner", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_a_wrapper_receives_the_arguments_as_written(runner: str) -> None:
    def less(x: int, y: int = 2) -> int:
        return x - y

    positional, named, other = task(by_position(less)), task(by_name(less)), task(renamed(less))

    @flow(runner=runner)
    def calls() -> Any:
        return positional(5), positional(5, 1), named(x=5), named(y=1, x=5), other(5), other(5, 1)

    assert calls() == (3, 4, 3, 4, 0, 4)


def test_a_wrapper_can_add_arguments() -> None:
    @task
    @connected
    def query(sql: str, connection: str | None = None) -> str:
        return f"{sql} on {connection}"

    assert query("select 1") == "select 1 on open"
    assert query(sql="select 1") == "select 1 on open"


def test_the_error_for_a_wrapper_that_omits_arguments_says_so() -> None:
    @task
    @injected
    def query(connection: str, sql: str) -> str:
        return f"{sql} on {connection}"

    with pytest.raises(ParameterError, match="__signature__"):
        query("select 1")


def test_the_key_of_a_wrapped_function_uses_its_parameters() -> None:
    @task(cache_policy=INPUTS)
    @by_position
    def counted(x: int, y: int = 2) -> int:
        RAN.append((x, y))
        return x + y

    assert [counted(1), counted(1, 2), counted(2)] == [3, 3, 4]
    assert RAN == [(1, 2), (2, 2)]


def test_a_single_dispatch_function_can_be_a_task() -> None:
    @task
    @functools.singledispatch
    def kind(value: Any) -> str:
        return "something"

    kind.fn.register(int)(lambda value: "number")  # type: ignore[attr-defined]

    assert [kind(1), kind("one")] == ["number", "something"]


@pytest.mark.parametrize(
    ("fn", "args", "value"),
    [
        (int, ("12",), 12),
        (max, (3, 4), 4),
        (sum, ([1, 2],), 3),
        (functools.partial(pow, 2), (5,), 32),
        (str.upper, ("a",), "A"),
    ],
)
@pytest.mark.parametrize("policy", [None, INPUTS])
def test_a_function_written_in_c_can_be_a_task(fn: Any, args: Any, value: Any, policy: CachePolicy | None) -> None:
    made = task(fn).with_options(cache_policy=policy)
    assert made(*args) == value
    assert flow(lambda: made(*args))() == value


@pytest.mark.needs("numpy")
def test_a_ufunc_can_be_a_task() -> None:
    import numpy

    assert task(numpy.add)(1, 2) == 3
    assert flow(lambda: task(numpy.multiply)(3, 2))() == 6


class Scale:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, x: int) -> int:
        return self.factor * x

    @task
    def of(self, x: int) -> int:
        return self.factor * x

    @task
    @classmethod
    def named(cls, x: int) -> str:
        return f"{cls.__name__} {x}"

    @classmethod
    @task
    def named_too(cls, x: int) -> str:
        return f"{cls.__name__} {x}"

    @task
    @staticmethod
    def plain(x: int) -> int:
        return x

    @flow
    def all_of(self, xs: list[int]) -> list[int]:
        return [self.of(x) for x in xs]

    @flow
    @classmethod
    def made(cls, factor: int) -> int:
        made = cls(factor)
        return made.of(1)


class Twice(Scale):
    pass


def test_methods_can_be_tasks_and_flows() -> None:
    double, treble = Scale(2), Scale(3)
    assert [double.of(4), treble.of(4), Scale.of(double, 4)] == [8, 12, 8]
    assert double.all_of([1, 2]) == [2, 4]
    assert flow(lambda: [f.result() for f in [double.of.submit(1), *treble.of.map([1, 2])]])() == [2, 3, 6]
    assert [Twice.named(1), Twice(1).named(2), Scale.named(3)] == ["Twice 1", "Twice 2", "Scale 3"]
    assert Twice.named_too(1) == "Twice 1"
    assert [Scale.plain(5), double.plain(6)] == [5, 6]
    assert [Scale.made(4), Twice(0).made(5)] == [4, 5]


def test_a_callable_object_can_be_a_task_and_a_flow() -> None:
    assert task(Scale(2))(3) == 6
    made = flow(Scale(3))
    assert (made(3), made.name, made.run(1).result()) == (9, "Scale", 3)


@pytest.mark.parametrize(
    ("make", "what"), [(task, 5), (flow, 5), (task, "name"), (flow, "name"), (task, task(max)), (flow, flow(max))]
)
def test_what_cannot_be_a_task_or_a_flow_is_refused(make: Any, what: Any) -> None:
    with pytest.raises(ConfigurationError):
        make(what)


@pytest.mark.parametrize("name", ["wait_for", "return_state"])
@pytest.mark.parametrize("make", [task, flow])
def test_a_parameter_that_no_call_can_pass_is_refused_at_definition(make: Any, name: str) -> None:
    fn = eval(f"lambda x, {name}=None: x")
    with pytest.raises(ConfigurationError, match=name):
        make(fn)
    with pytest.raises(ConfigurationError, match=name):
        make(retries=2)(fn)


# -- policy classes ----------------------------------------------------------------------------------------------------


class PerDay(CachePolicy):
    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        return None if inputs["day"] < 0 else f"{inputs['day']} {flow_parameters.get('region')} {task_ctx.task.name}"


class Prefixed(CachePolicy):
    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def compute_key(self, task_ctx: Any, inputs: dict[str, Any], *_: Any) -> str:
        return f"{self.prefix}{inputs['day']}"


@pytest.mark.parametrize("runner", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_a_policy_class_computes_its_key(runner: str) -> None:
    @task(cache_policy=PerDay())
    def load(day: int, at: int) -> int:
        return at

    @flow(runner=runner)
    def all_days(region: str, at: int) -> list[int]:
        return [load(1, at), load(2, at), load(-1, at)]

    assert all_days("north", 1) == [1, 1, 1]
    assert all_days("north", 2) == [1, 1, 2]
    assert all_days("south", 3) == [3, 3, 3]


def test_a_policy_class_can_have_attributes_and_be_added() -> None:
    @task(cache_policy=Prefixed("a") + INPUTS - "at")
    def load(day: int, at: int) -> int:
        return at

    assert [load(1, 1), load(1, 2), load(2, 3)] == [1, 1, 3]
    other = load.with_options(cache_policy=(Prefixed("b") + INPUTS - "at").configure(isolation_level="READ_COMMITTED"))
    assert [other(1, 4), other(1, 5)] == [4, 4]


def test_a_policy_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="unknown isolation level"):
        INPUTS.configure(isolation_level="sometimes")
    assert issubclass(PolicyError, ValueError)


# -- async functions ---------------------------------------------------------------------------------------------------


@task
async def double(x: int) -> int:
    await asyncio.sleep(0)
    return x * 2


@task
async def double_twice(x: int) -> int:
    return await double(await double(x))


def test_async_tasks_can_be_awaited_outside_flows() -> None:
    assert asyncio.run(double(1)) == 2
    assert asyncio.run(double_twice(1)) == 4

    async def many() -> list[int]:
        return await asyncio.gather(*[double(x) for x in range(5)])

    assert asyncio.run(many()) == [0, 2, 4, 6, 8]


def test_a_call_of_an_async_task_does_not_block_the_loop() -> None:
    @task
    async def meets(loop: Any) -> str:
        other = asyncio.run_coroutine_threadsafe(answer(), loop)
        return await asyncio.wrap_future(other)

    async def answer() -> str:
        return "answered"

    async def main() -> str:
        return await meets(asyncio.get_running_loop())

    assert asyncio.run(asyncio.wait_for(main(), 60)) == "answered"


def test_async_tasks_inside_tasks() -> None:
    @task
    def asks(x: int) -> int:
        return asyncio.run(double(x)) + 1

    @flow
    def both() -> Any:
        return asks(1), double_twice(2)

    assert both() == (3, 8)


@flow
async def adds(x: int) -> int:
    return await double(x) + await double(1)


def test_async_flows_can_run_and_plan_inside_a_running_loop() -> None:
    async def cell() -> Any:
        return adds.run(2).result(), len(adds.plan(3).graph), await adds(4)

    assert asyncio.run(cell()) == (6, 1, 10)


def test_an_async_flow_in_a_sync_flow_is_run() -> None:
    @flow
    def outer(x: int) -> Any:
        value = adds(x)
        return value, adds.with_options(runner="threads")(x)

    assert outer(1) == (4, 4)

    async def in_a_loop() -> Any:
        return outer(2)

    assert asyncio.run(in_a_loop()) == (6, 6)


def test_an_async_flow_that_is_never_awaited_fails_the_flow() -> None:
    @flow
    async def forgets() -> str:
        adds(1)
        return "done"

    with pytest.raises(TracingError, match="without awaiting"), pytest.warns(RuntimeWarning, match="never awaited"):
        asyncio.run(forgets())


# -- generators --------------------------------------------------------------------------------------------------------


@task
def counts() -> Iterator[int]:
    for n in itertools.count():
        RAN.append((n, task_run.task_name))
        yield n


@task
async def counts_async(n: int) -> AsyncIterator[int]:
    for x in range(n):
        await asyncio.sleep(0)
        yield x


def test_a_generator_task_yields_items_as_they_are_made() -> None:
    numbers = counts()
    assert [next(numbers), next(numbers)] == [0, 1]
    assert RAN == [(0, "counts"), (1, "counts")]
    assert task_run.task_name is None
    numbers.close()


def test_async_generator_tasks_yield_their_items() -> None:
    async def collected(made: Any) -> list[int]:
        return [x async for x in made]

    assert asyncio.run(collected(counts_async(3))) == [0, 1, 2]
    assert asyncio.run(collected(counts_async.with_options(retries=1)(3))) == [0, 1, 2]

    @flow
    async def both() -> Any:
        return [x async for x in counts_async(2)], counts_async(3)

    assert asyncio.run(both()) == ([0, 1], [0, 1, 2])


def test_an_async_generator_task_is_retried_and_timed_out() -> None:
    @task(retries=1)
    async def fails_once() -> AsyncIterator[int]:
        RAN.append(1)
        yield 1
        if len(RAN) == 1:
            raise ConnectionError

    assert flow(lambda: fails_once())() == [1]
    assert len(RAN) == 2

    @task(timeout_seconds=0.2)
    async def never_ends() -> AsyncIterator[int]:
        while True:
            yield 1
            await asyncio.sleep(0.01)

    with pytest.raises(TimeoutError):
        flow(lambda: never_ends())()


def test_a_generator_flow_is_refused() -> None:
    def items() -> Iterator[int]:
        yield 1

    async def async_items() -> AsyncIterator[int]:
        yield 1

    for fn in (items, async_items):
        with pytest.raises(ConfigurationError, match="generator"):
            flow(fn)


# -- waiting -----------------------------------------------------------------------------------------------------------


def test_a_wait_that_is_over_returns() -> None:
    import threading

    may_end = threading.Event()

    @task
    def waits() -> str:
        may_end.wait(60)
        return "done"

    @flow
    def looks() -> Any:
        future = waits.submit()
        future.wait(0.01)
        before = future.done()
        with pytest.raises(TimeoutError):
            future.result(0.01, raise_on_failure=False)
        may_end.set()
        future.wait()
        return before, future.done(), wait([future]).not_done

    assert looks() == (False, True, set())


def test_a_timeout_error_raised_by_the_task_is_its_failure() -> None:
    @task
    def times_out() -> None:
        raise TimeoutError("the server did not answer")

    @flow
    def looks() -> Any:
        return repr(times_out.submit().result(raise_on_failure=False))

    assert looks() == "TimeoutError('the server did not answer')"


@pytest.mark.parametrize("runner", [None, "threads"])
def test_a_flow_waits_for_the_calls_in_wait_for(runner: str | None) -> None:
    @task
    def notes(name: str) -> str:
        RAN.append(name)
        return name

    @flow(runner=runner)
    def inner(name: str) -> str:
        return notes(name)

    @flow
    def outer() -> Any:
        first = notes.submit("first")
        second = inner("second", wait_for=[first])
        third = inner("third", wait_for=first)
        return first, second, third

    assert outer() == ("first", "second", "third")
    assert RAN[0] == "first"


@pytest.mark.parametrize("condition", [5, "always", True])
def test_a_retry_condition_that_is_not_callable_is_refused_at_definition(condition: Any) -> None:
    with pytest.raises(ConfigurationError, match="retry_condition_fn"):
        task(retries=1, retry_condition_fn=condition)(max)


def test_the_attributes_of_a_run_are_listed() -> None:
    assert {"id", "name", "flow_name", "run_count", "parameters"} <= set(dir(flow_run))
    assert {"id", "task_name", "run_count"} <= set(dir(task_run))


# -- context variables -------------------------------------------------------------------------------------------------

request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")


@task
def which() -> str:
    seen = request.get()
    request.set("a task's own")
    return seen


def test_a_task_sees_the_context_variables_of_its_caller() -> None:
    @flow
    def calls() -> Any:
        first = which()
        token = request.set("inner")
        second = which()
        request.reset(token)
        return first, second, which(), request.get()

    token = request.set("outer")
    try:
        assert calls() == ("outer", "inner", "outer", "outer")
        assert which() == "outer"
        assert request.get() == "outer"
    finally:
        request.reset(token)
    assert calls() == ("none", "inner", "none", "none")


tenant: contextvars.ContextVar[str] = contextvars.ContextVar("penstock_tenant", default="none")


def test_a_context_variable_of_a_caller_may_have_any_name() -> None:
    @task
    def whose() -> str:
        return tenant.get()

    @flow
    def calls() -> Any:
        token = tenant.set("acme")
        first = whose()
        tenant.reset(token)
        return first, whose()

    assert calls() == ("acme", "none")


def test_penstock_makes_all_its_context_variables_with_own_variable() -> None:
    found = {
        f"{module.relative_to(PACKAGE)}:{line.partition(':')[0]}"
        for module in PACKAGE.rglob("*.py")
        for line in module.read_text().splitlines()
        if "= ContextVar(" in line
    }
    assert found == {"runtime.py:    variable"}


class Incomparable:
    def __eq__(self, other: object) -> bool:
        raise AssertionError("values of the user are not compared")

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> Any:
        return Incomparable, ()


held: contextvars.ContextVar[Incomparable] = contextvars.ContextVar("held")


@task
def holds(_: Any = None) -> bool:
    return type(held.get(None)) is Incomparable


def test_values_of_callers_variables_and_parameters_are_never_compared() -> None:
    @flow
    def inner(_: Any) -> Any:
        return [holds(), holds()]

    @flow
    def calls(given: Any) -> Any:
        found = [holds(), inner(given)]
        for _ in range(2):
            token = held.set(Incomparable())
            found += [holds(), inner(given), inner(Incomparable())]
            held.reset(token)
            found.append(holds())
        return found

    inside = [True, [True, True], [True, True], False]
    assert calls(Incomparable()) == [False, [False, False], *inside, *inside]


@pytest.mark.parametrize("option", ["name", "key_name"])
def test_a_name_that_no_record_can_hold_is_refused_at_definition(option: str) -> None:
    with pytest.raises(ConfigurationError, match="lone surrogate"):
        task(**{option: "k\ud800"})(max)
    with pytest.raises(ConfigurationError, match="lone surrogate"):
        flow(name="g\ud800")(max)


@pytest.mark.parametrize(
    "options",
    [
        {"persist_result": "yes"},
        {"refresh_cache": None},
        {"log_prints": 1},
        {"name": 3},
        {"name": ""},
        {"tags": [3]},
        {"tags": 3},
    ],
)
def test_an_invalid_option_is_refused_when_it_is_set(options: dict[str, Any]) -> None:
    for make in (task, flow, task(max).with_options, flow(max).with_options):
        with pytest.raises(ConfigurationError, match=f"{next(iter(options))} cannot be|{next(iter(options))}="):
            cast(Any, make)(**options)
    with pytest.raises(ConfigurationError, match="key_name cannot be 3"):
        task(key_name=cast(Any, 3))


@pytest.mark.parametrize(
    ("make", "option", "meant"),
    [
        (task, "retrys", "retries"),
        (task, "cache_polcy", "cache_policy"),
        (task, "result_store", "result_storage"),
        (flow, "task_runer", "task_runner"),
        (flow, "log_print", "log_prints"),
    ],
)
def test_the_error_for_a_mistyped_option_suggests_the_right_one(make: Any, option: str, meant: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        make(**{option: 1})
    assert refused.value.hint == f"did you mean {meant}?"


@pytest.mark.parametrize("wait_for", [[3], 3, "abc", ["abc"], [[1]], [{"a": 1}]])
def test_only_futures_can_be_waited_for(wait_for: Any) -> None:
    @task
    def first() -> int:
        return 1

    @flow
    def inner() -> int:
        return first()

    for call in (first, inner):
        with pytest.raises(TracingError, match=r"wait_for|cannot wait for") as refused:
            flow(lambda call=call: call(wait_for=wait_for))()
        assert refused.value.hint.startswith("pass ")


@pytest.mark.parametrize("nothing", [None, (), [], [None], [[]]])
def test_waiting_for_nothing_is_not_an_error(nothing: Any) -> None:
    @task
    def first() -> int:
        return 1

    @task
    def second() -> int:
        return 2

    @flow
    def waits() -> Any:
        made = first()
        return second(wait_for=[made, [made], {"a": made}]), second(wait_for=nothing)

    assert waits() == (2, 2)


@pytest.mark.parametrize("endless", ["plain", "async", "large"])
def test_an_endless_generator_is_refused(endless: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from penstock.worker import streams

    monkeypatch.setattr(streams, "MOST_ITEMS", 1_000)
    monkeypatch.setattr(streams, "memory_bytes", lambda: 100_000)

    def plain() -> Any:
        while True:
            yield b""

    async def waiting() -> Any:
        while True:
            yield b""

    def large() -> Any:
        while True:
            yield list(range(1_000))

    numbers = task({"plain": plain, "async": waiting, "large": large}[endless])

    @flow
    def counting() -> Any:
        return numbers()

    because = "bytes" if endless == "large" else "more than 1,000 items"
    with pytest.raises(ResultError, match=f"(?s)is endless.*{because}"):
        counting()


@pytest.mark.parametrize("runner", ["threads?workers=1", pytest.param("processes?workers=1", marks=pytest.mark.slow)])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_generator_of_plain_items_gives_one_list_cached_or_not(count: int, runner: str) -> None:
    def numbers(count: int) -> Any:
        for n in range(count):
            RAN.append(n)
            yield {"n": n}

    async def numbers_async(count: int) -> Any:
        for n in range(count):
            yield {"n": n}

    @flow(runner=runner)
    def counting(made: Any) -> Any:
        return made(count)

    for body in (numbers, numbers_async):
        plain, cached = task(body), task(cache_policy=INPUTS)(body)
        runs = [counting.run(plain), counting.run(cached), counting.run(cached)]
        assert [run.counts["executed"] for run in runs] == [1, 1, 0]
        assert [run.result() for run in runs] == [[{"n": n} for n in range(count)]] * 3


@pytest.mark.parametrize("policy", [None, INPUTS])
def test_the_body_of_a_generator_runs_in_its_task_and_fails_it(policy: Any) -> None:
    @task(cache_policy=policy, key_name="failing", retries=1)
    def failing() -> Any:
        RAN.append((task_run.task_name, task_run.run_count))
        yield 1
        raise ZeroDivisionError

    @flow
    def counting() -> Any:
        return failing()

    with pytest.raises(ZeroDivisionError):
        counting()
    assert RAN == [("failing", 1), ("failing", 2)]


def test_a_generator_of_record_batches_is_streamed_to_the_store() -> None:
    @task(cache_policy=INPUTS)
    def batches(count: int) -> Any:
        for n in range(count):
            yield pa.record_batch({"n": [n]})

    assert flow(lambda: batches(3))().column("n").to_pylist() == [0, 1, 2]

    @task(cache_policy=INPUTS)
    def mixed() -> Any:
        yield pa.record_batch({"n": [1]})
        yield 2

    with pytest.raises(SerializationError, match="an iterator of int"):
        flow(lambda: mixed())()


def test_the_items_of_a_generator_are_collected() -> None:
    @task
    def numbers() -> Any:
        yield from range(5)

    @flow
    def counting() -> Any:
        return numbers()

    assert counting() == [0, 1, 2, 3, 4]
