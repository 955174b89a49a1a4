"""Values in parts: written one by one, found only through record and manifest, and maintained as one result."""

from __future__ import annotations

import base64
import os
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from blake3 import blake3

from penstock.errors import DamagedResult, SerializationError, StoreError, StoreVersionError
from penstock.storage import LocalStore, open_store
from penstock.storage.formats.parts import datasets
from penstock.storage.formats.parts.manifests import Manifest, PartSink, value_files, write_manifest
from penstock.storage.records.names import attempt_prefix, part_name
from penstock.storage.records.records import ResultRecord
from penstock.storage.results import maintenance
from penstock.storage.results.copying import copy
from penstock.storage.results.generations import Absent, Found
from penstock.storage.results.store import Published, ResultStore, Staged
from penstock.storage.stores.base import MAX_RECORD_BYTES
from penstock.testing.clocks import FakeClock
from penstock.worker.result_digests import part_digests
from tests.servers.fixtures import Bucket

PARTS = 5
ROWS = 1_000


def batches(parts: int = PARTS, *, first: int = 0) -> Iterator[pa.RecordBatch]:
    for number in range(parts):
        begin = first + number * ROWS
        yield pa.record_batch({"a": range(begin, begin + ROWS), "b": [f"{n:x}" for n in range(begin, begin + ROWS)]})


def whole(parts: int = PARTS) -> pa.Table:
    return pa.Table.from_batches(list(batches(parts)))


@pytest.fixture(autouse=True)
def _a_part_for_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "PART_BYTES", 1)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def results(tmp_path: Path, clock: FakeClock) -> ResultStore:
    return ResultStore(LocalStore(tmp_path / "store"), clock=clock)


def stage(results: ResultStore, value: Any = None, attempt: str = "a", **more: Any) -> Staged:
    after = results.look_up("t", "k")
    more = {"digest": "d", "digests": part_digests(), "serializer": "parquet/dataset", **more}
    return results.stage("t", "k", batches() if value is None else value, after=after, attempt=attempt, **more)


def publish(results: ResultStore, value: Any = None, attempt: str = "a", **more: Any) -> ResultRecord:
    done = results.commit(stage(results, value, attempt, **more))
    assert isinstance(done, Published)
    return done.record


def names(results: ResultStore) -> list[str]:
    return [file.name.rpartition("/")[2] for file in results.store.list("results/")]


# -- writing and reading


def test_a_stream_is_split_into_parts_by_size(results: ResultStore) -> None:
    record = publish(results)
    assert record.payload is not None
    assert record.payload.parts == PARTS
    found = names(results)
    assert found[-2:] == ["000000.a.parts.json", "000000.record.json"]
    assert [name.partition("-")[0] for name in found[:PARTS]] == [f"000000.a.{n:06d}" for n in range(PARTS)]


def test_a_stream_is_restored_as_one_lazy_dataset_in_order(results: ResultStore) -> None:
    record = publish(results)
    loaded = results.load(record)
    assert isinstance(loaded, ds.Dataset)
    assert len(list(loaded.get_fragments())) == PARTS
    assert loaded.to_table().equals(whole())
    assert results.scan(record).to_table(filter=ds.field("a") == 4_321)["b"].to_pylist() == [f"{4321:x}"]


def test_other_programs_can_read_the_parts_by_a_pattern(results: ResultStore) -> None:
    record = publish(results)
    files = [results.store.local_path(file.name) or "" for file in value_files(results.store, record)]
    assert pa.parquet.read_table(files[2]).equals(whole().slice(2 * ROWS, ROWS))
    assert ds.dataset(sorted(files)).to_table().equals(whole())


@pytest.mark.slow
def test_the_record_describes_the_value_and_stays_small(results: ResultStore) -> None:
    record = publish(results, batches(200))
    data = results.store.get(record.slot_name)
    assert data is not None
    assert len(data) < MAX_RECORD_BYTES / 16
    assert record.about.rows == 200 * ROWS
    assert record.about.columns == {"a": "int64", "b": "string"}
    assert record.size == sum(file.size for file in results.store.list("results/")) - len(data)


def test_only_one_part_at_a_time_is_in_memory(results: ResultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 4 << 20
    monkeypatch.setattr(datasets, "PART_BYTES", 2 * size)
    before, most = pa.total_allocated_bytes(), 0

    def stream() -> Iterator[pa.RecordBatch]:
        nonlocal most
        for number in range(24):
            yield pa.record_batch({"a": pa.repeat(number, size // 8)})
            most = max(most, pa.total_allocated_bytes() - before)

    record = publish(results, stream())
    assert record.payload is not None
    assert record.payload.parts == 12
    assert most < 6 * size


def test_a_dataset_is_stored_in_parts_by_default(results: ResultStore) -> None:
    record = publish(results, ds.dataset(whole()), serializer=None)
    assert record.codec == "parquet/dataset"
    assert results.load(record).to_table().equals(whole())


@pytest.mark.parametrize("name", ["pyarrow", "pyarrow.dataset"])
def test_a_value_can_be_classified_while_another_thread_imports_its_package(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    value, table = ds.dataset(whole()), whole()
    monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    assert datasets.is_dataset(value)
    assert not datasets.is_dataset(table)
    assert not datasets.StreamDatasetSerializer().can(table)


def test_an_empty_stream_becomes_one_part_without_rows(results: ResultStore) -> None:
    record = publish(results, iter([whole().to_batches()[0].slice(0, 0)]))
    assert results.load(record).to_table().equals(whole().slice(0, 0))


def test_equal_parts_have_equal_digests_and_others_do_not(results: ResultStore) -> None:
    digests = [publish(results, value, attempt).digest for value, attempt in (
        (batches(), "a"), (batches(), "b"), (batches(first=1), "c"), (batches(4), "e"),
    )]  # fmt: skip
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    assert "d" not in digests


def test_a_stream_that_fails_leaves_nothing(results: ResultStore) -> None:
    def failing() -> Iterator[pa.RecordBatch]:
        yield from batches(3)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        publish(results, failing())
    assert names(results) == []


def test_batches_with_different_schemas_are_refused(results: ResultStore) -> None:
    with pytest.raises(SerializationError):
        publish(results, iter([*batches(1), pa.record_batch({"a": ["text"]})]))
    assert names(results) == []


def test_a_losing_attempt_removes_its_parts(results: ResultStore) -> None:
    mine, other = stage(results, attempt="mine"), stage(results, attempt="other")
    results.commit(other)
    done = results.commit(mine)
    assert isinstance(done, Published)
    assert done.record.attempt == "other"
    assert {name.split(".")[1] for name in names(results)} == {"other", "record"}


# -- damage


def other(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def damage(results: ResultStore, name: str, how: str) -> None:
    with results.store.open(name) as file:
        data = file.read()
    results.store.delete(name)
    places = {"changed": len(data) // 3, "changed early": 60}
    new = other(data, places[how]) if how in places else None if how == "gone" else data[:-1]
    if new is not None:
        with results.store.create(name) as out:
            out.write(new)


@pytest.mark.parametrize("how", ["gone", "cut"])
def test_a_missing_or_cut_part_is_noticed_at_once(results: ResultStore, how: str) -> None:
    record = publish(results)
    damage(results, value_files(results.store, record)[3].name, how)
    for read in (results.load, results.scan):
        with pytest.raises(DamagedResult) as caught:
            read(record)
        assert caught.value.data == {"gone": how == "gone", "closed": False}


def test_a_changed_part_is_noticed_when_it_is_read(results: ResultStore) -> None:
    record = publish(results)
    file = value_files(results.store, record)[3]
    damage(results, file.name, "changed")
    with pytest.raises(DamagedResult, match="is damaged"):
        file.contents()
    with pytest.raises(OSError, match="CRC"):
        results.load(record).to_table()


@pytest.mark.parametrize("how", ["gone", "cut", "changed"])
def test_a_damaged_manifest_is_damage(results: ResultStore, how: str) -> None:
    record = publish(results)
    damage(results, record.payload_name or "", how)
    for read in (results.load, results.scan):
        with pytest.raises(DamagedResult):
            read(record)


def forge(results: ResultStore, record: ResultRecord, changes: dict[str, Any]) -> ResultRecord:
    """Write another manifest, and a record that vouches for it."""
    with results.store.open(record.payload_name or "") as file:
        data = msgspec.json.encode(msgspec.json.decode(file.read()) | changes)
    results.store.delete(record.payload_name or "")
    with results.store.create(record.payload_name or "") as out:
        out.write(data)
    assert record.payload is not None
    payload = msgspec.structs.replace(record.payload, size=len(data), checksum=blake3(data).hexdigest())
    return msgspec.structs.replace(record, payload=payload)


@pytest.mark.parametrize("mark", ["../../../x", "a/b", "", "ABCDEF01"])
def test_no_manifest_leads_to_a_file_that_is_not_a_part(results: ResultStore, mark: str) -> None:
    record = publish(results)
    part = {"number": 0, "mark": mark, "size": 1, "checksum": "", "rows": 1}
    with pytest.raises(DamagedResult, match="is damaged"):
        results.load(forge(results, record, {"parts": [part]}))


@pytest.mark.parametrize("more", [{}, {"parts": "of another kind"}])
def test_a_manifest_of_a_newer_version_is_distinguished_from_damage(results: ResultStore, more: dict[str, Any]) -> None:
    record = publish(results)
    forged = forge(results, record, {"v": 3, **more})
    with pytest.raises(StoreVersionError, match="the manifest has version 3"):
        results.load(forged)


def test_the_name_of_a_part_is_built_from_checked_components() -> None:
    prefix = attempt_prefix("t", "k", 3, "a")
    assert part_name(prefix, 17, "0123abcd") == "results/t/k/000003.a.000017-0123abcd.parquet"
    for number, mark in ((-1, "0123abcd"), (1, "0123abc"), (1, "../0123a")):
        with pytest.raises(StoreError, match="refused"):
            part_name(prefix, number, mark)


# -- maintenance ------


def test_gc_keeps_only_the_parts_of_published_results(results: ResultStore, clock: FakeClock) -> None:
    record = publish(results)
    kept = names(results)
    # A part that was written twice, and an attempt that died before it published.
    PartSink(results.store, record.files).write(2, whole())
    PartSink(results.store, attempt_prefix("t", "k", 0, "dead")).write(0, whole())
    report = maintenance.gc(results, grace_seconds=0)
    assert report.payloads == 2
    assert names(results) == kept
    assert results.load(record).to_table().equals(whole())


def test_the_parts_of_a_dead_writer_are_garbage(results: ResultStore) -> None:
    sink = PartSink(results.store, attempt_prefix("t", "k", 0, "dead"))
    for number, batch in enumerate(batches()):
        sink.write(number, pa.Table.from_batches([batch]))
    assert maintenance.gc(results, grace_seconds=maintenance.DAY).payloads == 0
    modified = [os.utime(results.store.local_path(f.name) or "", (0, 0)) for f in results.store.list("results/")]
    assert len(modified) == PARTS
    report = maintenance.gc(results, grace_seconds=maintenance.DAY)
    assert (report.payloads, report.closed) == (PARTS, 1)
    assert publish(results).generation == 1


def test_gc_keeps_the_parts_of_a_damaged_manifest(results: ResultStore) -> None:
    record = publish(results)
    damage(results, record.payload_name or "", "changed")
    before = names(results)
    assert maintenance.gc(results, grace_seconds=0).payloads == 0
    assert names(results) == before


def test_removing_a_result_removes_its_parts(results: ResultStore) -> None:
    publish(results)
    assert maintenance.rm(results, "t", "k") == 1
    assert names(results) == ["000000.record.json"]


def test_only_the_manifest_of_a_dataset_counts_as_read(results: ResultStore) -> None:
    record = publish(results)
    assert record.payload is not None
    before = results.counters.bytes_read
    results.load(record)
    assert results.counters.bytes_read - before == record.payload.size < record.size
    whole_one = results.publish("t", "whole", {"n": "x" * 100}, after=Absent(0, "never"), attempt="a", digest="d")
    assert isinstance(whole_one, Published)
    before = results.counters.bytes_read
    results.load(whole_one.record)
    assert results.counters.bytes_read - before == whole_one.record.size


def test_parts_with_different_schemas_get_one_that_fits_all(results: ResultStore) -> None:
    prefix = attempt_prefix("t", "k", 0, "a")
    sink = PartSink(results.store, prefix)
    first, second = pa.table({"a": [1]}), pa.table({"a": [2], "b": ["x"]})
    written = [sink.write(1, second), sink.write(0, first)]
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(sink.manifest(written).schema)))
    assert schema == pa.schema([("a", pa.int64()), ("b", pa.string())])
    with pytest.raises(SerializationError, match="without parts"):
        sink.manifest([])
    with pytest.raises(SerializationError, match="have different schemas"):
        sink.manifest([*written, sink.write(2, pa.table({"a": ["text"]}))])


def test_sizes_count_all_parts(results: ResultStore) -> None:
    record = publish(results)
    (summary,) = maintenance.ls(results)
    total = sum(file.size for file in results.store.list("results/"))
    assert summary.size == record.size
    assert maintenance.du(results)["t"].bytes == total > record.size > total - 4096


def test_verify_reads_every_part(results: ResultStore) -> None:
    record = publish(results)
    seen = maintenance.verify(results)
    assert (seen.records, seen.problems, seen.orphans) == (1, [], 0)
    PartSink(results.store, record.files).write(2, whole())
    assert maintenance.verify(results).orphans == 1
    damage(results, value_files(results.store, record)[3].name, "changed")
    (problem,) = maintenance.verify(results).problems
    assert problem.name == record.slot_name
    assert "checksum" in problem.what


def test_parts_are_copied_with_their_result(results: ResultStore, tmp_path: Path) -> None:
    record = publish(results)
    target = ResultStore(open_store(tmp_path / "target"))
    done = copy(results, target)
    assert (done.results, done.bytes, done.damaged) == (1, record.size, 0)
    found = target.look_up("t", "k")
    assert isinstance(found, Found)
    assert found.record.attempt != record.attempt
    assert target.load(found.record).to_table().equals(whole())
    assert maintenance.verify(target).problems == []
    assert maintenance.verify(target).orphans == 0


def test_a_result_with_a_damaged_part_is_not_copied_and_leaves_nothing(results: ResultStore, tmp_path: Path) -> None:
    record = publish(results)
    damage(results, value_files(results.store, record)[3].name, "changed")
    target = ResultStore(open_store(tmp_path / "target"))
    assert copy(results, target).damaged == 1
    assert names(target) == []


@pytest.mark.slow
@pytest.mark.needs("s3fs", "boto3")
def test_parts_in_a_bucket_are_written_read_copied_and_collected(bucket: Bucket, tmp_path: Path) -> None:
    results = ResultStore(open_store(bucket.url))
    record = publish(results)
    PartSink(results.store, attempt_prefix("t", "k", 0, "dead")).write(0, whole())
    assert maintenance.gc(results, grace_seconds=0).payloads == 1
    assert results.load(record).to_table().equals(whole())
    assert results.scan(record).to_table(columns=["b"]).equals(whole().select(["b"]))
    assert maintenance.verify(results).problems == []
    target = ResultStore(open_store(tmp_path / "target"))
    assert copy(results, target).bytes == record.size
    bucket.endpoint.client().delete_object(
        Bucket=bucket.name, Key=f"a store/{value_files(results.store, record)[1].name}"
    )
    with pytest.raises(DamagedResult, match="is damaged"):
        results.load(record)


# -- Dask's collections, computed by threads


def frames() -> dict[str, Callable[[], Any]]:
    pd = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    frame = pd.DataFrame(
        {
            "a": range(100),
            "text": [f"{n:x}" for n in range(100)],
            "kind": pd.Categorical(list("ab") * 50),
            "time": pd.date_range("2024", periods=100),
            "late": [None] * 60 + ["x"] * 40,
        },
        index=pd.Index(range(0, 200, 2), name="n"),
    )
    return {
        "frame": lambda: dd.from_pandas(frame, npartitions=4),
        "unknown divisions": lambda: dd.from_pandas(frame, npartitions=4).clear_divisions(),
        "index of times": lambda: dd.from_pandas(frame.set_index("time"), npartitions=4),
        "plain index": lambda: dd.from_pandas(frame.reset_index(drop=True), npartitions=4),
        "series": lambda: dd.from_pandas(frame, npartitions=4).text,
        "nameless series": lambda: dd.from_pandas(pd.Series(range(9)), npartitions=3),
    }


@pytest.mark.needs("dask", "pandas")
@pytest.mark.parametrize(
    "kind", ["frame", "unknown divisions", "index of times", "plain index", "series", "nameless series"]
)
def test_a_dask_collection_is_restored_lazily_with_its_partitions(results: ResultStore, kind: str) -> None:
    from dask.dataframe.utils import assert_eq

    value = frames()[kind]()
    record = publish(results, value, serializer=None)
    assert record.codec == "parquet/dask"
    again = results.load(record)
    assert type(again) is type(value)
    assert again.divisions == value.divisions
    assert_eq(again, value, check_divisions=False)
    assert results.scan(record).count_rows() == len(value)


@pytest.mark.needs("dask", "pandas")
def test_dask_reads_only_the_columns_it_needs(results: ResultStore) -> None:
    value = frames()["frame"]()
    record = publish(results, value, serializer=None)
    damage(results, value_files(results.store, record)[0].name, "changed early")  # in the first column
    again = results.load(record)
    assert again["time"].max().compute() == value["time"].max().compute()
    for read in (again, again["a"]):
        with pytest.raises(DamagedResult, match="another checksum"):
            read.compute()


@pytest.mark.needs("dask", "pandas")
def test_a_dask_partition_that_differs_from_its_declaration_is_refused(results: ResultStore) -> None:
    pd = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    value = dd.from_pandas(pd.DataFrame({"a": [1, 2]}), npartitions=2)
    wrong = value.map_partitions(lambda frame: frame.assign(a="text"), meta=value._meta)
    with pytest.raises(SerializationError, match=r"partition . of a Dask DataFrame cannot be stored"):
        publish(results, wrong, serializer=None)
    assert isinstance(results.look_up("t", "k"), Absent)


@pytest.mark.needs("dask", "pandas")
def test_column_names_that_are_not_strings_are_refused(results: ResultStore) -> None:
    pd = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    for value in (pd.DataFrame({1: [2]}), pd.Series([2], name=1)):
        with pytest.raises(SerializationError, match="names that are not strings"):
            publish(results, dd.from_pandas(value, npartitions=1), serializer=None)


@pytest.mark.needs("dask", "pandas")
def test_a_dask_frame_that_parquet_cannot_restore_is_refused_before_it_is_computed(results: ResultStore) -> None:
    pd = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")

    def never(frame: Any) -> Any:
        raise AssertionError("computed")

    meta = pd.DataFrame({"a": pd.Series([], dtype="complex128")})
    value = dd.from_pandas(pd.DataFrame({"a": [1, 2]}), npartitions=1).map_partitions(never, meta=meta)
    with pytest.raises(SerializationError, match="a Dask DataFrame cannot be stored"):
        publish(results, value, serializer=None)


def test_a_manifest_received_from_a_worker_is_written_correctly(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    travelled = pickle.loads(pickle.dumps(Manifest(2, "", ())))
    write_manifest(store, "results/t/k/000000.a.parts.json", travelled)
    data = store.get("results/t/k/000000.a.parts.json")
    assert data is not None
    assert msgspec.json.decode(data, type=Manifest) == Manifest(2, "", ())
