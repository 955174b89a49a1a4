"""The frozen flows: many forms of code and policies, and all everyday kinds of values. Never edited: see README.md."""

from __future__ import annotations

import datetime as dt
import decimal
import ipaddress
import pathlib
import uuid
import zoneinfo
from functools import partial
from typing import Any

from penstock import (
    FLOW_PARAMETERS,
    INPUTS,
    TASK_CODE,
    TASK_SOURCE,
    CacheKey,
    CacheKeyFnPolicy,
    Files,
    IsolationLevel,
    flow,
    task,
)
from tests.frozen.shapes import LIMIT, RATES, SHOP, Level, Pair, Shop, Size, decorated, helper, made

SOURCE = INPUTS + TASK_SOURCE
CODE = INPUTS + TASK_CODE
RAN: list[str] = []
"""Which functions were executed."""

# -- values ----------------------------------------------------------------------------------------------------------


@task(cache_policy=SOURCE)
def plain() -> dict[str, Any]:
    RAN.append("plain")
    return {"int": 2**70, "float": -0.0, "text": "Grüße", "list": [1, None, True], "nested": {"a": [{}]}}


@task(cache_policy=SOURCE)
def everyday() -> tuple[Any, ...]:
    RAN.append("everyday")
    numbers = (decimal.Decimal("1.50"), 1 + 2j, float("inf"), {3, 1}, frozenset({"a"}), {1: "int", (1, 2): "pair"})
    zone = zoneinfo.ZoneInfo("Europe/Berlin")
    day = dt.date(2024, 2, 29)
    times = (day, dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=zone), dt.time(1, 2), dt.timedelta(days=-1))
    return (numbers, times, uuid.UUID(int=5), pathlib.PurePosixPath("a/b"), b"\x00\xff", ipaddress.ip_address("::1"))


@task(cache_policy=SOURCE)
def classes() -> list[Any]:
    RAN.append("classes")
    return [Size.LARGE, Level.HIGH, Pair(1), Shop(1.5, ("x",)), {"shop": SHOP}]


@task(cache_policy=SOURCE)
def array(rows: int) -> Any:
    import numpy as np

    RAN.append("array")
    return np.arange(rows * 2, dtype="float64").reshape(rows, 2)


@task(cache_policy=SOURCE)
def table(rows: int) -> Any:
    import pyarrow as pa

    RAN.append("table")
    return pa.table({"id": list(range(rows)), "text": [None, *"abcdefgh"][:rows], "at": pa.array([0] * rows, "date32")})


@task(cache_policy=SOURCE)
def frame(rows: int) -> Any:
    import pandas as pd

    RAN.append("frame")
    return pd.DataFrame({"a": range(rows), "b": [1.5] * rows}, index=pd.Index(range(10, 10 + rows), name="i"))


@task(cache_policy=SOURCE)
def polars_frame(rows: int) -> Any:
    import polars as pl

    RAN.append("polars_frame")
    return pl.DataFrame({"a": list(range(rows)), "b": ["x"] * rows, "c": [[1, 2]] * rows})


@task(cache_policy=SOURCE)
def parts(rows: int) -> dict[str, Any]:
    import numpy as np

    RAN.append("parts")
    return {"train": np.ones(rows), "test": np.zeros(2), "score": 0.5}


# -- consumers of values, so that digests of all kinds are in keys ---------------------------------------------------


@task(cache_policy=SOURCE)
def shape_of(value: Any) -> list[int]:
    RAN.append("shape_of")
    return list(value.shape)


@task(cache_policy=SOURCE)
def described(value: Any) -> str:
    RAN.append("described")
    return type(value).__name__


# -- forms of code ---------------------------------------------------------------------------------------------------


@task(cache_policy=CODE)
def with_code(x: int, shop: Shop = SHOP, size: Size = Size.SMALL) -> list[Any]:
    RAN.append("with_code")
    return [helper(x), shop.price(x), RATES["low"], LIMIT, size.name]


@task(cache_policy=INPUTS)
def by_name(x: int, *more: int, unit: str = "kg", **options: Any) -> list[Any]:
    RAN.append("by_name")
    return [x, list(more), unit, options]


@task(cache_policy=INPUTS - "note")
def without_note(x: int, note: Any = None) -> int:
    RAN.append("without_note")
    return x


@task(cache_policy=INPUTS + CacheKey("v2"), key_name="frozen.renamed")
def renamed(x: int) -> int:
    RAN.append("renamed")
    return x + 2


@task(cache_policy=INPUTS + FLOW_PARAMETERS)
def in_flow(x: int) -> int:
    RAN.append("in_flow")
    return x + 3


@task(cache_policy=CacheKeyFnPolicy(cache_key_fn=lambda context, parameters: f"x-{parameters['x']}"))
def by_function(x: int) -> int:
    RAN.append("by_function")
    return x + 4


@task(cache_policy=(INPUTS - "path") + Files(parameter="path"))
def of_file(path: str) -> str:
    RAN.append("of_file")
    return pathlib.Path(path).read_text(encoding="utf-8")


@task(cache_policy=(INPUTS + TASK_SOURCE).configure(isolation_level=IsolationLevel.SERIALIZABLE))
def once(x: int) -> int:
    RAN.append("once")
    return x + 5


@task(cache_policy=SOURCE)
async def awaited(x: int) -> int:
    RAN.append("awaited")
    return x + 6


closure = task(cache_policy=INPUTS)(made({"rate": [1, 2]}))
over_function = task(cache_policy=INPUTS, name="over_function")(made(helper))
lambda_task = task(cache_policy=SOURCE, name="double")(lambda x: x * 2)
bound = task(cache_policy=INPUTS, name="bound")(SHOP.price)
decorated_task = task(cache_policy=CODE)(decorated)
shifted = task(cache_policy=INPUTS, name="shifted")(partial(helper, by=5))


@flow
def everything(rows: int, folder: str) -> dict[str, Any]:
    """All of it: the values, and consumers of most of them."""
    values: dict[str, Any] = {"plain": plain(), "everyday": everyday(), "classes": classes()}
    values |= {"array": array(rows), "table": table(rows), "frame": frame(rows), "polars": polars_frame(rows)}
    values["parts"] = parts(rows)
    read = {f"described {name}": described(value) for name, value in values.items()}
    read |= {f"shape of {name}": shape_of(values[name]) for name in ("array", "table", "frame", "polars")}
    code = {
        "with_code": with_code(4),
        "by_name": by_name(1, 2, 3, unit="g", at=[1]),
        "without_note": without_note(1, note=object()),
        "renamed": renamed(1),
        "in_flow": in_flow(1),
        "by_function": by_function(1),
        "of_file": of_file(f"{folder}/note.txt"),
        "once": once(1),
        "awaited": awaited(1),
        "closure": closure(1),
        "over_function": over_function(1),
        "lambda": lambda_task(21),
        "bound": bound(2.0),
        "decorated": decorated_task(1),
        "shifted": shifted(4),
        "mapped": described.map([1, "a", None, (1,), Size.LARGE, SHOP]),
    }
    return values | read | code
