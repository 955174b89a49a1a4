"""Ray Datasets in parts: blocks are written and read by Ray's workers, in the order of the dataset.

In a Ray task, another task without processors starts the writing, and the first one waits for it with `ray.get`. Ray
then lends out the processors of the waiting task, so that one is enough for the task and its dataset.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data.block import BlockAccessor

from penstock.storage.formats.arrow.parquet_reading import read_parquet
from penstock.storage.formats.parts.manifests import Manifest, PartSink, StoredParts, Written
from penstock.storage.formats.verified_files import StoredFile
from penstock.storage.records.records import About


def write_parts(value: Any, sink: PartSink) -> tuple[Manifest, str]:
    """Write the blocks of each of Ray's write tasks as a part."""
    if getattr(getattr(ray.get_runtime_context(), "worker", None), "mode", None) != ray.WORKER_MODE:
        return _write_parts(value, sink)
    write: Any = ray.remote(num_cpus=0, max_retries=0)(_write_parts)
    try:
        written: tuple[Manifest, str] = ray.get(write.remote(value, sink))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    return written


def _write_parts(value: Any, sink: PartSink) -> tuple[Manifest, str]:
    written = _Written(sink)
    with _in_order(value):
        value.write_datasink(written)
    parts = written.parts or [sink.write(0, value.schema().base_schema.empty_table())]
    manifest = sink.manifest(parts)
    sink.discard(kept=manifest)  # parts of tasks that Ray started a second time
    return manifest, "Dataset"


def read_parts(parts: StoredParts, about: About) -> Any:
    """Return the lazy dataset, with a block for each part."""
    numbers: Any = ray.data.from_items(list(range(len(parts.files))), override_num_blocks=len(parts.files))
    # Each batch is the number of one block.
    return numbers.map_batches(functools.partial(_read, parts.files), batch_size=None, batch_format="pyarrow")


class _Written(ray.data.Datasink[Sequence[Written]]):
    """Writes the blocks of each write task as one part, and collects the results in the driver."""

    def __init__(self, sink: PartSink) -> None:
        self._sink = sink
        self.parts: list[Written] = []

    def write(self, blocks: Iterable[Any], ctx: Any) -> Sequence[Written]:
        tables = [BlockAccessor.for_block(block).to_arrow() for block in blocks]
        table = pa.concat_tables(tables, promote_options="default") if tables else None
        return () if table is None or not table.schema.names else (self._sink.write(ctx.task_idx, table),)

    def on_write_complete(self, write_result: Any) -> None:
        self.parts = [part for task in write_result.write_returns for part in task]

    def get_name(self) -> str:
        return "Penstock"


@contextlib.contextmanager
def _in_order(dataset: Any) -> Iterator[None]:
    """Make Ray number its write tasks in the order of the dataset's blocks."""
    options = dataset.context.execution_options
    before, options.preserve_order = options.preserve_order, True
    try:
        yield
    finally:
        options.preserve_order = before


def _read(files: Sequence[StoredFile], numbers: Any) -> Iterator[Any]:
    for number in numbers["item"].to_pylist():
        yield read_parquet(files[number].contents(), sys.maxsize)
