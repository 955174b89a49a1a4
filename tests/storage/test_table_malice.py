"""Tables written by an attacker: nothing they name runs, and nothing they claim takes the reader's memory."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from penstock.errors import CodecRefused, PenstockError, SerializationError
from penstock.storage.formats.arrow import schemas as arrow_schemas
from penstock.storage.formats.arrow.ipc import read_arrow
from penstock.storage.formats.arrow.parquet_reading import read_parquet
from penstock.storage.formats.arrow.schemas import check_file, check_message, check_parquet
from penstock.storage.records.names import payload_name
from penstock.storage.results.store import Absent, Published, ResultStore
from penstock.storage.stores.local import LocalStore

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
np = pytest.importorskip("numpy")

RAN: list[str] = []


class Opening(pa.ExtensionType):  # type: ignore[misc]
    """Like one of a package that unpickles the content of a schema."""

    def __init__(self) -> None:
        super().__init__(pa.int64(), "tests.opening")

    def __arrow_ext_serialize__(self) -> bytes:
        return b"any bytes"

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: Any, serialized: bytes) -> Any:
        RAN.append("here")
        return cls()


@pytest.fixture
def opening() -> Any:
    pa.register_extension_type(Opening())
    yield pa.ExtensionArray.from_storage(Opening(), pa.array([1, 2]))
    pa.unregister_extension_type("tests.opening")


def parquet(table: Any, **options: Any) -> memoryview:
    sink = io.BytesIO()
    pq.write_table(table, sink, **{"compression": "zstd", **options})
    return memoryview(sink.getvalue())


def arrow(table: Any) -> memoryview:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return memoryview(sink.getvalue())


def nested(array: Any) -> Any:
    return pa.table({"a": pa.StructArray.from_arrays([pa.ListArray.from_arrays([0, 2], array)], names=["x"])})


@pytest.mark.parametrize("make", [lambda array: pa.table({"a": array}), nested])
def test_an_unknown_extension_type_is_refused_before_its_schema_is_parsed(make: Any, opening: Any) -> None:
    table = make(opening)
    RAN.clear()
    for check, data in (
        (check_parquet, parquet(table)),
        (check_file, arrow(table)),
        (check_message, table.schema.serialize().to_pybytes()),
        (lambda data: read_parquet(data, 1 << 20), parquet(table)),
        (lambda data: read_arrow(data, 1 << 20), arrow(table)),
    ):
        RAN.clear()
        with pytest.raises(CodecRefused, match=r"tests\.opening"):
            check(data)
        assert RAN == []


def plant(store: LocalStore, data: memoryview, codec: str) -> Any:
    """Write a result with bytes of an attacker."""
    import msgspec

    results = ResultStore(store)
    table = pa.table({"a": [1]})
    published = results.publish("t", "k", table, after=Absent(0, "never"), attempt="a", digest="d", serializer=codec)
    assert isinstance(published, Published)
    payload = msgspec.structs.replace(
        published.record.payload, size=len(data), checksum=blake3(bytes(data)).hexdigest()
    )
    record = msgspec.structs.replace(published.record, payload=payload)
    path = store.local_path(payload_name("t", "k", 0, "a", payload.suffix))
    assert path is not None
    Path(path).chmod(0o600)
    Path(path).write_bytes(data)
    return record


@pytest.fixture
def open_store(tmp_path: Path) -> LocalStore:
    folder = tmp_path / "store"
    folder.mkdir()
    folder.chmod(0o777)
    return LocalStore(folder)


@pytest.mark.parametrize(("codec", "write"), [("parquet/arrow", parquet), ("arrow", arrow)])
def test_neither_loading_nor_scanning_parses_such_a_schema(
    codec: str, write: Any, open_store: LocalStore, opening: Any
) -> None:
    record = plant(open_store, write(pa.table({"a": opening})), codec)
    results = ResultStore(open_store)
    RAN.clear()
    with pytest.raises(CodecRefused):
        results.load(record)
    with pytest.raises((PenstockError, OSError)):
        results.scan(record).to_table()
    assert RAN == []


@pytest.mark.needs("pandas")
def test_the_types_of_pandas_and_arrow_are_accepted() -> None:
    pd = pytest.importorskip("pandas")
    for table in (
        pa.table({"a": pa.array([b"0" * 16], pa.uuid())}),
        pa.Table.from_pandas(pd.DataFrame({"a": pd.period_range("2026", periods=2, freq="M")})),
    ):
        assert read_parquet(parquet(table), 1 << 20, believed=False).equals(table)
        assert read_arrow(arrow(table), 1 << 20, believed=False).equals(table)


def test_tensors_of_early_ray_versions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    early = type("Ray", (), {"__version__": "2.53.0"})
    monkeypatch.setattr(arrow_schemas, "loaded", lambda name: early)
    schema = pa.schema([pa.field("a", pa.int8(), metadata={"ARROW:extension:name": "ray.data.arrow_tensor_v2"})])
    with pytest.raises(CodecRefused, match="arrow_tensor_v2"):
        check_message(schema.serialize().to_pybytes())
    early.__version__ = "2.60.0"
    check_message(schema.serialize().to_pybytes())


@pytest.mark.parametrize("cut", [1, 4, 8, 12, 40, 200])
def test_a_cut_or_changed_footer_is_an_ordinary_error(cut: int) -> None:
    table = pa.table({"a": [1, 2]})
    for write, read in ((parquet, read_parquet), (arrow, read_arrow)):
        data = bytes(write(table))
        with pytest.raises((PenstockError, pa.ArrowException, OSError)):
            read(memoryview(data[:-cut]), 1 << 20)
        with pytest.raises((PenstockError, pa.ArrowException, OSError, ValueError)):
            read(memoryview(data[:-cut] + b"\xff" * cut), 1 << 20)


@pytest.mark.slow
def test_a_few_bytes_that_expand_to_gigabytes_are_refused_early() -> None:
    text = pa.table({"s": pa.DictionaryArray.from_arrays(pa.array(np.zeros(50_000, "i4")), pa.array(["x" * 100_000]))})
    numbers = pa.table({"n": pa.nulls(100_000_000, pa.int64())})
    for table in (text, numbers):
        data = parquet(table, store_schema=False, row_group_size=1 << 30)
        assert len(data) < 1 << 20
        before = pa.total_allocated_bytes()
        with pytest.raises(SerializationError, match="too large to load"):
            read_parquet(data, 1 << 28, believed=False)
        assert pa.total_allocated_bytes() - before < 1 << 20


def test_repeated_text_is_read_unchanged_within_the_limit() -> None:
    table = pa.table({"s": ["x" * 20_000] * 1000 + ["y"] * 200_000 + [None]})
    data = parquet(table)
    again = read_parquet(data, 1 << 30, believed=False)
    assert again.equals(table)
    with pytest.raises(SerializationError, match="too large to load"):
        read_parquet(data, 1 << 20, believed=False)


def test_offsets_beyond_the_end_of_an_arrow_file_are_noticed() -> None:
    data = bytearray(arrow(pa.table({"a": ["some text", "more of it"]})))
    offsets = np.array([0, 9, 19], "i4").tobytes()
    at = bytes(data).rindex(offsets)
    data[at : at + 12] = np.array([0, 9, 1_000_000_000], "i4").tobytes()
    with pytest.raises(pa.ArrowInvalid):
        read_arrow(memoryview(bytes(data)), 1 << 40, believed=False)


@pytest.mark.slow
@pytest.mark.needs("polars")
def test_a_polars_file_that_expands_to_gigabytes_is_refused_early() -> None:
    pl = pytest.importorskip("polars")
    from penstock.storage.formats import polars_files
    from penstock.storage.records.records import About

    frame = pl.DataFrame({"n": pl.zeros(40_000_000, pl.Int64, eager=True)})
    sink = io.BytesIO()
    frame.write_parquet(sink)
    with pytest.raises(SerializationError, match="too large to load"):
        polars_files.read(memoryview(sink.getvalue()), About(), ".parquet", 1 << 26)


@pytest.mark.needs("polars")
def test_a_panic_in_polars_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("polars")
    from penstock.storage.formats import polars_files

    class PanicException(BaseException):
        pass

    def panicking() -> None:
        raise PanicException("called `Result::unwrap()` on an `Err` value")

    with pytest.raises(SerializationError, match="polars failed"):
        polars_files._calm(panicking)


@pytest.mark.needs("polars")
def test_a_polars_column_read_with_another_type_is_cast_or_an_error() -> None:
    pl = pytest.importorskip("polars")
    from penstock.storage.formats import polars_files

    enum = pl.DataFrame({"a": pl.Series(["a"], dtype=pl.Enum(["b", "a"]))})
    details = polars_files._details(enum)
    other = enum.cast(pl.Categorical())
    assert polars_files._as_written(other, details).schema == enum.schema
    with pytest.raises(SerializationError, match="original types"):
        polars_files._as_written(pl.DataFrame({"a": ["not in it"]}), polars_files._details(pl.DataFrame({"b": [1]})))
    with pytest.raises(SerializationError, match="original types"):
        polars_files._as_written(other, {"schema_digest": "of another"})


def test_an_arrow_column_read_with_another_type_is_cast_or_an_error() -> None:
    from penstock.storage.formats.arrow.parquet_reading import as_written

    table = pa.table({"a": pa.array([1_000], pa.timestamp("ms"))})
    seconds = pa.schema([("a", pa.timestamp("s"))])
    assert as_written(table, seconds.serialize().to_pybytes()).schema == seconds
    with pytest.raises(SerializationError, match="original types"):
        as_written(table, pa.schema([("a", pa.list_(pa.int8()))]).serialize().to_pybytes())
