"""A store in a bucket: planning cached nodes, and tables against bare pyarrow and s3fs, on a real S3 server here.

The server is Ceph, started from packages without root; it shares the processors with what is measured.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet

from benchmarks.figures import Figure, paired, spend, timed
from benchmarks.tables_io import table
from benchmarks.warm import many
from penstock import load_settings
from penstock.storage import open_store
from penstock.storage.results.generations import Absent, Found
from penstock.storage.results.store import ResultStore
from tests.servers.ceph import running
from tests.servers.proxy import FaultProxy
from tests.servers.redis import running as redis_running

NODES = 10_000
COUNTED = 500


def run() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as ceph:
        os.environ.update(ceph.endpoint.environment())
        settings = load_settings(
            overrides={"store": f"s3://{ceph.endpoint.new_bucket()}", "runner": "threads?workers=16"}
        )
        cold = spend(lambda: many.run_with({"n": NODES}, settings=settings).result(), times=1)
        warm = spend(lambda: many.plan_with({"n": NODES}, settings=settings), times=2)
        with FaultProxy(ceph.endpoint.url) as proxy, redis_running() as server:
            counted = settings.with_values(store=f"{settings.store}?endpoint_url={proxy.url}")
            many.plan_with({"n": COUNTED}, settings=counted)
            requests = len(proxy.seen) / COUNTED
            with_index = settings.with_values(index=server.url)
            filled = spend(lambda: many.plan_with({"n": NODES}, settings=with_index), times=1)
            indexed = spend(lambda: many.plan_with({"n": NODES}, settings=with_index), times=3)
            before = len(proxy.seen)
            many.plan_with({"n": NODES}, settings=counted.with_values(index=server.url))
            through_index = len(proxy.seen) - before
        yield timed("run", f"{NODES:,} small tasks run and published, 16 threads", cold)
        yield timed("plan", f"plan of {NODES:,} cached nodes", warm)
        yield Figure("plan.requests", "  requests for each node", requests)
        yield timed("plan.filling", "  with an index in Redis that was empty", filled)
        yield timed("plan.index", "  with an index in Redis that was filled", indexed, promise=2.0)
        yield Figure("plan.index.requests", "  requests for all of them, with the index", through_index)
        yield from _tables(f"s3://{ceph.endpoint.new_bucket()}")


def _tables(address: str) -> Iterator[Figure]:
    import s3fs

    data, number, results = table(), itertools.count(), ResultStore(open_store(address))
    bare_path = f"{address.removeprefix('s3://')}/bare.parquet"
    fs = s3fs.S3FileSystem()

    def publish() -> None:
        key = f"key {next(number) % 3}"
        after = results.look_up("task", key)
        results.publish("task", key, data, after=after, attempt=os.urandom(8).hex(), digest="d")
        results.store.delete(after.record.payload_name or "") if isinstance(after, Found) else None

    def bare_write() -> None:
        with fs.open(bare_path, "wb") as file:
            pyarrow.parquet.write_table(data, file, compression="zstd")

    assert isinstance(results.look_up("task", "key 0"), Absent)
    publish()
    found = results.look_up("task", "key 0")
    assert isinstance(found, Found)
    next(number), next(number)
    ours, _, ratio = paired(publish, bare_write)
    found = results.look_up("task", "key 0")
    assert isinstance(found, Found)
    load, _, read_ratio = paired(
        lambda: results.load(found.record), lambda: pyarrow.parquet.read_table(fs.open(bare_path))
    )
    what = f"a table of {data.nbytes / 2**20:.0f} MiB published, checksum included"
    yield timed("write", what, ours, unit="ms")
    yield Figure("write.speed", "  speed against pyarrow and s3fs", 100 / ratio, "%", "higher")
    yield timed("read", "loaded and verified", load, unit="ms")
    yield Figure("read.speed", "  speed against pyarrow and s3fs", 100 / read_ratio, "%", "higher")
