"""Ordinary results in a bucket without signing keys: each is stored, found and restored equal."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import ipaddress
import pathlib
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from penstock import INPUTS, flow, task
from tests.roundtrip import classes as c
from tests.servers.fixtures import Bucket

pytestmark = [pytest.mark.needs("s3fs", "boto3", "numpy", "pandas"), pytest.mark.slow, pytest.mark.timeout(300)]


def frame() -> Any:
    import pandas as pd

    return pd.DataFrame({"day": pd.Categorical(["mo", "tu"]), "bin": pd.cut([1.0, 2.0], 2), "v": [1.0, float("nan")]})


def arrays() -> Any:
    import numpy as np

    return [np.arange(3), np.asfortranarray(np.arange(10_000.0).reshape(100, 100))]


def metrics() -> Any:
    import numpy as np

    return {"auc": np.float64(0.7), "n": np.int64(3)}


VALUES: dict[str, Callable[[], Any]] = {
    "tuple": lambda: (1, 2),
    "train and test": lambda: (frame(), frame()),
    "frames by name": lambda: {"train": frame(), "test": frame()},
    "arrays": arrays,
    "metrics": metrics,
    "nan": lambda: float("nan"),
    "date": lambda: dt.date(2026, 1, 2),
    "datetime": lambda: dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    "time and duration": lambda: [dt.time(1, 2), dt.timedelta(1)],
    "bytes": lambda: b"raw",
    "set": lambda: {1, 2},
    "keys that are numbers": lambda: {3: "x"},
    "path": lambda: pathlib.Path("a"),
    "decimal": lambda: decimal.Decimal("1.10"),
    "uuid": lambda: uuid.UUID(int=1),
    "enum": lambda: c.Color.RED,
    "address": lambda: ipaddress.ip_address("::1"),
    "frame": frame,
    "counter": lambda: collections.Counter("abca"),
}


@task(cache_policy=INPUTS)
def make(name: str) -> Any:
    return VALUES[name]()


def test_everyday_values_are_stored_and_found_in_a_bucket_without_keys(bucket: Bucket) -> None:
    from tests.roundtrip.likeness import unlike

    @flow(result_storage=bucket.url)
    def everything() -> dict[str, Any]:
        return {name: make(name) for name in VALUES}

    cold, warm = everything.run(), everything.run()
    assert cold.counts["executed"] == len(VALUES)
    assert (warm.counts["executed"], warm.counts["hit"]) == (0, len(VALUES))
    for name, value in VALUES.items():
        assert unlike(cold.result()[name], value()) == "", name
        assert unlike(warm.result()[name], value()) == "", name
