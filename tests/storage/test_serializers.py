"""Every codec restores an equal value of the same type; if it would not, another one is chosen."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import io
import itertools
import math
import pickle
import threading
import warnings
import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import CodecRefused, ConfigurationError, SerializationError
from penstock.storage.formats import registry as choosing
from penstock.storage.formats.base import Serializer
from penstock.storage.formats.registry import reader_of, register_serializer, serializer_for
from penstock.storage.formats.typed import sameness
from penstock.storage.records.records import About

pa = pytest.importorskip("pyarrow")


def written(value: Any, wanted: str | Serializer | None = None) -> tuple[str, bytes, About]:
    serializer = serializer_for(value, wanted)
    file = io.BytesIO()
    about = serializer.write(value, file) or About()
    return serializer.name, file.getvalue(), msgspec.json.decode(msgspec.json.encode(about), type=About)


def back(codec: str, data: bytes, about: About, limit: int = 1 << 30) -> Any:
    return reader_of(codec, allow_unsafe=True).read(memoryview(data), about, limit=limit)


def round_trip(value: Any, wanted: str | Serializer | None = None) -> tuple[str, Any]:
    codec, data, about = written(value, wanted)
    return codec, back(codec, data, about)


# -- plain values

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def same(a: Any, b: Any) -> bool:
    """Equal in value, type, order and sign of zero at every level."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b) and (not isinstance(a, float) or math.copysign(1, a) == math.copysign(1, b))


@given(plain)
def test_plain_values_are_restored_from_json(value: Any) -> None:
    codec, again = round_trip(value)
    assert codec == "json"
    assert same(value, again)


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {1, 2},
        {1: "a"},
        {"a": (1,)},
        [{"a": b"bytes"}],
        math.inf,
        "\ud800",
        dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        decimal.Decimal("1.10"),
        True + 0j,
        range(3),
        Exception("x").args,
    ],
)
def test_values_that_json_would_change_use_typed_json(value: Any) -> None:
    codec, again = round_trip(value)
    assert codec == "json/typed"
    assert sameness.same(again, value)


class Name(str):
    pass


class Count(int):
    pass


def test_subclasses_of_plain_types_are_not_plain() -> None:
    for value in (Name("a"), Count(1), [Count(1)], {Name("a"): 1}):
        codec, again = round_trip(value)
        assert codec == "pickle"
        assert type(again) is type(value)


def test_shared_objects_are_shared_again() -> None:
    row = [1]
    codec, again = round_trip({"a": row, "b": [row]})
    assert codec == "json/typed"
    assert again["a"] is again["b"][0]


def test_very_deep_lists_do_not_crash_json() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(SerializationError):
        written(deep)
    while deep:  # taken apart here, because the interpreter would do it recursively
        deep = deep.pop()


@pytest.mark.parametrize("wanted", ["json", "pickle", "compressed/json", "compressed/pickle"])
def test_a_named_serializer_is_used(wanted: str) -> None:
    codec, again = round_trip({"a": [1, 2]}, wanted)
    assert (codec, again) == (wanted, {"a": [1, 2]})


def test_a_value_that_the_named_serializer_would_change_is_an_error() -> None:
    for wanted in ("parquet", "npy"):
        with pytest.raises(SerializationError, match="tuple"):
            written((1, 2), wanted)
    for wanted in ("json", "compressed/json", "json/typed", "json/struct"):
        with pytest.raises(SerializationError, match=r"Lock|lock"):
            written(threading.Lock(), wanted)
    assert round_trip((1, 2), "json") == ("json/typed", (1, 2))


def test_the_error_for_an_unknown_serializer_lists_the_known_ones() -> None:
    with pytest.raises(ConfigurationError) as caught:
        written(1, "yaml")
    assert "compressed/pickle" in caught.value.hint


def test_the_error_for_an_unstorable_value_gives_its_path() -> None:
    with pytest.raises(SerializationError) as caught:
        written({"model": [1, {"lock": threading.Lock()}]})
    assert caught.value.where == "result['model'][1]['lock']"
    assert "lock" in str(caught.value)


# -- models


@dataclasses.dataclass
class Point:
    x: int
    tags: set[str] = dataclasses.field(default_factory=set)
    when: dt.date = dt.date(2024, 1, 1)


@dataclasses.dataclass
class Loose:
    anything: Any


@dataclasses.dataclass
class Forgetful:
    x: int
    cached: int = dataclasses.field(default=0, init=False, compare=False)


class Struct(msgspec.Struct):
    x: int
    inner: Point


@pytest.mark.parametrize("value", [Point(1, {"a"}), Struct(1, Point(2)), Loose([1, "a"])])
def test_models_are_stored_as_json_and_restored_as_their_class(value: Any) -> None:
    codec, again = round_trip(value)
    assert codec == "json/typed"
    assert sameness.same(again, value)


@pytest.mark.parametrize("value", [Loose((1, 2)), Loose(Point(1)), Loose(math.nan), Loose(object)])
def test_field_values_keep_their_types(value: Any) -> None:
    codec, again = round_trip(value)
    assert codec == "json/typed"
    assert sameness.same(again, value)
    with pytest.raises(SerializationError):
        written(value, "json/struct")


@pytest.mark.parametrize(
    ("codec", "data", "name", "value"),
    [
        ("json/struct", b'{"x":1,"tags":["a"],"when":"2024-01-01"}', "Point", Point(1, {"a"})),
        ("json/struct", b'{"x":1,"inner":{"x":2,"tags":[],"when":"2024-01-01"}}', "Struct", Struct(1, Point(2))),
    ],
)
def test_results_of_earlier_versions_can_be_read(codec: str, data: bytes, name: str, value: Any) -> None:
    assert back(codec, data, About(type=f"{__name__}:{name}")) == value


def test_a_field_ignored_by_equality_is_kept() -> None:
    value = Forgetful(1)
    value.cached = 7
    assert round_trip(value)[1].cached == 7


def test_a_class_that_cannot_be_imported_is_pickled() -> None:
    @dataclasses.dataclass
    class Local:
        x: int

    codec, again = round_trip(Local(1))
    assert (codec, again.x) == ("pickle", 1)


@pytest.mark.needs("pydantic")
def test_pydantic_models_are_restored_as_their_class() -> None:
    pydantic = pytest.importorskip("pydantic")
    globals()["Model"] = type(
        "Model",
        (pydantic.BaseModel,),
        {"__annotations__": {"x": int, "anything": Any, "when": dt.datetime}, "__module__": __name__},
    )
    value = Model(x=1, anything=["a"], when=dt.datetime(2024, 1, 1))  # noqa: F821
    codec, again = round_trip(value)
    assert codec == "json/typed"
    assert sameness.same(again, value)
    assert sameness.same(round_trip(value, "json/pydantic"), ("json/pydantic", value))
    changed = value.model_copy(update={"anything": (1, 2)})
    assert sameness.same(round_trip(changed)[1], changed)
    with pytest.raises(SerializationError):
        written(changed, "json/pydantic")


@pytest.mark.parametrize(
    "name",
    ["subprocess:Popen", "this:d", "os:system", "penstock.errors:UsageError", "tests.__main__:X", "builtins:dict"],
)
@pytest.mark.parametrize("codec", ["json/pydantic", "json/struct"])
def test_a_record_cannot_name_a_class_that_is_not_a_model(codec: str, name: str) -> None:
    if codec == "json/pydantic":
        pytest.importorskip("pydantic")
    with pytest.raises(CodecRefused):
        back(codec, b"{}", About(type=name))


@pytest.mark.parametrize(
    "kind",
    [
        pa.map_(pa.string(), pa.int64(), keys_sorted=True),
        pa.list_(pa.field("x", pa.int64(), nullable=False, metadata={"unit": "m"}), 1),
        pa.struct([("m", pa.map_(pa.string(), pa.int64(), keys_sorted=True))]),
    ],
    ids=["map", "fixed list", "struct"],
)
def test_arrow_arrays_keep_their_types(kind: Any) -> None:
    for value in (pa.nulls(2, kind), kind, [pa.nulls(2, kind)]):
        _, again = round_trip(value)
        assert sameness.difference(value, again) is None


# -- numpy


@pytest.mark.needs("numpy")
def test_arrays_are_restored_with_dtype_shape_and_order() -> None:
    np = pytest.importorskip("numpy")
    for value in (
        np.arange(12).reshape(3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.array(5, dtype=">i2"),
        np.array(["a", "bb"]),
        np.array(["2024-01-01"], "M8[D]"),
        np.zeros(2, dtype=[("a", "i4"), ("b", "f8", (2,))]),
        np.zeros((0, 3), dtype=np.float16),
        np.arange(300_000),
        np.arange(20)[::3],
        np.array([1 + 2j]),
    ):
        codec, again = round_trip(value)
        assert codec == "npy"
        assert again.dtype == value.dtype
        assert again.flags.f_contiguous == value.flags.f_contiguous or not value.flags.contiguous
        np.testing.assert_array_equal(again, value)
        assert again.flags.writeable
        assert again.shape == value.shape


@pytest.mark.needs("numpy")
def test_arrays_keep_the_layout_of_their_dtype() -> None:
    np = pytest.importorskip("numpy")
    spread = np.dtype({"names": ["b", "a"], "formats": ["i4", "i2"], "offsets": [4, 0], "itemsize": 16})
    aligned = np.dtype([("a", "i1"), ("b", "i4")], align=True)
    for dtype in (
        spread,
        aligned,
        np.dtype({"names": ["b", "a"], "formats": ["i4", "i2"], "offsets": [0, 2]}),
        np.dtype({"names": ["b", "a"], "formats": ["i4", "i2"], "offsets": [4, 0], "titles": ["B", "A"]}),
        np.dtype([("x", spread), ("y", aligned, (2,))]),
        np.dtype([("x", "i1"), ("y", aligned)], align=True),
        np.dtype([("x", np.longlong)]),
        np.dtype(np.longlong),
        np.dtype(np.longlong).newbyteorder(">"),
    ):
        for value in (np.ones(3, dtype), np.ones((2, 3), dtype, order="F"), np.ones((), dtype)):
            codec, again = round_trip(value)
            assert (codec, sameness.difference(value, again)) == ("npy", None), dtype
            assert again.flags.writeable


@pytest.mark.needs("numpy")
def test_records_keep_the_layout_of_their_dtype() -> None:
    np = pytest.importorskip("numpy")
    spread = np.dtype({"names": ["b", "a"], "formats": ["i4", "i2"], "offsets": [4, 0], "itemsize": 16})
    codec, again = round_trip(np.ones(2, spread).view(np.recarray))
    assert (codec, type(again), again.b.tolist(), again.itemsize) == ("npy", np.recarray, [1, 1], 16)


@pytest.mark.needs("numpy")
@pytest.mark.parametrize("layout", ['"|O"', '"<i4"', "[1", '{"names": ["a"]}', '{"of": "<i8", "shape": ["x"]}', "7"])
def test_a_layout_that_is_not_that_of_the_bytes_is_refused(layout: str) -> None:
    np = pytest.importorskip("numpy")
    _, data, about = written(np.ones(3, np.longlong))
    with pytest.raises(SerializationError, match="a stored array cannot be read"):
        back("npy", data, msgspec.structs.replace(about, details={**about.details, "layout": layout}))


@pytest.mark.needs("numpy")
def test_masked_arrays_of_structs_keep_the_mask_of_each_field() -> None:
    np = pytest.importorskip("numpy")
    spread = np.dtype({"names": ["b", "a"], "formats": ["i4", "i2"], "offsets": [4, 0], "itemsize": 16})
    for dtype in (np.dtype([("a", "i4"), ("b", "i4")]), spread):
        value = np.ma.array([(1, 2)], mask=[(1, 0)], dtype=dtype)
        _, again = round_trip(value)
        assert (again.dtype, again.dtype.itemsize) == (dtype, dtype.itemsize)
        assert (again.mask.tolist(), again.tolist()) == (value.mask.tolist(), value.tolist())


@pytest.mark.needs("numpy")
@pytest.mark.parametrize("text", ["a\0", "\0", "", "a\0b\0\0", "\ud800\0"])
def test_text_scalars_of_numpy_keep_nuls_at_the_end(text: str) -> None:
    np = pytest.importorskip("numpy")
    for value in (np.str_(text), np.bytes_(text.encode("utf-8", "surrogatepass"))):
        for held in (value, [value], {"a": value}, {value: 1}, [value, print]):
            _, again = round_trip(held)
            assert sameness.difference(held, again) is None


@pytest.mark.needs("numpy")
def test_arrays_that_npy_loses_have_another_format() -> None:
    np = pytest.importorskip("numpy")
    for value, wanted in (
        (np.array([{}, 1], dtype=object), "json/array"),
        (np.ma.masked_array([1, 2], [True, False]), "npy/masked"),
        (np.array(["a"], dtype=np.dtypes.StringDType()), "json/array"),
        (np.array([print], dtype=object), "pickle"),
        (np.zeros(1, dtype=[("a", object)]), "pickle"),
        (np.array([1], dtype=np.dtype("i4", metadata={"unit": "m"})), "pickle"),
    ):
        codec, again = round_trip(value)
        assert codec == wanted
        assert type(again) is type(value)


@pytest.mark.needs("numpy")
def test_records_with_hundreds_of_fields_can_be_read() -> None:
    np = pytest.importorskip("numpy")
    value = np.zeros(2, [(f"a field with a long name {n}", "f8") for n in range(500)])
    codec, again = round_trip(value)
    assert (codec, again.dtype) == ("npy", value.dtype)


@pytest.mark.needs("numpy")
def test_long_doubles_are_read_only_where_they_mean_the_same() -> None:
    np = pytest.importorskip("numpy")
    _, data, about = written(np.array([1.5], dtype=np.longdouble))
    elsewhere = msgspec.structs.replace(about, details={**about.details, "longdouble": "128 bits of another kind"})
    with pytest.raises(SerializationError, match="long doubles cannot be read on this machine"):
        back("npy", data, elsewhere)


@pytest.mark.needs("numpy")
def test_an_array_uses_the_memory_it_was_read_into() -> None:
    np = pytest.importorskip("numpy")
    _, data, about = written(np.arange(10.0))
    own = memoryview(bytearray(data))
    again = reader_of("npy", allow_unsafe=False).read(own, about, limit=1 << 20)
    assert np.shares_memory(again, np.frombuffer(own, dtype=np.uint8))
    again[0] = 7.0
    shared = reader_of("npy", allow_unsafe=False).read(memoryview(data), about, limit=1 << 20)
    assert not np.shares_memory(shared, np.frombuffer(data, dtype=np.uint8))


@pytest.mark.needs("numpy")
def test_an_array_file_that_claims_too_much_is_refused_before_memory_is_allocated() -> None:
    np = pytest.importorskip("numpy")
    _, data, about = written(np.zeros(10))
    forged = data.replace(b"(10,)", b"(9" + b"9" * 12 + b",)")[: len(data)]
    with pytest.raises((SerializationError, ValueError)):
        back("npy", forged, about)
    pickled = io.BytesIO()
    np.save(pickled, np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises((SerializationError, ValueError)):
        back("npy", pickled.getvalue(), about)


# -- Arrow


def batches(count: int = 3) -> list[Any]:
    return [pa.record_batch({"a": [i, i + 1], "b": ["x", None]}) for i in range(count)]


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"a": [1, None], "b": ["x", "y"]}),
        pa.table({}),
        pa.table({"a": pa.array([], pa.list_(pa.struct([("x", pa.int8())])))}),
        pa.table({"d": pa.DictionaryArray.from_arrays(pa.array([0, 1, 0], pa.int8()), pa.array(["a", "b"]))}),
        pa.table({"t": pa.array([1], pa.timestamp("ns", "Europe/Berlin")), "l": pa.array(["x"], pa.large_string())}),
        pa.table({"a": [1]}).replace_schema_metadata({"who": "me"}),
        pa.table({"t": pa.array([1], pa.timestamp("s")), "d": pa.array([0], pa.date64())}),
        pa.Table.from_batches(batches()),
        pa.table({"n": pa.nulls(2), "s": pa.array([{"x": 1}, None])}),
    ],
    ids=str,
)
def test_arrow_tables_are_restored(table: Any) -> None:
    codec, again = round_trip(table)
    assert codec == "parquet/arrow"
    assert again.equals(table, check_metadata=True)


def test_a_map_is_restored_equal() -> None:
    table = pa.table({"m": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64()))})
    codec, again = round_trip(table)
    assert codec == "parquet/arrow"
    assert again.equals(table)  # only the inner name of a map's entries is Parquet's


@pytest.mark.parametrize("batch", [batches()[0], batches()[0].slice(0, 0)])
def test_a_record_batch_is_restored_as_one(batch: Any) -> None:
    codec, again = round_trip(batch)
    assert codec == "parquet/arrow"
    assert isinstance(again, pa.RecordBatch)
    assert again.equals(batch)


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"m": pa.array([(1, 2, 3)], pa.month_day_nano_interval())}),
        pa.table({"a": [1, 2]}).select([]),
        pa.table({"u": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])}),
    ],
    ids=str,
)
def test_a_table_that_parquet_would_change_is_an_arrow_file(table: Any) -> None:
    codec, again = round_trip(table)
    assert codec == "arrow"
    assert again.equals(table)


@pytest.mark.parametrize(
    "stream",
    [
        lambda: (batch for batch in batches()),
        lambda: iter(batches()),
        lambda: map(batches().__getitem__, range(3)),
        lambda: itertools.chain(batches()),
        lambda: (pa.Table.from_batches([batch]) for batch in batches()),
        lambda: pa.RecordBatchReader.from_batches(batches()[0].schema, batches()),
    ],
)
def test_a_stream_of_batches_is_restored_as_one_table(stream: Any) -> None:
    codec, data, about = written(stream())
    assert codec == "parquet/arrow"
    assert about.rows == 6
    assert back(codec, data, about).equals(pa.Table.from_batches(batches()))


def test_a_stream_is_written_batch_by_batch() -> None:
    sizes = []

    class File(io.BytesIO):
        pass

    file = File()

    def stream():
        for i in range(5):
            sizes.append(file.tell())
            yield pa.record_batch({"a": list(range(i * 1000, i * 1000 + 1000))})

    value = stream()
    serializer_for(value).write(value, file)
    assert sizes == sorted(sizes)
    assert sizes[1] < sizes[2] < sizes[4]


def test_an_empty_reader_keeps_its_columns_and_an_empty_generator_is_an_error() -> None:
    schema = batches()[0].schema
    assert round_trip(pa.RecordBatchReader.from_batches(schema, []))[1].equals(schema.empty_table())
    with pytest.raises(SerializationError, match="empty"):
        written(iter(()))


def test_a_generator_of_anything_else_is_an_error_that_says_so() -> None:
    with pytest.raises(SerializationError, match="iterator of int") as caught:
        written(i for i in range(3))
    assert "list" in caught.value.hint


def test_a_table_that_unpacks_to_more_than_the_limit_is_refused() -> None:
    codec, data, about = written(pa.table({"a": pa.array([0] * 1_000_000)}))
    assert len(data) < 50_000
    with pytest.raises(SerializationError, match="too large"):
        back(codec, data, about, limit=1_000)


def test_a_compressed_result_that_unpacks_to_more_than_the_limit_is_refused() -> None:
    packed = zlib.compressobj(wbits=31)
    bomb = packed.compress(b"0" * 10_000_000) + packed.flush()
    for codec in ("compressed/json", "compressed/pickle"):
        with pytest.raises(SerializationError, match="too large"):
            back(codec, bomb, About(), limit=1_000_000)


# -- choosing


class Celsius:
    def __init__(self, degrees: float) -> None:
        self.degrees = degrees


class CelsiusSerializer:
    name = "celsius"
    suffix = ".txt"
    safe = True

    def can(self, value: Any) -> bool:
        return isinstance(value, Celsius)

    def write(self, value: Any, file: Any) -> None:
        file.write(repr(value.degrees).encode())

    def read(self, data: memoryview, about: About, *, limit: int) -> Celsius:
        return Celsius(float(bytes(data)))


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "_registry", dict(choosing._registry))
    register_serializer(CelsiusSerializer())


@pytest.mark.usefixtures("registered")
def test_a_registered_serializer_is_chosen_first_and_reads_its_codec() -> None:
    codec, again = round_trip(Celsius(21.5))
    assert (codec, again.degrees) == ("celsius", 21.5)


@pytest.mark.usefixtures("registered")
def test_a_codec_name_cannot_change_its_meaning() -> None:
    class Other(CelsiusSerializer):
        pass

    register_serializer(CelsiusSerializer())
    with pytest.raises(ConfigurationError, match="taken"):
        register_serializer(Other())


def test_a_serializer_can_be_given_as_an_instance() -> None:
    assert written(Celsius(1.0), CelsiusSerializer())[0] == "celsius"
    with pytest.raises(CodecRefused, match="celsius"):
        reader_of("celsius", allow_unsafe=True)


@pytest.mark.parametrize("codec", ["pickle", "compressed/pickle"])
def test_pickles_are_read_only_if_allowed(codec: str) -> None:
    assert reader_of(codec, allow_unsafe=True).name == codec
    with pytest.raises(CodecRefused, match="pickle"):
        reader_of(codec, allow_unsafe=False)


@pytest.mark.parametrize("codec", ["json", "npy", "parquet/arrow", "parquet/pandas", "parquet/polars", "json/struct"])
def test_safe_codecs_can_be_read_anywhere(codec: str) -> None:
    assert reader_of(codec, allow_unsafe=False).name == codec


def test_plain_values_cause_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in (1, "a", [1], (1,), {1}, b"x", Point(1), pickle):
            serializer_for(value)
