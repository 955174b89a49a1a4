"""Data frames are restored with index, dtypes, names and order, or pickled with a warning."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import SerializationError
from penstock.storage.formats.base import SerializerFallback
from penstock.storage.formats.registry import serializer_for
from penstock.storage.results.store import Absent, Published, ResultStore
from penstock.storage.stores.memory import MemoryStore

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")


def round_trip(value: Any) -> tuple[str, Any]:
    results = ResultStore(MemoryStore())
    published = results.publish("t", "k", value, after=Absent(0, "never"), attempt="a", digest="d")
    assert isinstance(published, Published)
    return published.record.codec, results.load(published.record)


def assert_same_frame(again: Any, value: Any) -> None:
    pd.testing.assert_frame_equal(
        again, value, check_exact=True, check_freq=True, check_index_type="exact", check_column_type="exact"
    )
    assert type(again.index) is type(value.index)
    assert type(again.columns) is type(value.columns)
    assert again.attrs == value.attrs


def with_attrs(unit: Any = "m") -> Any:
    frame = pd.DataFrame({"a": [1]})
    frame.attrs["unit"] = unit
    return frame


KEPT = {
    "plain": lambda: pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [1.5, np.nan], "d": [True, False]}),
    "empty": lambda: pd.DataFrame(),
    "no rows": lambda: pd.DataFrame({"a": pd.Series([], dtype="int8")}),
    "no columns": lambda: pd.DataFrame(index=[1, 2]),
    "index of strings": lambda: pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="k")),
    "range index": lambda: pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(2, 6, 2, name="k")),
    "levels of index": lambda: pd.DataFrame(
        {"a": [1, 2]}, index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["p", "q"])
    ),
    "dates with a frequency": lambda: pd.DataFrame({"a": [1, 2, 3]}, index=pd.date_range("2024", periods=3, freq="D")),
    "time zone": lambda: pd.DataFrame({"t": pd.date_range("2024", periods=2, tz="Europe/Berlin")}),
    "columns of numbers": lambda: pd.DataFrame(np.arange(6.0).reshape(2, 3)),
    "names of numbers": lambda: pd.DataFrame({3: [1], 1: [2]}),
    "named columns": lambda: pd.DataFrame({"a": [1]}).rename_axis(columns="what"),
    "nullable": lambda: pd.DataFrame(
        {"i": pd.array([1, None], dtype="Int64"), "b": pd.array([True, None], dtype="boolean")}
    ),
    "string dtype": lambda: pd.DataFrame({"s": pd.array(["a", None], dtype="string")}),
    "durations": lambda: pd.DataFrame({"a": pd.to_timedelta([1, 2], unit="s")}),
    "periods": lambda: pd.DataFrame({"a": pd.period_range("2024", periods=2, freq="M")}),
    "dates as objects": lambda: pd.DataFrame({"a": [dt.date(2024, 1, 1), dt.date(2024, 1, 2)]}),
    "decimals": lambda: pd.DataFrame({"a": [decimal.Decimal("1.10"), decimal.Decimal("2.20")]}),
    "attrs": with_attrs,
    "flags with a gap": lambda: pd.DataFrame({"a": pd.Series([True, None, False], dtype=object)}),
    "small types": lambda: pd.DataFrame({"a": np.array([1], "int8"), "b": np.array([1], "float32")}),
}


@pytest.mark.parametrize("name", KEPT)
def test_a_data_frame_is_restored_from_parquet(name: str) -> None:
    value = KEPT[name]()
    codec, again = round_trip(value)
    assert codec == "parquet/pandas"
    assert_same_frame(again, value)


LOST = {
    "objects": lambda: pd.DataFrame({"a": [1, print]}),
    "objects in lists": lambda: pd.DataFrame({"a": [[1], [print]]}),
    "objects as labels": lambda: pd.DataFrame([[1]], columns=[print]),
    "objects in attrs": lambda: with_attrs(unit=print),
}


@pytest.mark.parametrize("name", LOST)
def test_a_frame_that_no_format_restores_is_pickled_with_a_warning(name: str) -> None:
    value = LOST[name]()
    with pytest.warns(SerializerFallback, match="DataFrame is stored as a pickle"):
        codec, again = round_trip(value)
    assert codec == "pickle"
    pd.testing.assert_frame_equal(again, value)


def test_the_warning_names_the_place_of_the_object() -> None:
    with pytest.warns(SerializerFallback, match=r"\['a'\]\[1\] is a builtin_function_or_method"):
        round_trip(pd.DataFrame({"a": [1, print]}))


@pytest.mark.parametrize(
    "value",
    [
        lambda: pd.Series([1, 2], name="q"),
        lambda: pd.Series([1.5, np.nan], index=["a", "b"]),
        lambda: pd.Series(["x"], name="values"),
        lambda: pd.Series([], dtype="int64"),
        lambda: pd.Series([1, 2], index=pd.date_range("2024", periods=2, freq="h"), name=""),
    ],
)
def test_a_series_is_restored_with_its_name(value: Any) -> None:
    codec, again = round_trip(value())
    assert codec == "parquet/pandas"
    pd.testing.assert_series_equal(again, value(), check_freq=True)
    assert again.name == value().name


def test_a_subclass_of_a_data_frame_is_pickled() -> None:
    class Special(pd.DataFrame):
        pass

    assert serializer_for(Special({"a": [1]})).name == "pickle"


columns = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=4, max_size=4),
    st.lists(st.floats(), min_size=4, max_size=4),
    st.lists(st.none() | st.text(st.characters(codec="utf-8")), min_size=4, max_size=4),
    st.lists(st.booleans(), min_size=4, max_size=4),
    st.lists(st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)), min_size=4, max_size=4),
    st.lists(st.none() | st.integers(0, 9) | st.text(max_size=2) | st.booleans(), min_size=4, max_size=4),
)
names = st.text(st.characters(codec="utf-8"), max_size=5)


@settings(max_examples=60)
@given(st.dictionaries(names, columns, max_size=4))
def test_any_data_frame_is_restored(plain: dict[str, list[Any]]) -> None:
    value = pd.DataFrame(plain)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SerializerFallback)
        assert_same_frame(round_trip(value)[1], value)


@settings(max_examples=60)
@given(st.dictionaries(names, columns, max_size=4))
def test_any_polars_frame_is_restored(plain: dict[str, list[Any]]) -> None:
    value = pl.DataFrame(plain, strict=False)
    codec, again = round_trip(value)
    assert codec == "parquet/polars"
    assert again.schema == value.schema
    assert again.equals(value)


@pytest.mark.parametrize(
    "value",
    [
        lambda: pl.DataFrame({"a": [1, None], "c": pl.Series(["u", "v"], dtype=pl.Categorical)}),
        lambda: pl.DataFrame({"e": pl.Series(["a"], dtype=pl.Enum(["b", "a"])), "l": [[1, 2]], "s": [{"x": 1}]}),
        lambda: pl.DataFrame(
            {"d": pl.Series([decimal.Decimal("1.10")], dtype=pl.Decimal(38, 2)), "t": [dt.time(1, 2)], "b": [b"x"]}
        ),
        lambda: pl.DataFrame({"z": [dt.datetime(2024, 1, 1, tzinfo=dt.UTC)], "u": [dt.timedelta(1)]}),
        lambda: pl.DataFrame(),
        lambda: pl.DataFrame({"a": pl.Series([], dtype=pl.UInt8)}),
        lambda: pl.Series("name", [1, 2]),
        lambda: pl.Series([None]),
    ],
)
def test_a_polars_value_is_restored(value: Any) -> None:
    codec, again = round_trip(value())
    assert codec == "parquet/polars"
    assert type(again) is type(value())
    assert again.equals(value())
    if isinstance(again, pl.Series):
        assert (again.name, again.dtype) == (value().name, value().dtype)
    else:
        assert again.schema == value().schema


@pytest.mark.parametrize("name", ["interval", "tensor"])
def test_an_extension_type_of_arrow_in_a_frame_is_restored(name: str) -> None:
    pa = pytest.importorskip("pyarrow")
    array = {
        "interval": lambda: pa.array(pd.arrays.IntervalArray.from_tuples([(0, 1)], closed="left")),
        "tensor": lambda: pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(6).reshape(1, 2, 3)),
    }[name]()
    value = pd.DataFrame({"a": pd.arrays.ArrowExtensionArray(array)})
    codec, again = round_trip(value)
    assert codec != "pickle"
    assert again.dtypes["a"].pyarrow_dtype == array.type


@pytest.mark.skipif(not hasattr(pl, "Extension"), reason="this polars has no extension types")
@pytest.mark.filterwarnings("ignore")
def test_an_extension_type_of_polars_is_restored() -> None:
    kind = pl.Extension("penstock.other", pl.Int8, "m")
    _, again = round_trip(pl.DataFrame({"a": pl.Series([1], dtype=pl.Int8).ext.to(kind)}))
    assert again.schema["a"] == kind


def test_a_lazy_frame_is_refused_with_a_fix() -> None:
    with pytest.raises(SerializationError, match="plan") as caught:
        serializer_for(pl.LazyFrame({"a": [1]}))
    assert "collect()" in caught.value.hint


def test_the_error_for_python_objects_in_polars_names_them() -> None:
    with pytest.warns(SerializerFallback), pytest.raises(SerializationError, match="polars"):
        round_trip(pl.DataFrame({"o": pl.Series([object()], dtype=pl.Object)}))


def test_text_stored_as_objects_by_pandas_2_is_restored_as_text() -> None:
    from penstock.storage.formats.pandas.tables import METADATA, decode_value, encode_value
    from penstock.storage.records.records import About

    cells = {"a": np.array(["x", None], dtype=object), "b": np.array([1, "y"], dtype=object)}
    frame = pd.DataFrame({name: pd.Series(each, dtype=object) for name, each in cells.items()})
    frame.index = pd.Index(["k", "l"], dtype=object)
    frame.columns = pd.Index(["a", "b"], dtype=object)
    table = encode_value(frame)
    description = table.schema.metadata[METADATA].replace(pd.__version__.encode(), b"2.2.3")
    again = decode_value(table.replace_schema_metadata({METADATA: description}), About())
    if int(pd.__version__.partition(".")[0]) >= 3:
        pd.testing.assert_frame_equal(again, pd.DataFrame({"a": ["x", None], "b": frame["b"].array}, index=["k", "l"]))
    else:
        pd.testing.assert_frame_equal(again, frame)


@pytest.mark.skipif(int(pd.__version__.partition(".")[0]) < 3, reason="writes what pandas 3 does")
@pytest.mark.parametrize("text", ["x", "\ud800"])
def test_text_stored_by_pandas_3_is_restored_as_objects_in_pandas_2(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from penstock.storage.formats.pandas import arrays
    from penstock.storage.formats.pandas.tables import decode_value, encode_value
    from penstock.storage.records.records import About

    dtype = pd.StringDtype("python", na_value=np.nan)
    table = encode_value(pd.DataFrame({"a": pd.array([text, None], dtype=dtype)}))
    monkeypatch.setattr(arrays, "_MAJOR", 2)
    assert list(decode_value(table, About())["a"].astype(object).where(lambda cells: cells.notna(), None)) == [
        text,
        None,
    ]


def test_results_of_before_there_were_descriptions_can_be_read() -> None:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    from penstock.storage.formats.registry import reader_of
    from penstock.storage.records.records import About

    frame = pd.DataFrame({"a": [1, 2]}, index=pd.date_range("2026", periods=2, freq="D"))
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(frame), sink)
    about = About(type="DataFrame", details={"freq": "D"})
    again = reader_of("parquet/pandas", allow_unsafe=False).read(memoryview(sink.getvalue()), about, limit=1 << 20)
    assert_same_frame(again, frame)


def test_large_labels_beside_a_missing_one_stay_apart_in_rows_columns_and_series() -> None:
    index = pd.MultiIndex.from_tuples([("a", None), ("b", 2**53), ("b", 2**53 + 1)])
    frame = pd.DataFrame({"v": [1, 2, 3]}, index=index)
    for value in (frame, frame.T, frame["v"], index):
        codec, again = round_trip(value)
        assert codec == "parquet/pandas"
        found = again if value is index else again.columns if value.shape == (1, 3) else again.index
        assert found.is_unique
        assert found.equals(index)
        assert [level.dtype for level in found.levels] == [level.dtype for level in index.levels]


def test_other_programs_read_integer_labels_with_missing_ones_as_integers(tmp_path: Any) -> None:
    from penstock.storage.stores.local import LocalStore

    index = pd.MultiIndex([["a", "b"], [2**53 + 1, 2**53]], [[0, 1, 1], [-1, 0, 1]], names=["p", "q"])
    results = ResultStore(LocalStore(tmp_path / "store"))
    frame = pd.DataFrame({"v": [1, 2, 3]}, index=index)
    published = results.publish("t", "k", frame, after=Absent(0, "never"), attempt="a", digest="d")
    assert isinstance(published, Published)
    rows = pl.read_parquet(results.store.local_path(published.record.payload_name or ""))
    assert rows["q"].to_list() == [None, 2**53 + 1, 2**53]


def test_codes_beyond_the_labels_of_a_stored_level_are_refused() -> None:
    from penstock.storage.formats.pandas.tables import METADATA, decode_value, encode_value
    from penstock.storage.records.records import About

    table = encode_value(pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])))
    known = table.schema.metadata[METADATA]
    assert b"[0,1]" in known
    for codes in (b"[0,2]", b"[0,-2]", b"[0]"):
        planted = table.replace_schema_metadata({METADATA: known.replace(b"[0,1]", codes, 1)})
        with pytest.raises(SerializationError, match="index of a stored frame cannot be read"):
            decode_value(planted, About())


def test_only_indexes_that_earlier_releases_would_misread_have_the_next_version() -> None:
    from penstock.storage.formats.pandas.tables import METADATA, encode_value

    def version(codes: list[int]) -> int:
        described = encode_value(pd.MultiIndex([pd.Index([1, 2])], [codes])).schema.metadata[METADATA]
        return int(json.loads(described)["v"])

    assert version([0, 1]) == version([1, 0, 1]) == version([1, 1]) == 1
    assert version([0, -1]) == 2


@pytest.mark.parametrize("text", [b"x", b"[]", b"\xff"])
@pytest.mark.slow
def test_a_table_with_metadata_under_the_name_of_pandas_is_computed_once_and_kept(text: bytes) -> None:
    import pyarrow as pa

    from penstock import INPUTS, flow, task

    calls = []

    @task(cache_policy=INPUTS)
    def make(text: bytes) -> Any:
        calls.append(text)
        return pa.table({"a": [1]}).replace_schema_metadata({b"pandas": text})

    @task(cache_policy=INPUTS)
    def use(table: Any) -> Any:
        calls.append(b"use")
        return dict(table.schema.metadata)

    @flow
    def main() -> Any:
        table = make(text)
        return table.result().schema.metadata, use(table).result()

    assert [main(), main()] == [({b"pandas": text}, {b"pandas": text})] * 2
    assert calls == [text, b"use"]


def test_other_programs_can_read_a_stored_frame(tmp_path: Any) -> None:
    from penstock.storage.stores.local import LocalStore

    frame = pd.DataFrame(
        {"day": pd.Categorical(["mo", "tu"]), "bin": pd.cut([1.0, 2.0], 2), "cell": [{"x": 1}, [2]], 7: [1.5, 2.5]},
        index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["p", None]),
    )
    results = ResultStore(LocalStore(tmp_path / "store"))
    published = results.publish("t", "k", frame, after=Absent(0, "never"), attempt="a", digest="d")
    assert isinstance(published, Published)
    path = results.store.local_path(published.record.payload_name or "")
    rows = pl.read_parquet(path).to_dicts()
    assert rows[1] == {
        "day": "tu", "bin": "(1.5, 2.0]", "cell": "[2]", "7": 2.5, "p": "b", "__index_level_1__": 2,
    }  # fmt: skip
    assert list(pd.read_parquet(path)["day"]) == ["mo", "tu"]
