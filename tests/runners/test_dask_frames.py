"""Dask DataFrames as results of tasks: the cluster's workers write and read their partitions."""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from penstock import INPUTS, flow, task
from penstock.runners import DaskRunner
from penstock.runs import Run
from penstock.settings import load_settings
from penstock.storage import open_store
from penstock.storage.formats.parts.manifests import PartSink, Written, value_files
from penstock.storage.results import maintenance
from penstock.storage.results.store import ResultStore
from penstock.testing.runners import tasks

pytestmark = [pytest.mark.slow, pytest.mark.needs("distributed", "pandas"), pytest.mark.untraced]
PARTITIONS = 6


on_one_slot = pytest.mark.parametrize("cluster", [1], indirect=True)
on_two_as_well = pytest.mark.parametrize("cluster", [1, 2], indirect=True)


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Clusters with one slot, and with two in separate processes."""
    distributed = importlib.import_module("distributed")
    with distributed.LocalCluster(
        n_workers=request.param,
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",
        local_directory=str(tmp_path_factory.mktemp("dask")),
    ) as cluster:
        yield cluster


@task(cache_policy=INPUTS - "log")
def frame(rows: int, log: str) -> Any:
    pd, dd = importlib.import_module("pandas"), importlib.import_module("dask.dataframe")
    tasks.mark(log, "frame")
    whole = dd.from_pandas(pd.DataFrame({"n": range(rows)}), npartitions=PARTITIONS)

    def marked(part: Any, partition: Any = None) -> Any:
        tasks.mark(log, "partition")
        return part.assign(worker=os.getpid())

    return whole.map_partitions(marked, meta=whole._meta.assign(worker=1))


@task(cache_policy=INPUTS - "log")
def total(frame: Any, log: str) -> int:
    tasks.mark(log, "total")
    assert type(frame).__module__.startswith("dask.dataframe")
    return int(frame["n"].sum().compute())


@task(cache_policy=INPUTS)
def rows(frame: ds.Dataset) -> int:
    return int(frame.count_rows())


@flow
def summed(count: int, log: str) -> Any:
    made = frame(count, log)
    return total(made, log), rows(made), made


@pytest.fixture
def log(tmp_path: Path) -> str:
    (tmp_path / "log").mkdir()
    return str(tmp_path / "log")


def run(cluster: Any, tmp_path: Path, log: str) -> Run[Any]:
    settings = load_settings(overrides={"store": str(tmp_path / "store")})
    done: Run[Any] = summed.with_options(runner=DaskRunner(cluster=cluster)).run_with(
        {"count": 600, "log": log}, settings=settings
    )
    done.result()
    return done


@on_two_as_well
def test_partitions_are_written_by_the_workers_and_come_back_as_a_dask_frame(
    cluster: Any, tmp_path: Path, log: str
) -> None:
    done = run(cluster, tmp_path, log)
    sum_, count, again = done.result()
    assert (sum_, count) == (600 * 599 // 2, 600)
    (stored,) = done.stored("frame")
    assert stored.record.codec == "parquet/dask"
    assert len(stored.files) == PARTITIONS == again.npartitions
    pids = set(stored.scan().to_table(columns=["worker"])["worker"].to_pylist())
    assert os.getpid() not in pids
    assert len(pids) == len(cluster.workers)
    assert tasks.marks(log, "partition") == PARTITIONS, "computed once: whoever uses it reads what is stored"
    assert maintenance.verify(ResultStore(open_store(tmp_path / "store"))).orphans == 0

    warm = run(cluster, tmp_path, log)
    assert warm.counts["executed"] == 0
    assert warm.result()[:2] == (sum_, count)
    assert warm.result()[2]["n"].sum().compute() == sum_


@on_one_slot
def test_an_unchanged_frame_cuts_off_what_is_downstream(cluster: Any, tmp_path: Path) -> None:
    pd, dd = importlib.import_module("pandas"), importlib.import_module("dask.dataframe")

    @task(cache_policy=INPUTS)
    def same(odd: int) -> Any:
        return dd.from_pandas(pd.DataFrame({"n": range(100)}), npartitions=4)

    @flow
    def below(odd: int) -> int:
        return rows(same(odd))

    settings = load_settings(overrides={"store": str(tmp_path / "store")})
    on_cluster = below.with_options(runner=DaskRunner(cluster=cluster))
    counts = [on_cluster.run_with({"odd": odd}, settings=settings).by_task()["rows"]["executed"] for odd in (1, 3)]
    assert counts == [1, 0]


@on_one_slot
def test_a_lost_part_is_recomputed_in_the_same_run(cluster: Any, tmp_path: Path, log: str) -> None:
    (stored,) = run(cluster, tmp_path, log).stored("frame")
    results = ResultStore(open_store(tmp_path / "store"))
    for task_name in ("total", "rows"):
        (other,) = run(cluster, tmp_path, log).stored(task_name)
        maintenance.rm(results, other.record.task, other.record.key)
    results.store.delete(value_files(results.store, stored.record)[2].name)
    again = run(cluster, tmp_path, log)
    assert again.result()[:2] == (600 * 599 // 2, 600)
    assert tasks.marks(log, "frame") == 2


@on_one_slot
def test_a_failing_partition_fails_the_task_and_leaves_no_result(cluster: Any, tmp_path: Path) -> None:
    pd, dd = importlib.import_module("pandas"), importlib.import_module("dask.dataframe")

    @task(cache_policy=INPUTS)
    def failing() -> Any:
        def fail(part: Any) -> Any:
            if 3 in part["n"].values:
                raise ZeroDivisionError("of partition 1")
            return part

        whole = dd.from_pandas(pd.DataFrame({"n": range(8)}), npartitions=4)
        return whole.map_partitions(fail, meta=whole._meta)

    @flow
    def of_failing() -> Any:
        return failing()

    settings = load_settings(overrides={"store": str(tmp_path / "store")})
    run = of_failing.with_options(runner=DaskRunner(cluster=cluster)).run_with({}, settings=settings)
    with pytest.raises(ZeroDivisionError, match="of partition 1"):
        run.result()
    assert not run.stored()


@flow
def of_dying(log: str) -> Any:
    return rows(dying(log))


@task(cache_policy=INPUTS)
def dying(log: str) -> Any:
    pd, dd = importlib.import_module("pandas"), importlib.import_module("dask.dataframe")
    coordinator = os.getpid()

    def die_at_the_third(part: Any) -> Any:
        tasks.mark(log, f"by-{os.getpid()}")
        if os.getpid() == coordinator:
            tasks.until_marked(log, "death", 200)
        elif tasks.marks(log, f"by-{os.getpid()}") == 3 and tasks.marks(log, "death") == 0:
            tasks.mark(log, "death")
            os.kill(os.getpid(), signal.SIGKILL)
        return part

    whole = dd.from_pandas(pd.DataFrame({"n": range(60)}), npartitions=12)
    return whole.map_partitions(die_at_the_third, meta=whole._meta)


def test_parts_of_a_dead_worker_are_written_by_another(tmp_path: Path, log: str) -> None:
    distributed, dask = importlib.import_module("distributed"), importlib.import_module("dask")
    settings = load_settings(overrides={"store": str(tmp_path / "store")})
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1h"}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", local_directory=str(tmp_path)
        ) as cluster,
    ):
        done = of_dying.with_options(runner=DaskRunner(cluster=cluster)).run_with({"log": log}, settings=settings)
        assert done.result() == 60
    assert tasks.marks(log, "death") == 1
    (stored,) = done.stored("dying")
    assert stored.scan().to_table()["n"].to_pylist() == list(range(60))
    assert maintenance.verify(ResultStore(open_store(tmp_path / "store"))).orphans == 0


def test_a_part_written_twice_is_stored_once(tmp_path: Path) -> None:
    from penstock.storage.records.names import attempt_prefix

    pa = importlib.import_module("pyarrow")
    store = open_store(tmp_path / "store")
    sink = PartSink(store, attempt_prefix("t", "k", 0, "a"))
    table = pa.table({"a": [1]})
    sink.write(0, table)  # by a worker that died with it
    kept: Written = sink.write(0, table)
    sink.discard(kept=sink.manifest([kept]))
    assert [file.name for file in store.list("results/")] == [f"results/t/k/000000.a.000000-{kept.part.mark}.parquet"]
