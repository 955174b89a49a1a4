"""Ray Datasets as results of tasks, on a Ray with one processor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from penstock import INPUTS, flow, task
from penstock.runners import RayRunner
from penstock.runs import Run
from penstock.settings import load_settings
from penstock.storage import open_store
from penstock.storage.results import maintenance
from penstock.storage.results.store import ResultStore

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("ray", "psutil"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),  # Ray's own, about itself
]
ROWS = 400
BLOCKS = 4


@pytest.fixture(scope="module")
def runner(ray_environment: None) -> Iterator[RayRunner]:
    with RayRunner(num_cpus=1) as runner:
        yield runner


@task(cache_policy=INPUTS)
def dataset(rows: int) -> Any:
    import ray

    return ray.data.range(rows, override_num_blocks=BLOCKS).map(lambda row: {"n": row["id"], "worker": os.getpid()})


@task(cache_policy=INPUTS)
def numbers(table: ds.Dataset) -> list[int]:
    found: list[int] = table.to_table(columns=["n"])["n"].to_pylist()
    return found


@flow
def counted(rows: int) -> Any:
    made = dataset(rows)
    return numbers(made), made


def test_blocks_are_written_by_the_workers_in_order_and_come_back_as_a_ray_dataset(
    runner: RayRunner, tmp_path: Path
) -> None:
    settings = load_settings(overrides={"store": str(tmp_path / "store")})
    done: Run[Any] = counted.with_options(runner=runner).run_with({"rows": ROWS}, settings=settings)
    found, again = done.result()
    assert found == list(range(ROWS))
    assert [row["n"] for row in again.take_all()] == list(range(ROWS))
    (stored,) = done.stored("dataset")
    assert stored.record.codec == "parquet/ray"
    assert stored.record.about.rows == ROWS
    assert len(stored.files) == BLOCKS
    assert os.getpid() not in stored.scan().to_table(columns=["worker"])["worker"].to_pylist()
    seen = maintenance.verify(ResultStore(open_store(tmp_path / "store")))
    assert (seen.problems, seen.orphans) == ([], 0)
    warm: Run[Any] = counted.with_options(runner=runner).run_with({"rows": ROWS}, settings=settings)
    assert warm.counts["executed"] == 0
