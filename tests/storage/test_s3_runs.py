"""Whole runs on a bucket of a real S3 server: every runner, shared keys, outages, the command line, other readers."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from penstock import INPUTS, flow, task
from penstock.cli.main import main
from penstock.errors import PenstockError, StoreUnreachable
from penstock.journals.journal import read_events
from penstock.runners import DaskRunner, runner_from
from penstock.storage import open_store
from penstock.storage.results.maintenance import gc, ls, verify
from penstock.storage.results.store import ResultStore
from penstock.testing.runners import tasks
from tests.amounts import amount
from tests.servers.fixtures import Bucket
from tests.servers.proxy import FaultProxy

pytestmark = [pytest.mark.needs("s3fs", "boto3"), pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.untraced]

double = tasks.double.with_options(cache_policy=INPUTS - "log")
total = tasks.total.with_options(cache_policy=INPUTS - "log")


@contextlib.contextmanager
def _runner(kind: str, folder: Path) -> Iterator[Any]:
    if kind != "dask":
        yield runner_from(f"{kind}?workers=2")
        return
    distributed = importlib.import_module("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", local_directory=str(folder)
    ) as cluster:
        yield DaskRunner(cluster=cluster)


@pytest.mark.parametrize("kind", ["threads", "processes", pytest.param("dask", marks=pytest.mark.needs("distributed"))])
def test_a_second_run_and_another_pipeline_find_what_the_first_published(
    kind: str, bucket: Bucket, tmp_path: Path
) -> None:
    log = str(tmp_path)

    def sums(n: int) -> int:
        return total(log, [double(log, i) for i in range(n)])

    def others(n: int) -> list[int]:
        return [double(log, i) for i in range(n)]

    with _runner(kind, tmp_path) as runner:
        first, other = (flow(each).with_options(runner=runner, result_storage=bucket.url) for each in (sums, others))
        cold, warm, shared = first.run(8), first.run(8), other.run(9)
        assert cold.result() == warm.result() == 56
        assert shared.result() == [2 * i for i in range(9)]
    assert cold.counts["executed"] == 9
    assert (warm.counts["executed"], warm.counts["hit"]) == (0, 1)
    assert (shared.counts["executed"], shared.counts["hit"]) == (1, 8)


def test_the_log_of_a_run_is_in_the_bucket(bucket: Bucket, tmp_path: Path) -> None:
    @flow(result_storage=bucket.url)
    def one() -> int:
        return double(str(tmp_path), 1)

    run = one.run()
    kinds = [type(event).__name__ for event in read_events(open_store(bucket.url), run.id)]
    assert kinds[0] == "RunStarted"
    assert kinds[-1] == "RunFinished"


RACERS = amount(here=4, in_ci=8)
MORE_RACERS = [pytest.param(*each, marks=pytest.mark.evidence) for each in [(16, "flow"), (64, "results")]]


@pytest.mark.parametrize(
    ("processes", "how"),
    [(RACERS, "flow"), (2 * RACERS, "results"), *MORE_RACERS],
)
def test_processes_that_race_for_50_keys_all_get_the_same_bytes(processes: int, how: str, bucket: Bucket) -> None:
    # 32 whole runs would take minutes on a small machine because of the other requests that each makes.
    program = str(Path(__file__).with_name("programs_race.py"))
    open_store(bucket.url).put_if_absent("tried", b"")  # otherwise each of them would probe what the bucket enforces
    # Sixteen traced processes would be so slow that their requests to the one server reach their deadlines.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    racers = subprocess.Popen(
        [sys.executable, program, bucket.url, str(processes), how],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        answers, _ = racers.communicate(timeout=800)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(racers.pid, signal.SIGKILL)
        racers.wait()
    assert racers.returncode == 0
    seen = [json.loads(answer) for answer in answers.splitlines()]
    assert len(seen) == processes
    values = seen[0]["values"]
    assert len(set(values)) == 50
    assert [each["values"] for each in seen] == [values] * processes
    results = ResultStore(open_store(bucket.url))
    published = list(ls(results))
    assert [each.generation for each in published] == [0] * 50
    if how == "results":
        assert sum(each["won"] for each in seen) == 50
        assert {results.look_up("noise", each.key).record.digest for each in published} == set(values)  # type: ignore[union-attr]
    gc(results, grace_seconds=0.0)
    report = verify(results)
    assert (report.records, report.problems, report.orphans) == (50, [], 0)


# -- outages


def test_a_bucket_unreachable_in_mid_run_is_one_clear_error_and_the_next_run_continues(
    bucket: Bucket, proxy: FaultProxy, tmp_path: Path
) -> None:
    ran: list[int] = []

    @task(cache_policy=INPUTS, key_name="step")
    def step(n: int) -> int:
        ran.append(n)
        if n == 3 and ran.count(3) == 1:
            proxy.fault("drop", times=1_000_000)
        return n + 1

    @flow(result_storage=bucket.url, runner="threads?workers=1")
    def chain() -> int:
        value = 0
        for _ in range(6):
            value = step(value)
        return value

    with pytest.raises(PenstockError) as caught:
        chain()
    assert isinstance(caught.value, StoreUnreachable)
    proxy.heal()
    results = ResultStore(open_store(bucket.url))
    assert verify(results).problems == []
    before = len(ran)
    run = chain.run()
    assert run.result() == 6
    assert ran[before:] == [3, 4, 5]


def test_a_missing_bucket_is_reported_before_anything_runs(bucket: Bucket) -> None:
    ran: list[int] = []

    @task(cache_policy=INPUTS, key_name="step")
    def step(n: int) -> int:
        ran.append(n)
        return n

    @flow(result_storage="s3://no-such-bucket-here/store")
    def one() -> int:
        return step(1)

    with pytest.raises(PenstockError, match="no bucket no-such-bucket-here"):
        one()
    assert ran == []


# -- the command line


def test_the_commands_of_the_cache_work_on_a_bucket(bucket: Bucket, tmp_path: Path) -> None:
    @flow(result_storage=bucket.url)
    def some() -> list[int]:
        return [double(str(tmp_path), i) for i in range(3)]

    some()

    def penstock(*words: str) -> Any:
        answer = CliRunner().invoke(main, ["cache", *words, "--store", bucket.url, "--json"])
        assert answer.exit_code == 0, answer.output
        return json.loads(answer.stdout)

    keys = [each["key"] for each in penstock("ls")["results"]]
    assert len(keys) == 3
    assert penstock("show", keys[0])["record"]["key"] == keys[0]
    assert [each["results"] for each in penstock("du")["tasks"].values()] == [3]
    assert penstock("verify")["problems"] == []
    assert penstock("rm", keys[0], "--yes")["removed"] == 1
    assert penstock("gc", "--grace", "0")["payloads"] == 0
    assert penstock("copy", str(tmp_path / "copy"))["results"] == 2
    assert len(list(ls(ResultStore(open_store(tmp_path / "copy"))))) == 2
    back = CliRunner().invoke(main, ["cache", "copy", bucket.url, "--store", str(tmp_path / "copy")])
    assert "copied 0 results" in back.output


def test_doctor_reports_what_the_bucket_enforces(bucket: Bucket) -> None:
    answer = CliRunner().invoke(main, ["doctor", "--store", bucket.url, "--locks", "memory", "--json"])
    checks = {each["name"]: each for each in json.loads(answer.stdout)["checks"]}
    assert checks["store writes"]["state"] == "ok"
    assert "concurrent writers wins" in checks["store writes"]["said"]
    assert checks["store versions"]["state"] == "ok"


# -- other readers


@task(cache_policy=INPUTS)
def table(rows: int) -> Any:
    pyarrow = importlib.import_module("pyarrow")
    return pyarrow.table({"n": list(range(rows)), "text": [f"row {i}" for i in range(rows)]})


@pytest.fixture
def path(bucket: Bucket) -> str:
    """Return the path of a stored table, as printed by `cache show`."""

    @flow(result_storage=bucket.url)
    def one() -> Any:
        return table(1000)

    one()
    (summary,) = ls(ResultStore(open_store(bucket.url)))
    answer = CliRunner().invoke(main, ["cache", "show", summary.key, "--store", bucket.url, "--json"])
    said: str = json.loads(answer.stdout)["path"]
    assert said.startswith(f"s3://{bucket.name}/a store/results/")
    return said


@pytest.mark.needs("duckdb")
def test_duckdb_can_read_a_result_by_its_path(path: str, bucket: Bucket) -> None:
    duckdb, s3fs = importlib.import_module("duckdb"), importlib.import_module("s3fs")
    with duckdb.connect() as connection:
        connection.register_filesystem(s3fs.S3FileSystem())
        assert connection.execute(f"select sum(n), count(*) from '{path}'").fetchall() == [(499_500, 1000)]


@pytest.mark.needs("pandas")
def test_pandas_can_read_a_result_by_its_path(path: str) -> None:
    frame = importlib.import_module("pandas").read_parquet(path)
    assert list(frame["n"]) == list(range(1000))


@pytest.mark.needs("polars")
def test_polars_can_read_a_result_by_its_path(path: str, bucket: Bucket) -> None:
    frame = importlib.import_module("polars").read_parquet(
        path,
        storage_options={
            "aws_endpoint_url": bucket.endpoint.url,
            "aws_access_key_id": bucket.endpoint.access_key,
            "aws_secret_access_key": bucket.endpoint.secret_key,
            "aws_region": "us-east-1",
            "aws_allow_http": "true",
        },
    )
    assert frame["text"][999] == "row 999"


def test_boto3_can_read_a_result_by_its_path(path: str, bucket: Bucket) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    key = path.removeprefix(f"s3://{bucket.name}/")
    data = bucket.endpoint.client().get_object(Bucket=bucket.name, Key=key)["Body"].read()
    assert parquet.read_table(pa.BufferReader(data)).num_rows == 1000
