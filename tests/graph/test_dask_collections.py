"""Digests of Dask collections depend on the tasks of their graph, not on Dask's names for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.digests.python import digest
from penstock.errors import DigestError

dask = pytest.importorskip("dask")
pytest.importorskip("pandas")


def plus(x: int, by: int = 1) -> int:
    return x + by


def minus(x: int, by: int = 1) -> int:
    return x - by


def frame(last: int = 3) -> Any:
    import dask.dataframe as dd
    import pandas as pd

    return dd.from_pandas(pd.DataFrame({"a": [1, 2, last], "b": list("xyx")}), npartitions=2)


def array(last: int = 3) -> Any:
    import dask.array as da
    import numpy as np

    return da.from_array(np.array([1, 2, last]), chunks=2)


def bag(last: int = 3) -> Any:
    import dask.bag as db

    return db.from_sequence([1, 2, last], npartitions=2)


def delayed(last: int = 3) -> Any:
    return dask.delayed(plus)(dask.delayed(minus)(1), by=last)  # with a random name


@pytest.mark.parametrize(
    "make",
    [
        frame,
        array,
        bag,
        delayed,
        lambda last=3: frame(last).assign(c=1).query("a > 1"),
        lambda last=3: frame(last).groupby("b").a.sum(),
        lambda last=3: frame(last).a.mean(),
        lambda last=3: (array(last) + 1).sum(),
        lambda last=3: bag(last).map(plus).filter(lambda x: x > 1),
        lambda last=3: dask.delayed([delayed(last), {"a": delayed(1)}]),
    ],
)
def test_a_collection_counts_by_its_recipe(make: Callable[..., Any]) -> None:
    assert digest(make()) == digest(make())
    assert digest(make()) != digest(make(4))
    assert digest([make()]) == digest([make()])


def test_the_functions_of_a_recipe_count() -> None:
    assert digest(bag().map(plus)) != digest(bag().map(minus))
    assert digest(dask.delayed(plus)(1)) != digest(dask.delayed(minus)(1))
    assert digest(array() + 1) != digest(array() + 2)
    assert digest(frame().a) != digest(frame().b)


@pytest.mark.slow
def test_a_deep_recipe_needs_no_recursion() -> None:
    value = dask.delayed(plus)(1)
    for _ in range(3000):
        value = dask.delayed(plus)(value)
    assert len(digest(value)) == 40


def test_a_collection_that_reads_files_is_refused_with_an_alternative(tmp_path: Path) -> None:
    import dask.dataframe as dd

    frame().compute().to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DigestError) as caught:
        digest(dd.read_parquet(tmp_path / "t.parquet"))
    assert "pass its source" in caught.value.because


def test_a_ray_dataset_is_refused_with_an_alternative() -> None:
    dataset = type("Dataset", (), {"__module__": "ray.data.dataset"})
    with pytest.raises(DigestError, match="Ray Dataset") as caught:
        digest(dataset())
    assert "create it in a task" in caught.value.because
