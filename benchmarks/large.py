"""Results larger than a worker may be: streamed into a bucket, paired with bare pyarrow over s3fs, and scanned there.

A task on a worker process yields batches, and both write the same ones, in the same process, into the same bucket. The
server is Ceph, started from packages without root; it shares the processors with what is measured.
"""

from __future__ import annotations

import functools
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow

from benchmarks.figures import Figure, paired, spend, timed
from penstock import INPUTS, flow, load_settings, task
from penstock.runners import DaskRunner
from penstock.storage import open_store
from penstock.storage.results.store import ResultStore
from tests.servers.ceph import running
from tests.storage.counting import Counting

BATCH_ROWS = 1 << 20
BATCHES = 64
"""Of a table of 2 GiB."""
PAIRED_BATCHES = 16
PAIRS = 5
COLUMNS = 20
WIDE_ROWS = 1 << 21
GIGABYTES = 8
"""What the server holds."""


@functools.cache
def _block() -> dict[str, Any]:
    """32 MiB that compress as usual tables do: integers, floats, a few labels."""
    import numpy

    rng = numpy.random.default_rng(7)
    return {
        "id": numpy.arange(BATCH_ROWS),
        "group": rng.integers(0, 1000, BATCH_ROWS),
        "value": rng.normal(size=BATCH_ROWS),
        "amount": numpy.round(rng.gamma(2.0, 50.0, BATCH_ROWS), 2),
    }


def batches(count: int) -> Iterator[pyarrow.RecordBatch]:
    """Batches of a table, each made when it is wanted."""
    for number in range(count):
        block = dict(_block())
        block["id"] = block["id"] + number * BATCH_ROWS
        yield pyarrow.record_batch(block)


@task(cache_policy=INPUTS)
def table(count: int, number: int) -> Iterator[pyarrow.RecordBatch]:
    yield from batches(count)


@flow
def publishing(count: int, number: int) -> None:
    table(count, number)


@task(cache_policy=INPUTS)
def wide(rows: int) -> Iterator[pyarrow.RecordBatch]:
    import numpy

    rng = numpy.random.default_rng(7)
    for _ in range(4):
        yield pyarrow.record_batch({f"c{n}": rng.normal(size=rows // 4) for n in range(COLUMNS)})


@flow
def publishing_wide(rows: int) -> None:
    wide(rows)


def write_bare(path: str, count: int) -> None:
    """What one would write without Penstock."""
    import pyarrow.parquet
    import s3fs

    batch = next(batches(1))
    fs = s3fs.S3FileSystem()
    with (
        fs.open(path, "wb") as file,
        pyarrow.parquet.ParquetWriter(file, batch.schema, compression="zstd") as writer,
    ):
        for batch in batches(count):
            writer.write(batch)


def reset_peak() -> None:
    """`peak` is of the time from now on."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """The most memory this process had since, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def run() -> Iterator[Figure]:
    import distributed

    with tempfile.TemporaryDirectory() as folder, running(Path(folder), gigabytes=GIGABYTES) as ceph:
        os.environ.update(ceph.endpoint.environment())
        with distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, memory_limit=0, dashboard_address="127.0.0.1:0", local_directory=folder
        ) as cluster:
            client = distributed.Client(cluster)
            try:
                yield from _measured(client, ceph.endpoint.new_bucket())
            finally:
                client.close()


def _measured(client: Any, bucket: str) -> Iterator[Figure]:
    settings = load_settings(overrides={"store": f"s3://{bucket}/store"})
    onto = DaskRunner(client=client)
    number = itertools.count()

    def publish(count: int) -> None:
        import s3fs

        run = publishing.with_options(runner=onto).run_with({"count": count, "number": next(number)}, settings=settings)
        run.result()
        assert run.counts["executed"] == 1
        (stored,) = run.stored()
        assert stored.record.about.rows == count * BATCH_ROWS
        sizes.append(stored.record.size)
        s3fs.S3FileSystem().rm_file(stored.url)  # or the server would be full

    def bare(count: int) -> None:
        client.submit(write_bare, f"{bucket}/bare.parquet", count, pure=False).result()

    sizes: list[int] = []
    publish(1)
    bare(1)
    ours, theirs, ratio = paired(lambda: publish(PAIRED_BATCHES), lambda: bare(PAIRED_BATCHES), times=PAIRS)
    mebibytes = sum(batch.nbytes for batch in batches(1)) / 2**20
    what = f"a table of {mebibytes * PAIRED_BATCHES:,.0f} MiB yielded by a task, published"
    yield timed("stream", what, ours)
    what = "bare pyarrow.parquet.ParquetWriter over s3fs, same batches"
    yield timed("stream.bare", what, theirs, better="beside")
    what = f"  speed against it, median of {PAIRS} pairs"
    yield Figure("stream.speed", what, 100 / ratio, "%", "higher", 90)
    client.run(reset_peak)
    before = next(iter(client.run(peak).values()))
    whole = spend(lambda: publish(BATCHES), times=1)
    most = next(iter(client.run(peak).values()))
    bare_whole = spend(lambda: bare(BATCHES), times=1)
    what = f"a table of {mebibytes * BATCHES:,.0f} MiB, {sizes[-1] / 2**20:,.0f} MiB stored"
    yield timed("whole", what, whole)
    yield timed("whole.bare", "  bare", bare_whole, better="beside")
    yield Figure("whole.before", "  memory of the worker before", before / 2**20, "MiB", "beside")
    yield Figure("whole.memory", "  memory of the worker, at most", most / 2**20, "MiB", promise=512)
    yield from _scanned(client, settings)


def _scanned(client: Any, settings: Any) -> Iterator[Figure]:
    """Two of twenty columns, read lazily."""
    import pyarrow.dataset
    import s3fs

    run = publishing_wide.with_options(runner=DaskRunner(client=client)).run_with(
        {"rows": WIDE_ROWS}, settings=settings
    )
    run.result()
    (stored,) = run.stored()
    wanted = {"columns": ["c3", "c11"]}
    counting: Any = Counting(open_store(settings.store))
    assert ResultStore(counting).scan(stored.record).to_table(**wanted).num_rows == WIDE_ROWS
    path = (stored.url or "").removeprefix("s3://")
    ours, _, ratio = paired(
        lambda: stored.scan().to_table(**wanted),
        lambda: pyarrow.dataset.dataset(path, filesystem=s3fs.S3FileSystem()).to_table(**wanted),
    )
    share = 100 * counting.bytes / stored.record.size
    what = f"2 of {COLUMNS} columns scanned, of {stored.record.size / 2**20:,.0f} MiB"
    yield timed("scan", what, ours, unit="ms")
    yield Figure("scan.speed", "  speed against pyarrow.dataset over s3fs", 100 / ratio, "%", "higher")
    yield Figure("scan.bytes", "  of the bytes read", share, "%", promise=25)
