"""Published caching snippets with only their imports changed. The list `RAN` replaces their printed lines."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock import (
    DEFAULT,
    FLOW_PARAMETERS,
    INPUTS,
    NO_CACHE,
    RUN_ID,
    TASK_SOURCE,
    CacheKeyFnPolicy,
    CachePolicy,
    TaskRunContext,
    flow,
    task,
    task_input_hash,
)
from penstock.errors import ConfigurationError

RAN: list[object] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


# -- persist_result: the default policy --------------------------------------------------------------------------------


@task(persist_result=True)
def price_with_tax(net: int) -> int:
    RAN.append(net)
    return net * 119 // 100


@flow
def invoice() -> int:
    price_with_tax(100)
    price_with_tax(100)
    return price_with_tax(200)


def test_persist_result_reuses_equal_calls_only_within_a_run() -> None:
    assert invoice() == 238
    assert sorted(RAN) == [100, 200]
    invoice()
    assert sorted(RAN) == [100, 100, 200, 200]


def test_the_default_policy_combines_inputs_source_and_run() -> None:
    assert DEFAULT == INPUTS + TASK_SOURCE + RUN_ID


# -- policies ----------------------------------------------------------------------------------------------------------


@task(cache_policy=INPUTS)
def square(x: int) -> int:
    RAN.append(x)
    return x * x


def test_inputs_hits_for_equal_arguments_and_misses_for_others() -> None:
    assert [square(x=3), square(x=3), square(x=4)] == [9, 9, 16]
    assert RAN == [3, 4]


@task(cache_policy=INPUTS - "debug")
def cube(x: int, debug: bool = False) -> int:
    RAN.append((x, debug))
    return x**3


def test_a_subtracted_input_does_not_count() -> None:
    assert [cube(x=2), cube(x=2, debug=True), cube(x=2, debug=False)] == [8, 8, 8]
    assert RAN == [(2, False)]


@task(cache_policy=TASK_SOURCE + INPUTS)
def half(x: int) -> float:
    RAN.append(x)
    return x / 2


def test_policies_can_be_added() -> None:
    assert [half(3), half(3), half(5)] == [1.5, 1.5, 2.5]
    assert RAN == [3, 5]


@task(cache_policy=TASK_SOURCE)
def load_reference(region: str) -> str:
    RAN.append(region)
    return region.upper()


def test_task_source_alone_ignores_the_arguments() -> None:
    assert [load_reference("north"), load_reference("south")] == ["NORTH", "NORTH"]


@task(cache_policy=FLOW_PARAMETERS)
def report_of_the_day() -> int:
    RAN.append("report")
    return len(RAN)


@flow
def daily(day: str) -> int:
    return report_of_the_day()


def test_flow_parameters_apply_to_every_task_of_the_flow() -> None:
    assert [daily("mon"), daily("mon"), daily("tue")] == [1, 1, 2]


@task(cache_policy=NO_CACHE)
def roll() -> int:
    RAN.append("roll")
    return len(RAN)


def test_no_cache_runs_every_time() -> None:
    assert [roll(), roll()] == [1, 2]


@pytest.mark.parametrize("how", ["result_storage", "result_serializer"])
def test_options_for_storing_results_imply_storing_them(how: str, tmp_path: Path) -> None:
    options = {"result_storage": tmp_path / "elsewhere", "result_serializer": "json"}

    @task(**{how: options[how]})
    def net(gross: int) -> int:
        RAN.append(gross)
        return gross * 100 // 119

    @flow(result_storage=tmp_path / "store")
    def both() -> list[int]:
        return [net(119).result(), net(119).result()]  # type: ignore[attr-defined]

    run = both.run()
    assert run.result() == [100, 100]
    assert len(run.stored(net)) == 1
    assert both.resume(run.id).counts["executed"] == 0
    assert RAN == [119]
    assert (
        not flow(result_storage=tmp_path / "store")(lambda: net.with_options(persist_result=False)(119)).run().stored()
    )


def test_an_expiry_without_stored_results_is_an_error() -> None:
    @task(cache_expiration=timedelta(days=1))
    def rate() -> float:
        raise AssertionError("it must not run")

    for call in (rate, flow(lambda: rate())):
        with pytest.raises(ConfigurationError, match="cache_expiration of rate has no effect") as refused:
            call()
        assert "cache_policy=" in refused.value.hint


@pytest.mark.parametrize("options", [{"persist_result": False}, {"cache_policy": NO_CACHE}])
def test_an_expiry_is_accepted_where_caching_is_turned_off(options: dict[str, Any]) -> None:
    @task(cache_expiration=timedelta(days=1), **options)
    def rate() -> float:
        return 1.1

    assert rate() == 1.1


def test_an_expiry_applies_to_results_that_the_flow_stores() -> None:
    @task(cache_expiration=timedelta(days=1))
    def rate() -> float:
        return 1.1

    @flow(persist_result=True)
    def rates() -> float:
        return rate()

    (kept,) = rates.run().stored(rate)
    assert kept.record.expires is not None


@task(cache_policy=INPUTS, persist_result=False)
def not_kept(x: int) -> int:
    RAN.append(x)
    return x


def test_persist_result_false_turns_caching_off() -> None:
    not_kept(1)
    not_kept(1)
    assert RAN == [1, 1]


# -- refresh and expiration --------------------------------------------------------------------------------------------


@task(cache_policy=TASK_SOURCE, refresh_cache=True)
def never_cached() -> float:
    RAN.append("drawn")
    return random.random()


def test_refresh_cache_runs_despite_a_result() -> None:
    assert never_cached() != never_cached()
    assert len(RAN) == 2


def test_others_find_a_refreshed_result() -> None:
    first, second = never_cached(), never_cached()
    assert first != second
    assert never_cached.with_options(refresh_cache=False)() == second


@task(cache_policy=INPUTS, cache_expiration=timedelta(microseconds=1))
def exchange_rate(currency: str) -> str:
    RAN.append(currency)
    return currency


@task(cache_policy=INPUTS, cache_expiration=timedelta(hours=1))
def yearly_average(currency: str) -> str:
    RAN.append(currency)
    return currency


def test_only_an_expired_result_is_computed_again() -> None:
    for _ in range(2):
        exchange_rate("chf")
        yearly_average("eur")
    assert RAN == ["chf", "eur", "chf"]


# -- key functions -----------------------------------------------------------------------------------------------------


def static_cache_key(context, parameters):
    return "one key for all"


@task(cache_key_fn=static_cache_key)
def next_number(x: int) -> int:
    RAN.append(x)
    return x + 1


def test_a_static_key_function_gives_all_calls_one_key() -> None:
    assert [next_number(1), next_number(50)] == [2, 2]
    assert RAN == [1]


def key_of_customer(context: TaskRunContext, parameters: dict) -> str:
    return f"{context.task.name}-{parameters['customer']}"


@task(cache_key_fn=key_of_customer, cache_expiration=timedelta(hours=1))
def orders_of(customer: int, asked_at: float) -> int:
    RAN.append((customer, asked_at))
    return customer * 10


@flow
def three_questions() -> list[int]:
    return [orders_of(1, 0.1), orders_of(1, 0.2), orders_of(2, 0.3)]


def test_a_dynamic_key_function_selects_the_inputs_that_count() -> None:
    assert three_questions() == [10, 10, 20]
    assert sorted(customer for customer, _ in RAN) == [1, 2]


def once_per_run(context, parameters):
    return f"{context.task_run.flow_run_id}-{parameters['x']}"


@task(cache_key_fn=once_per_run)
def per_run(x: int) -> int:
    RAN.append(x)
    return x


@flow
def same_call_twice(x: int) -> int:
    return per_run(x) + per_run(x).result()


def test_a_key_function_can_read_the_run() -> None:
    assert same_call_twice(2) == 4
    assert same_call_twice(2) == 4
    assert RAN == [2, 2]


def test_a_key_function_sees_the_run_under_both_published_names() -> None:
    seen = []

    def look(context, parameters):
        seen.append((context.flow_run_id, context.task_run.flow_run_id, context.task_run_id))
        return None

    @task(cache_key_fn=look)
    def anything() -> int:
        return 1

    @flow
    def once() -> int:
        return anything()

    run = once.run()
    assert run.result() == 1
    assert {(flow_run, same) for flow_run, same, _ in seen} == {(run.id, run.id)}
    assert all(task_run for _, _, task_run in seen)


def skip_small(context, parameters):
    return None if parameters["x"] < 10 else str(parameters["x"])


@task(cache_key_fn=skip_small)
def maybe_cached(x: int) -> int:
    RAN.append(x)
    return x


def test_a_key_function_that_returns_none_disables_caching_for_the_call() -> None:
    for x in (1, 1, 10, 10):
        maybe_cached(x)
    assert RAN == [1, 1, 10]


@task(cache_key_fn=task_input_hash, cache_expiration=timedelta(days=1))
def fetch(url: str) -> str:
    RAN.append(url)
    return url[::-1]


def test_task_input_hash_is_a_key_function() -> None:
    assert [fetch("a/b"), fetch("a/b"), fetch("a/c")] == ["b/a", "b/a", "c/a"]
    assert RAN == ["a/b", "a/c"]


class NoDigest:
    """A value that holds something unhashable."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getstate__(self):
        raise TypeError("not to be pickled")


def key_of_name(context: TaskRunContext, parameters: dict) -> str:
    return parameters["thing"].name


@task(cache_policy=CacheKeyFnPolicy(cache_key_fn=key_of_name) + RUN_ID)
def use(thing: NoDigest) -> str:
    RAN.append(thing.name)
    return f"used {thing.name}"


@flow
def use_twice() -> list[str]:
    thing = NoDigest("valve")
    return [use(thing), use(thing)]


def test_a_key_function_allows_caching_with_inputs_that_have_no_digest() -> None:
    assert use_twice() == ["used valve", "used valve"]
    assert RAN == ["valve"]


def test_from_cache_key_fn_makes_the_same_policy() -> None:
    assert CachePolicy.from_cache_key_fn(static_cache_key) == CacheKeyFnPolicy(cache_key_fn=static_cache_key)


@task(cache_key_fn=lambda *args, **kwargs: "fixed")
def with_a_lambda() -> str:
    RAN.append("lambda")
    return "data"


def test_a_lambda_with_star_arguments_can_be_a_key_function() -> None:
    assert with_a_lambda() == with_a_lambda() == "data"
    assert RAN == ["lambda"]


# -- differences, for the better ---------------------------------------------------------------------------------------


@task(cache_policy=INPUTS)
def in_metres(x: int) -> int:
    return x


@task(cache_policy=INPUTS)
def in_feet(x: int) -> float:
    return x * 3.28


def test_two_tasks_with_equal_inputs_never_share_a_result() -> None:
    assert in_metres(100) == 100
    assert in_feet(100) == 328.0


def test_a_key_name_shares_results_on_purpose() -> None:
    first = square.with_options(key_name="square")
    assert first(7) == 49

    @task(cache_policy=INPUTS, key_name="square")
    def moved_elsewhere(x: int) -> int:
        raise AssertionError("there is a result")

    assert moved_elsewhere(7) == 49
