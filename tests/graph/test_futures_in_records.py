"""Futures in the fields of objects become inputs, whatever package declares the class."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from penstock import INPUTS, NO_CACHE, flow, task


class Struct(msgspec.Struct, frozen=True):
    x: Any


@dataclass
class Listed(list[Any]):
    x: Any = None


class Rows(dict[str, Any]):
    x: Any = None


def model(x: Any) -> Any:
    import pydantic

    return pydantic.create_model("Model", x=(Any, ...))(x=x)


@functools.cache
def of_attrs(*, frozen: bool) -> Any:
    import attrs

    return attrs.make_class("Frozen" if frozen else "Mutable", ["x"], frozen=frozen)


def rows(x: Any) -> Rows:
    made = Rows()
    made.x = x
    return made


MAKES: list[Any] = [
    pytest.param(lambda x: of_attrs(frozen=False)(x), marks=pytest.mark.needs("attrs"), id="attrs"),
    pytest.param(lambda x: of_attrs(frozen=True)(x), marks=pytest.mark.needs("attrs"), id="frozen attrs"),
    *(Struct, Listed, rows),
    pytest.param(model, marks=pytest.mark.needs("pydantic")),
]


@pytest.mark.parametrize("policy", [INPUTS, NO_CACHE], ids=["cached", "plain"])
@pytest.mark.parametrize("make", MAKES)
def test_a_future_in_a_field_becomes_its_value(make: Callable[[Any], Any], policy: Any) -> None:
    @task(cache_policy=policy)
    def one() -> int:
        return 1

    @task(cache_policy=policy)
    def field(value: Any) -> Any:
        return value.x

    @task(cache_policy=policy)
    def shared(values: Any) -> bool:
        return values[0] is values[1]["again"]

    @flow
    def main() -> Any:
        value, deep = make(one()), make([{"in": make(one())}])
        again = shared([value, {"again": value}])
        return field(value).result(), field(deep).result()[0]["in"].x, again.result(), type(value.x).__name__

    if policy is INPUTS and make is model:
        pytest.skip("the class has no importable name")
    assert main() == (1, 1, True, "Future")


@pytest.mark.needs("attrs")
def test_a_key_function_gets_the_values_of_futures_in_fields() -> None:
    @task
    def one() -> int:
        return 1

    @task(cache_key_fn=lambda context, given: str(given["value"].x))
    def field(value: Any) -> Any:
        return value.x

    assert flow(lambda: field(of_attrs(frozen=True)(one())))() == 1
