"""Tables as Arrow files, on request: as they are in memory, so that files of this machine are mapped, not read."""

from __future__ import annotations

from typing import Any, BinaryIO

from penstock.errors import SerializationError
from penstock.storage.batches import batches_of, is_reader, is_stream
from penstock.storage.parquet import columns_of
from penstock.storage.records import About


class ArrowFileSerializer:
    """pyarrow Tables, RecordBatches and streams of them in the Arrow IPC file format, uncompressed.

    Several times as large as Parquet, and of every type that Arrow has. Read back from a folder of this machine, the
    table is the file, mapped into memory and verified: nothing is copied, and the system loads and drops its pages as
    they are used. A store never changes a file; who else cuts it while it is mapped takes the reader's process down.
    """

    name = "arrow"
    suffix = ".arrow"
    safe = True

    def can(self, value: Any) -> bool:
        if is_reader(value) or is_stream(value):
            return True
        kind = type(value)
        return kind.__module__.partition(".")[0] == "pyarrow" and kind.__name__ in ("Table", "RecordBatch")

    def write(self, value: Any, file: BinaryIO) -> About:
        import pyarrow as pa

        kind = type(value).__name__ if isinstance(value, pa.Table | pa.RecordBatch) else "Table"
        schema, batches = batches_of(value if is_reader(value) or is_stream(value) else iter([value]))
        rows = 0
        options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True, unify_dictionaries=True)
        with pa.ipc.new_file(file, schema, options=options) as writer:
            for batch in batches:
                writer.write(batch)
                rows += batch.num_rows
        return About(type=kind, rows=rows, columns=columns_of(schema))

    def read(self, data: memoryview, about: About, *, limit: int) -> Any:
        import pyarrow as pa

        reader = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(data)))
        batches, size = [], 0
        for number in range(reader.num_record_batches):
            batches.append(reader.get_batch(number))
            size += batches[-1].nbytes
            if size > limit:  # of ours none is larger than its file; another's may be compressed
                raise SerializationError("a table is too large to load", because=f"the limit is {limit} bytes")
        if about.type == "RecordBatch" and len(batches) == 1:
            return batches[0]
        return pa.Table.from_batches(batches, schema=reader.schema)
