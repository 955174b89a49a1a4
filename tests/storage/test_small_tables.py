"""Small promises of stored tables that larger tests miss: hostile bytes, losses, earlier versions."""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any

import pytest

from penstock.errors import CodecRefused, SerializationError, StoreVersionError
from penstock.storage.formats.arrow.checked_files import CheckedFile
from penstock.storage.formats.arrow.parquet import lost_of_schema
from penstock.storage.formats.arrow.parquet_reading import check_unpacked, read_parquet
from penstock.storage.formats.arrow.schemas import check_file, check_message, check_parquet, unknown_extensions
from penstock.storage.formats.base import SerializerFallback
from penstock.storage.formats.frames import ArrowSerializer, PandasSerializer, PolarsSerializer
from penstock.storage.formats.registry import serializer_for
from penstock.storage.records.records import About
from penstock.storage.results.store import Absent, Published, ResultStore
from penstock.storage.stores.memory import MemoryStore

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

MARK = b"ARROW:extension:name"
UNKNOWN = {MARK: b"somebody.else"}


def parquet(table: Any, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **{"compression": "zstd", **options})
    return sink.getvalue()


def round_trip(value: Any) -> tuple[str, Any]:
    results = ResultStore(MemoryStore())
    published = results.publish("t", "k", value, after=Absent(0, "never"), attempt="a", digest="d")
    assert isinstance(published, Published)
    return published.record.codec, results.load(published.record)


# -- hostile schemas --------------------------------------------------------------------------------------------------


def parquet_of(footer: bytes, size: int | None = None) -> memoryview:
    return memoryview(b"PAR1" + footer + struct.pack("<I", len(footer) if size is None else size) + b"PAR1")


@pytest.mark.parametrize(
    "after_key",
    [
        b"\x15\x04AAAA\0",  # another type than text
        b"\x18\x7fAAAA\0",  # longer than the footer
        b"\x18\x04AAAAx",  # no end
        b"\x18\x04!!!!\0",  # not base64
        b"\x18" + b"\xff" * 20,  # a length without end
        b"\x18",  # no length
    ],
)
def test_a_parquet_schema_in_an_unknown_place_is_refused_not_skipped(after_key: bytes) -> None:
    with pytest.raises(SerializationError, match="cannot be read"):
        check_parquet(parquet_of(b"ARROW:schema" + after_key))


def test_a_parquet_footer_longer_than_its_file_is_refused() -> None:
    with pytest.raises(SerializationError, match="cannot be read"):
        check_parquet(parquet_of(b"x" * 20, size=1 << 31))


@pytest.mark.parametrize("size", [-1, 0, 1 << 30])
def test_an_arrow_footer_longer_than_its_file_is_refused(size: int) -> None:
    with pytest.raises(SerializationError, match="cannot be read"):
        check_file(memoryview(b"ARROW1\0\0" + b"x" * 32 + struct.pack("<i", size) + b"ARROW1"))


def message(flat: bytes) -> bytes:
    return b"\xff\xff\xff\xff" + struct.pack("<i", len(flat)) + flat


@pytest.mark.parametrize("data", [b"", b"\xff\xff\xff\xff", message(b"abc")[:-1], message(b"")])
def test_a_cut_schema_is_refused(data: bytes) -> None:
    with pytest.raises(SerializationError, match="cannot be read"):
        check_message(data)


# A message whose header is a schema with a vector of fields, of which the count follows.
SCHEMA = struct.pack("<I 5H 2x iI 4H iI", 16, 10, 8, 0, 0, 4, 12, 12, 8, 8, 0, 4, 8, 4)


@pytest.mark.parametrize(
    "flat",
    [
        struct.pack("<I", 1 << 30),  # the root is beyond the end
        SCHEMA + struct.pack("<I", 1 << 30),  # more fields than bytes
        SCHEMA + struct.pack("<II", 1, 1 << 30),  # a field beyond the end
    ],
)
def test_a_schema_that_points_out_of_itself_is_refused(flat: bytes) -> None:
    with pytest.raises(SerializationError, match="cannot be read"):
        check_message(message(flat + MARK))


@pytest.mark.parametrize(
    "flat",
    [
        struct.pack("<I HH i", 8, 4, 4, 4),  # no schema
        # One field with one pair of metadata that has neither a key nor a value.
        SCHEMA + struct.pack("<II 9H 2x iI II HH i", 1, 24, 18, 8, 0, 0, 0, 0, 0, 0, 4, 20, 4, 1, 8, 4, 4, 4),
    ],
)
def test_a_schema_that_only_mentions_the_mark_names_no_type(flat: bytes) -> None:
    check_message(message(flat + MARK))
    with pytest.raises((pa.ArrowException, OSError)):  # and it can do no harm
        pa.ipc.read_schema(pa.py_buffer(message(flat + MARK)))


def test_a_schema_nested_deeper_than_it_is_searched_is_refused() -> None:
    kind = pa.int8()
    for _ in range(80):
        kind = pa.list_(pa.field("item", kind))
    schema = pa.schema([pa.field("a", kind), pa.field("b", pa.int8(), metadata=UNKNOWN)])
    with pytest.raises(SerializationError, match="cannot be read"):
        check_message(schema.serialize().to_pybytes())


def test_a_type_that_reading_would_refuse_is_not_written() -> None:
    schema = pa.schema([pa.field("a", pa.int8(), metadata=UNKNOWN)])
    assert unknown_extensions(schema) == "somebody.else"
    assert lost_of_schema(schema) == "the extension type somebody.else"
    reader = pa.RecordBatchReader.from_batches(schema, [])
    with pytest.raises(SerializationError, match=r"Parquet would lose the extension type somebody\.else"):
        ArrowSerializer().write(reader, io.BytesIO())


# -- files that others can write ------------------------------------------------------------------------------------


def test_a_file_changed_after_it_was_checked_is_read_with_the_checked_schema() -> None:
    data = parquet(pa.table({"a": range(100_000)}), compression="none", use_dictionary=False)
    file = io.BytesIO(data)
    checked = CheckedFile(file, len(data))
    assert checked.read() == data
    file.seek(len(data) - 60_000)
    file.write(b"\0" * 60_000)
    assert (checked.seek(0), checked.tell()) == (0, 0)
    assert pq.ParquetFile(pa.PythonFile(checked, mode="r")).schema_arrow == pa.schema([("a", pa.int64())])
    checked.seek(len(data) - 70_000)
    assert checked.read(70_000) == data[-70_000:-65_536] + data[-65_536:]


def test_a_type_hidden_in_a_very_long_footer_is_found() -> None:
    fields = [pa.field(f"column {n}", pa.int8(), metadata={"k": "v" * 100}) for n in range(1000)]
    harmless = parquet(pa.schema(fields).empty_table())
    assert len(harmless) > 1 << 16
    assert CheckedFile(io.BytesIO(harmless), len(harmless)).readable()
    planted = parquet(pa.schema([pa.field("first", pa.int8(), metadata=UNKNOWN), *fields]).empty_table())
    file = io.BytesIO(planted)
    with pytest.raises(CodecRefused, match=r"somebody\.else"):
        CheckedFile(file, len(planted))
    assert file.closed


@pytest.mark.parametrize("data", [b"", b"PAR1", b"x" * 100])
def test_a_file_that_is_no_table_is_an_error(data: bytes) -> None:
    with pytest.raises(SerializationError, match="not that of a table"):
        CheckedFile(io.BytesIO(data), len(data))


def test_text_that_expands_beyond_the_limit_is_refused_for_readers_of_other_packages() -> None:
    table = pa.table({"s": ["x" * 20_000] * 1000 + ["y"] * 100_000 + [None], "n": range(101_001)})
    data = memoryview(parquet(table))
    check_unpacked(data, 1 << 30, believed=False)
    assert read_parquet(data, 1 << 30, believed=False).equals(table)
    with pytest.raises(SerializationError, match="too large to load"):
        check_unpacked(data, 10 << 20, believed=False)


# -- pandas -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pd() -> Any:
    return pytest.importorskip("pandas")


@pytest.mark.needs("pandas")
def test_a_frame_that_parquet_would_change_is_an_arrow_file(pd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from penstock.storage.formats.pandas import tables

    interval = pa.array([(1, 2, 3), None], pa.month_day_nano_interval())
    frame = pd.DataFrame({"a": pd.arrays.ArrowExtensionArray(pa.chunked_array([interval]))})
    codec, again = round_trip(frame)
    assert codec == "arrow/pandas"
    assert again["a"].dtype == frame["a"].dtype
    assert again["a"].array.__arrow_array__().to_pylist() == interval.to_pylist()
    monkeypatch.setattr(tables, "MAX_DESCRIPTION", 100)  # labels must not make a footer that every reader reads whole
    codec, again = round_trip(pd.DataFrame({"a" * 100: [1]}))
    assert codec == "arrow/pandas"
    assert list(again.columns) == ["a" * 100]


@pytest.mark.needs("pandas")
def test_a_format_never_writes_a_frame_that_it_would_change(pd: Any) -> None:
    serializer = PandasSerializer("parquet")
    for value in (pd.DataFrame({"a": [print]}), pd.offsets.Day(2)):
        assert not serializer.can(value)
        with pytest.raises(SerializationError, match="without loss"):
            serializer.write(value, io.BytesIO())
    sink = io.BytesIO()
    about = serializer.write(pd.DataFrame({"a": [1]}), sink)
    assert serializer.read(memoryview(sink.getvalue()), about, limit=1 << 20)["a"].tolist() == [1]


@pytest.mark.needs("pandas", "numpy")
def test_long_doubles_in_a_frame_are_not_rounded(pd: Any) -> None:
    np = pytest.importorskip("numpy")
    frame = pd.DataFrame({"a": np.array([1, 3], "g") / 3})
    if frame["a"].dtype.itemsize <= 8:
        pytest.skip("long doubles are doubles here")
    with pytest.warns(SerializerFallback, match="a column of float"):
        codec, again = round_trip(frame)
    assert codec == "pickle"
    assert again["a"].tolist() == frame["a"].tolist()


@pytest.mark.needs("pandas", "polars")
def test_other_objects_of_the_packages_of_tables_are_no_tables(pd: Any) -> None:
    pl = pytest.importorskip("polars")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not PandasSerializer("arrow").can(pd.offsets.Day(2))
        assert not PolarsSerializer("arrow").can(pl.Datetime("ms"))


@pytest.mark.needs("pandas")
def test_an_encoded_table_is_not_a_reader(pd: Any) -> None:
    encoded: Any = serializer_for(pd.DataFrame({"a": [1]}))
    assert encoded.can(None)
    with pytest.raises(SerializationError, match="only for writing"):
        encoded.read(memoryview(b""), About(), limit=1)


@pytest.mark.needs("pandas")
def test_a_description_of_another_table_is_an_error(pd: Any) -> None:
    from penstock.storage.formats.pandas.tables import METADATA, decode_value, encode_value

    table, other = encode_value(pd.DataFrame({"a": [1]})), encode_value(pd.DataFrame({"a": [1, 2], "b": [3, 4]}))
    for planted in (other, encode_value(pd.DataFrame({"a": [1, 2]}))):
        with pytest.raises(SerializationError, match="cannot be read"):
            decode_value(table.replace_schema_metadata({METADATA: planted.schema.metadata[METADATA]}), About())
    newer = table.schema.metadata[METADATA].replace(b'"v":1', b'"v":99')
    with pytest.raises(StoreVersionError, match="version 99"):
        decode_value(table.replace_schema_metadata({METADATA: newer}), About())


@pytest.mark.needs("pandas")
def test_a_series_and_numbered_columns_of_before_there_were_descriptions_can_be_read(pd: Any) -> None:
    from penstock.storage.formats.pandas.tables import decode_value

    frame = pd.DataFrame({"0": [1, 2], "1": [3, 4]})
    again = decode_value(pa.Table.from_pandas(frame), About(type="DataFrame", details={"columns": "0:2:1"}))
    assert again.columns.equals(pd.RangeIndex(2))
    assert type(again.columns) is pd.RangeIndex
    series = decode_value(pa.Table.from_pandas(frame[["1"]]), About(type="Series", details={"name": "of mine"}))
    assert (type(series), series.name, series.tolist()) == (pd.Series, "of mine", [3, 4])
    assert decode_value(pa.Table.from_pandas(frame[["1"]]), About(type="Series")).name is None


@pytest.mark.needs("pandas", "numpy")
def test_a_column_described_with_another_type_is_an_error(pd: Any) -> None:
    from penstock.storage.formats.pandas.arrays import decode_array

    assert decode_array(pa.array([1, 2]), ["np", "<i8"]).tolist() == [1, 2]
    with pytest.raises(TypeError, match="was read as float64"):
        decode_array(pa.array([1.5]), ["np", "<i8"])


@pytest.mark.needs("pandas", "numpy")
def test_the_fill_value_of_an_earlier_sparse_column_has_the_type_of_its_cells(pd: Any) -> None:
    from penstock.storage.formats.pandas.arrays import decode_array

    earlier = decode_array(pa.array([0, 1], pa.int8()), ["sparse", ["np", "|i1"], 0])
    assert earlier.fill_value.dtype == "int8"
    again = decode_array(pa.array([0, 1], pa.int8()), ["sparse", ["np", "|i1"], 0, "exact"])
    assert type(again.fill_value) is int


@pytest.mark.needs("pandas")
def test_a_time_zone_of_another_package_stays_one_and_without_it_means_the_same(
    pd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datetime as dt
    import importlib.util
    import zoneinfo

    tz = pytest.importorskip("dateutil.tz")
    from penstock.storage.formats.pandas.zones import decode_zone, encode_zone

    assert decode_zone(encode_zone(tz.UTC)) is tz.UTC
    assert decode_zone(encode_zone(dt.UTC)) is dt.UTC
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert decode_zone({"pytz": "Europe/Berlin"}) == zoneinfo.ZoneInfo("Europe/Berlin")
    assert decode_zone({"pytz": 90}) == dt.timezone(dt.timedelta(minutes=90))
    with pytest.raises(TypeError, match="a date is not a time zone"):
        decode_zone(encode_zone(dt.date(2024, 1, 1)))
