"""Arrow files: written as a stream, mapped into memory instead of read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from penstock.errors import DamagedResult, SerializationError
from penstock.storage import LocalStore, MemoryStore, open_store
from penstock.storage.formats.hashing_file import HashedFile
from penstock.storage.records.records import ResultRecord
from penstock.storage.results.generations import Absent
from penstock.storage.results.store import Published, ResultStore
from tests.storage.counting import Counting

TABLE = pa.table({"n": range(400_000), "x": [n * 0.37 for n in range(400_000)], "s": ["a", None, "c", "d"] * 100_000})


def publish(results: ResultStore, value: Any) -> ResultRecord:
    done = results.publish("t", "k", value, after=Absent(0, "never"), attempt="a", digest="d", serializer="arrow")
    assert isinstance(done, Published)
    return done.record


@pytest.fixture
def results(tmp_path: Path) -> ResultStore:
    return ResultStore(LocalStore(tmp_path))


@pytest.mark.parametrize("kind", ["table", "batch", "stream", "reader", "empty"])
@pytest.mark.parametrize("make", [lambda folder: MemoryStore(), open_store])
def test_a_table_is_restored_with_its_type(tmp_path: Path, make: Any, kind: str) -> None:
    results = ResultStore(make(tmp_path))
    values: dict[str, Any] = {
        "table": TABLE,
        "batch": TABLE.to_batches()[0],
        "stream": (TABLE.slice(n, 1_000) for n in range(0, TABLE.num_rows, 1_000)),
        "reader": TABLE.to_reader(),
        "empty": TABLE.slice(0, 0),
    }
    record = publish(results, values[kind])
    assert record.codec == "arrow"
    wanted = {"batch": TABLE.to_batches()[0], "empty": TABLE.slice(0, 0)}.get(kind, TABLE)
    again = results.load(record)
    assert type(again) is type(wanted)
    assert again.equals(wanted)
    assert results.scan(record).to_table(columns=["s"]).equals(pa.table({"s": wanted["s"]}))


def test_types_that_parquet_loses_are_kept(results: ResultStore) -> None:
    odd = pa.table(
        {
            "union": pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])]),
            "ended": pa.RunEndEncodedArray.from_arrays([2], [7]),
            "view": pa.array(["a", "b"], pa.string_view()),
        }
    )
    assert results.load(publish(results, odd)).equals(odd)


def test_a_table_on_this_machine_is_mapped_not_copied(results: ResultStore) -> None:
    record = publish(results, TABLE)
    before = pa.total_allocated_bytes()
    for _ in range(2):
        again = results.load(record)
        scanned = results.scan(record).to_table()
    assert pa.total_allocated_bytes() - before < TABLE.nbytes / 20
    assert again.equals(TABLE)
    assert scanned.equals(TABLE)


def test_a_mapped_table_outlives_its_file(results: ResultStore) -> None:
    record = publish(results, TABLE)
    again = results.load(record)
    results.store.delete(record.payload_name or "")
    assert again.equals(TABLE)


def test_only_the_requested_columns_are_read(tmp_path: Path) -> None:
    counting: Any = Counting(open_store(tmp_path))
    results = ResultStore(counting)
    wide = pa.table({f"c{n}": range(n, n + 50_000) for n in range(20)})
    record = publish(results, wide)
    assert results.scan(record).to_table(columns=["c3", "c11"]).equals(wide.select(["c3", "c11"]))
    assert counting.bytes < record.size / 4


def test_loading_and_scanning_notice_a_changed_byte(results: ResultStore) -> None:
    record = publish(results, TABLE)
    with results.store.open(record.payload_name or "") as file:
        data = bytearray(file.read())
    data[len(data) // 2] ^= 1
    results.store.delete(record.payload_name or "")
    with results.store.create(record.payload_name or "") as out:
        out.write(data)
    with pytest.raises(DamagedResult):
        results.load(record)
    with pytest.raises(DamagedResult, match="another checksum"):
        results.scan(record).to_table(columns=["n"])


def test_a_value_that_is_not_arrow_is_refused(results: ResultStore) -> None:
    with pytest.raises(SerializationError, match="'arrow' cannot store this list"):
        publish(results, [1])


def test_a_compressed_file_cannot_unpack_to_more_than_the_limit(tmp_path: Path) -> None:
    record = publish(ResultStore(LocalStore(tmp_path)), TABLE)
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(sink, TABLE.schema, options=options) as writer:
        for start in range(0, TABLE.num_rows, 50_000):
            writer.write(TABLE.slice(start, 50_000))
    from penstock.storage.formats.arrow.ipc import ArrowFileSerializer

    data = memoryview(sink.getvalue())
    assert ArrowFileSerializer().read(data, record.about, limit=2 * TABLE.nbytes).equals(TABLE)
    with pytest.raises(SerializationError, match="too large"):
        ArrowFileSerializer().read(data, record.about, limit=TABLE.nbytes // 2)


def test_a_stream_is_written_as_it_arrives(results: ResultStore) -> None:
    before, most, rows = pa.total_allocated_bytes(), 0, 1 << 19

    def stream() -> Iterator[pa.RecordBatch]:
        nonlocal most
        for number in range(20):
            yield pa.record_batch({"n": pa.repeat(number, rows)})
            most = max(most, pa.total_allocated_bytes() - before)

    record = publish(results, stream())
    assert record.size > 20 * rows * 8
    assert most < 4 * rows * 8


def test_little_of_a_large_write_waits_in_memory() -> None:
    """A slow store gets it in small parts."""

    class Slow:
        most = 0

        def write(self, data: Any) -> int:
            self.most = max(self.most, len(data))
            return len(data)

    slow: Any = Slow()
    file = HashedFile(slow)
    file.write(bytes(1 << 20))
    file.write(bytes(64 << 20))
    file.finish()
    assert file.size == 65 << 20
    assert slow.most <= 2 << 20
