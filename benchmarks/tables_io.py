"""Large results: Parquet through the store, paired with bare pyarrow writing and reading the same file."""

from __future__ import annotations

import functools
import itertools
import os
import tempfile
from collections.abc import Iterator

import numpy
import pyarrow
import pyarrow.parquet

from benchmarks.figures import Figure, paired, timed
from penstock import INPUTS, flow, load_settings, task
from penstock.storage import open_store
from penstock.storage.results import maintenance
from penstock.storage.results.generations import Found
from penstock.storage.results.store import ResultStore

ROWS = 3_000_000


@functools.cache
def table() -> pyarrow.Table:
    """Around 90 MB in memory: integers, floats and short strings."""
    rng = numpy.random.default_rng(7)
    return pyarrow.table(
        {
            "id": numpy.arange(ROWS),
            "group": rng.integers(0, 1000, ROWS),
            "value": rng.normal(size=ROWS),
            "label": pyarrow.array([f"label-{i % 500}" for i in range(ROWS)]).dictionary_encode(),
        }
    )


def run() -> Iterator[Figure]:
    data = table()
    with tempfile.TemporaryDirectory() as folder:
        results = ResultStore(open_store(f"{folder}/store"))
        bare_file = os.path.join(folder, "bare.parquet")
        number = itertools.count()

        settings = load_settings(overrides={"store": f"{folder}/store", "runner": "threads?workers=1"})

        @task(cache_policy=INPUTS)
        def made(number: int) -> pyarrow.Table:
            return table()  # a closure over the table would make it part of the key

        @flow
        def publishing(number: int) -> None:
            made(number)

        def publish() -> None:
            run = publishing.run_with({"number": next(number)}, settings=settings)
            assert run.result() is None
            assert run.counts["executed"] == 1

        def bare_write() -> None:
            with open(bare_file, "wb") as file:
                pyarrow.parquet.write_table(data, file, compression="zstd")
                file.flush()
                os.fsync(file.fileno())

        publish()
        record = next(iter(maintenance.ls(results)))
        found = results.look_up(record.task, record.key)
        assert isinstance(found, Found)
        ours, bare, ratio = paired(publish, bare_write, times=9)
        load, read, read_ratio = paired(
            lambda: results.load(found.record), lambda: pyarrow.parquet.read_table(bare_file), times=9
        )
    what = f"a flow whose task returns a table of {data.nbytes / 2**20:.0f} MiB: run, digest, publish"
    yield timed("write", what, ours, unit="ms")
    yield timed("write.bare", "bare pyarrow, same file, synced", bare, unit="ms", better="beside")
    yield Figure("write.speed", "  speed against bare pyarrow", 100 / ratio, "%", "higher", 90)
    yield timed("read", "load, size and checksum verified", load, unit="ms")
    yield timed("read.bare", "bare pyarrow, read", read, unit="ms", better="beside")
    yield Figure("read.speed", "  speed against bare pyarrow", 100 / read_ratio, "%", "higher")
