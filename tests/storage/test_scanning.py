"""Stored tables as pyarrow Datasets: only what is needed is read, through the store, and damage is noticed."""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest

from penstock.errors import DamagedResult, SerializationError
from penstock.storage import MemoryStore, Store, open_store
from penstock.storage.formats.arrow import filesystem as arrow_files
from penstock.storage.formats.arrow.filesystem import filesystem_of, path_of
from penstock.storage.formats.parts.manifests import payload_file
from penstock.storage.formats.parts.scanning import dataset_of_value
from penstock.storage.records.records import ResultRecord
from penstock.storage.results.generations import Absent
from penstock.storage.results.store import Published, ResultStore
from penstock.storage.results.stored import StoredResult, find_stored
from tests.servers.fixtures import Bucket
from tests.storage.counting import Counting

COLUMNS = [f"c{number}" for number in range(20)]


def noise(rows: int) -> pa.Table:
    """Twenty columns that do not compress."""
    state = 88172645463325252
    words = []
    for _ in range(1024):
        state ^= (state << 13) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 7
        state ^= (state << 17) & 0xFFFFFFFFFFFFFFFF
        words.append(state >> 1)
    base = pa.array(words)
    column = pc.multiply(pc.take(base, pa.array([n % 1024 for n in range(rows)])), 1)
    row = pa.array(range(rows))
    return pa.table({name: pc.bit_wise_xor(column, pc.multiply(row, 7919 * (n + 1))) for n, name in enumerate(COLUMNS)})


def publish(results: ResultStore, value: Any, key: str = "k", **more: Any) -> ResultRecord:
    done = results.publish("t", key, value, after=Absent(0, "never"), attempt="a", digest="d", **more)
    assert isinstance(done, Published)
    return done.record


@pytest.fixture
def results(tmp_path: Path) -> ResultStore:
    return ResultStore(open_store(tmp_path / "store"))


# -- what is read


def check_two_columns_of_twenty(store: Store) -> None:
    counting: Any = Counting(store)
    results = ResultStore(counting)
    table = noise(50_000)
    record = publish(results, table)
    assert record.size > 4_000_000
    dataset = results.scan(record)
    assert counting.bytes < record.size / 20, "what says which columns there are"
    assert dataset.schema.names == COLUMNS
    assert dataset.to_table(columns=["c3", "c11"]).equals(table.select(["c3", "c11"]))
    assert 0 < counting.bytes < record.size / 4


def test_two_columns_of_twenty_take_less_than_a_quarter_of_the_bytes(tmp_path: Path) -> None:
    check_two_columns_of_twenty(open_store(tmp_path))


@pytest.mark.slow
@pytest.mark.needs("s3fs", "boto3")
def test_two_columns_of_twenty_take_less_than_a_quarter_of_the_bytes_of_a_bucket(bucket: Bucket) -> None:
    check_two_columns_of_twenty(open_store(bucket.url))


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel how much was read")
def test_files_of_this_machine_are_read_directly_and_only_as_needed(results: ResultStore) -> None:
    def read_by_this_process() -> int:
        return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])

    record = publish(results, noise(50_000))
    before = read_by_this_process()
    results.scan(record).to_table(columns=["c3", "c11"])
    assert record.size / 20 < read_by_this_process() - before < record.size / 4


def test_filtered_rows_are_not_read(tmp_path: Path) -> None:
    counting: Any = Counting(open_store(tmp_path))
    results = ResultStore(counting)
    table = noise(40_000).append_column("n", pa.array(range(40_000)))
    record = publish(results, (table.slice(start, 2_500) for start in range(0, 40_000, 2_500)))
    found = results.scan(record).to_table(filter=ds.field("n") >= 39_000)
    assert found.num_rows == 1_000
    assert counting.bytes < record.size / 4


# -- what can be scanned


@pytest.mark.parametrize("kind", ["table", "batch", "stream", "pandas", "polars", "parts"])
def test_every_stored_table_can_be_scanned(results: ResultStore, kind: str) -> None:
    table = pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})
    make: dict[str, Callable[[], Any]] = {
        "table": lambda: table,
        "batch": lambda: table.to_batches()[0],
        "stream": lambda: iter(table.to_batches()),
        "parts": lambda: iter(table.to_batches()),
        "pandas": lambda: pytest.importorskip("pandas") and table.to_pandas(),
        "polars": lambda: pytest.importorskip("polars").from_arrow(table),
    }
    record = publish(results, make[kind](), serializer="parquet/dataset" if kind == "parts" else None)
    assert results.scan(record).to_table(columns=["a"]).to_pydict() == {"a": [1, 2, 3]}
    assert results.scan(record).to_table(columns=["b"])["b"].to_pylist() == ["x", None, "z"]


@pytest.mark.parametrize("value", [{"a": 1}, b"x" * 100_000, list(range(10_000))])
def test_the_error_for_a_value_that_is_not_a_table_names_its_format(results: ResultStore, value: Any) -> None:
    record = publish(results, value)
    with pytest.raises(SerializationError, match="cannot be scanned") as caught:
        results.scan(record)
    assert record.codec in caught.value.because


def test_a_table_in_memory_can_become_a_dataset_too() -> None:
    table = pa.table({"a": [1]})
    for value in (table, table.to_batches()[0], table.to_batches(), ds.dataset(table)):
        assert dataset_of_value(value).to_table().equals(table)
    with pytest.raises(SerializationError, match="int cannot be scanned"):
        dataset_of_value(1)


def test_a_dataset_is_pickled_as_an_address(results: ResultStore) -> None:
    dataset = results.scan(publish(results, noise(1_000)))
    again = pickle.loads(pickle.dumps(dataset))
    assert again.to_table().equals(dataset.to_table())


@pytest.mark.slow
@pytest.mark.needs("s3fs", "boto3")
def test_a_dataset_in_a_bucket_is_pickled_without_credentials(bucket: Bucket) -> None:
    results = ResultStore(open_store(bucket.url))
    data = pickle.dumps(results.scan(publish(results, noise(1_000))))
    assert bucket.endpoint.secret_key.encode() not in data
    assert pickle.loads(data).count_rows() == 1_000


# -- damage


def replace(store: Store, name: str, change: Callable[[bytes], bytes | None]) -> None:
    with store.open(name) as file:
        data = change(file.read())
    store.delete(name)
    if data is not None:
        with store.create(name) as out:
            out.write(data)


@pytest.mark.parametrize("make", [lambda folder: MemoryStore(), open_store])
@pytest.mark.parametrize("serializer", [None, "parquet/dataset"])
@pytest.mark.parametrize("damage", ["gone", "cut", "longer"])
def test_a_missing_or_resized_file_is_noticed_before_it_is_read(
    tmp_path: Path, make: Callable[[Path], Any], serializer: str | None, damage: str
) -> None:
    results = ResultStore(make(tmp_path))
    record = publish(results, iter(noise(1_000).to_batches()), serializer=serializer)
    change: dict[str, Callable[[bytes], bytes | None]] = {
        "gone": lambda data: None,
        "cut": lambda data: data[:-1],
        "longer": lambda data: data + b"x",
    }
    (name,) = [f.name for f in results.store.list("results/") if f.name.endswith(".parquet")]
    replace(results.store, name, change[damage])
    with pytest.raises(DamagedResult) as caught:
        results.scan(record)
    assert caught.value.data == {"gone": damage == "gone", "closed": False}


@pytest.mark.parametrize("make", [lambda folder: MemoryStore(), open_store])
def test_any_reader_notices_a_changed_page(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    results = ResultStore(make(tmp_path))
    table = pa.table({"a": list(range(100_000)), "b": [n * 0.37 for n in range(100_000)]})
    record = publish(results, table)
    assert record.payload_name is not None

    def change(data: bytes) -> bytes:
        return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 0xFF]) + data[len(data) // 2 + 1 :]

    replace(results.store, record.payload_name, change)
    dataset = results.scan(record)
    assert dataset.to_table(columns=["a"])["a"].to_pylist() == table["a"].to_pylist()
    with pytest.raises(OSError, match="CRC checksum verification failed"):
        dataset.to_table(columns=["b"])


def test_an_unreadable_footer_is_damage(results: ResultStore) -> None:
    record = publish(results, noise(1_000))
    replace(results.store, record.payload_name or "", lambda data: data[:-1] + b"x")
    with pytest.raises(DamagedResult, match="another checksum"):
        results.scan(record)


def test_a_file_that_disappears_during_a_scan_is_damage() -> None:
    results = ResultStore(MemoryStore())
    record = publish(results, noise(1_000))
    dataset = results.scan(record)
    results.store.delete(record.payload_name or "")
    with pytest.raises(DamagedResult, match="is damaged"):
        ds.dataset(next(iter(dataset.get_fragments())).path, filesystem=dataset.filesystem).to_table()


def test_a_local_file_that_disappears_during_a_scan_is_pyarrows_error(results: ResultStore) -> None:
    record = publish(results, noise(1_000))
    dataset = results.scan(record)
    results.store.delete(record.payload_name or "")
    with pytest.raises(FileNotFoundError):
        dataset.to_table()


# -- files held by pyarrow's threads


def open_one(results: ResultStore) -> list[Any]:
    record = publish(results, noise(100))
    return [filesystem_of(results.store).open_input_file(path_of(payload_file(results.store, record)))]


def test_a_program_waits_at_its_end_until_files_are_released() -> None:
    """A pyarrow thread that released one later would crash the process."""
    held = open_one(ResultStore(MemoryStore()))
    threading.Timer(0.05, held.clear).start()
    arrow_files._wait_until_let_go()
    assert held == []
    assert not arrow_files._opened


def test_the_program_does_not_wait_forever_for_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow_files, "_EXIT_SECONDS", 0.05)
    held = open_one(ResultStore(MemoryStore()))
    arrow_files._wait_until_let_go()
    assert len(arrow_files._opened) == 1
    held.clear()
    assert not arrow_files._opened


@pytest.mark.needs("s3fs")
def test_a_store_opened_repeatedly_has_one_file_system() -> None:
    one, other = open_store("s3://a-bucket/a"), open_store("s3://a-bucket/b")
    assert filesystem_of(one) is filesystem_of(open_store("s3://a-bucket/a"))
    assert filesystem_of(one) is not filesystem_of(other)
    assert filesystem_of(MemoryStore()) is not filesystem_of(MemoryStore())


@pytest.mark.parametrize("path", ["", "results/t/k/x", "12", "x/results/t/k/x", "12/penstock.json"])
def test_only_files_of_results_can_be_reached(path: str) -> None:
    with pytest.raises(FileNotFoundError):
        filesystem_of(MemoryStore()).open_input_file(path)


# -- StoredResult


def test_a_stored_result_has_its_location_and_its_value(results: ResultStore) -> None:
    table = noise(1_000)
    record = publish(results, table)
    stored = find_stored(results, "t", "k")
    assert stored is not None
    assert stored.record == record
    assert stored.path is not None
    assert pa.parquet.read_table(stored.path).equals(table)
    assert stored.files == [stored.path]
    assert stored.url == f"{results.store.url}/{record.payload_name}"
    assert stored.load().equals(table)
    assert stored.scan().to_table().equals(table)
    assert find_stored(results, "t", "another") is None


def test_a_value_inside_its_record_has_no_file(results: ResultStore) -> None:
    stored = StoredResult(results, publish(results, 7))
    assert (stored.url, stored.path, stored.files, stored.load()) == (None, None, [], 7)


def test_a_stored_result_can_be_pickled(results: ResultStore) -> None:
    stored = StoredResult(results, publish(results, noise(100)))
    assert pickle.loads(pickle.dumps(stored)).load().equals(stored.load())
