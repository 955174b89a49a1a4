"""Digests of arrays and tables: content, dtypes and labels count; the layout in memory does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.digests.python import digest
from penstock.errors import DigestError

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")


def golden_values() -> dict[str, Any]:
    """Return one value of each kind whose digest is recorded."""
    return {
        "np int64 scalar": np.int64(3),
        "np datetime64 scalar": np.datetime64("2024-02-29"),
        "np ints": np.arange(6, dtype="int32").reshape(2, 3),
        "np floats": np.array([1.5, np.nan, -0.0]),
        "np empty": np.zeros((0, 3)),
        "np 0-d": np.array(5),
        "np complex": np.array([1 + 2j]),
        "np bool": np.array([True, False]),
        "np text": np.array(["a", "Grüße"]),
        "np objects": np.array(["a", None, 1], object),
        "np struct": np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]),
        "np masked": np.ma.masked_array([1, 2], mask=[False, True]),
        "np dtype": np.dtype("float64"),
        "np ufunc": np.sin,
        "pa ints": pa.array([1, None, 3]),
        "pa bools": pa.array([True, None, False]),
        "pa floats": pa.array([1.5, None, float("nan")]),
        "pa text": pa.array(["a", None, "Grüße"]),
        "pa lists": pa.array([[1, None], None, []]),
        "pa structs": pa.array([{"a": 1, "b": "x"}, None]),
        "pa map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int32())),
        "pa dictionary": pa.array(["b", "a", "b", None]).dictionary_encode(),
        "pa decimal": pa.array([None, 15], pa.decimal128(5, 2)),
        "pa timestamp": pa.array([0, None], pa.timestamp("us", "Europe/Berlin")),
        "pa fixed list": pa.array([[1, 2], None], pa.list_(pa.int8(), 2)),
        "pa nulls": pa.nulls(3),
        "pa chunked": pa.chunked_array([[1], [2, 3]]),
        "pa table": pa.table({"a": [1, None], "b": ["x", "y"]}),
        "pa batch": pa.record_batch({"a": [1, 2]}),
        "pa scalar": pa.scalar(5),
        "pa schema": pa.schema([pa.field("a", pa.int8(), nullable=False)], {"k": "v"}),
        "pa type": pa.list_(pa.int8()),
        "pd series": pd.Series([1, 2], name="s"),
        "pd frame": pd.DataFrame({"a": [1, 2], "b": [1.5, None]}, index=[10, 20]),
        "pd Int64": pd.Series([1, None], dtype="Int64"),
        "pd category": pd.Series(["u", "v", None], dtype="category"),
        "pd datetimes": pd.Series(pd.DatetimeIndex(["2024-01-01", None], tz="UTC").as_unit("ns")),
        "pd multiindex": pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["n", None]),
        "pd range": pd.RangeIndex(3),
        "pd timestamp": pd.Timestamp("2024-01-01", tz="UTC").as_unit("ns"),
        "pd NA": pd.NA,
        "pd NaT": pd.NaT,
        "pl series": pl.Series("s", [1, None]),
        "pl frame": pl.DataFrame({"a": [1, 2], "b": ["x", None], "c": [[1], [2, 3]]}),
        "pl enum": pl.Series("e", ["b", "a"], dtype=pl.Enum(["a", "b"])),
        "pl nested enum": pl.Series("e", [["b"], None], dtype=pl.List(pl.Enum(["a", "b"]))),
        "pl category": pl.Series("e", ["b", None], dtype=pl.Categorical),
        "pl struct": pl.Series(
            "e", [{"a": 1, "t": None}], dtype=pl.Struct({"a": pl.Int8, "t": pl.Datetime("ms", "UTC")})
        ),
        "pl decimal": pl.Series("e", ["1.50", None]).cast(pl.Decimal(10, 2)),
        "pl dtype": pl.List(pl.Int8),
        "pd text labels": pd.Index(["a", "b"], name="n"),
        "pd time index": pd.DatetimeIndex(["2024-01-01", "2024-01-02"], freq="D").as_unit("ns"),
        "pd zoned": pd.Series(pd.DatetimeIndex(["2024-01-01"], tz="Europe/Berlin").as_unit("ns")),
        "pd zoned time": pd.Timestamp("2024-10-27 04:30", tz="Europe/Berlin").as_unit("ns"),
        "pd timedelta": pd.Timedelta(5, "s").as_unit("ns"),
        "pd frame type": pd.DataFrame,
        "pd string": pd.Series(["a", None], dtype="string"),
        "pd period": pd.PeriodIndex(["2024-01"], freq="M"),
        "pd interval": pd.Interval(0, 1),
        "pd from_pandas": pa.Table.from_pandas(pd.DataFrame({"a": [1.5], "b": [2]}, index=pd.Index([3], name="i"))),
        "np generator": np.random.default_rng(5),
        "np random state": np.random.RandomState(5),
        "np seeds": np.random.SeedSequence([1, 2], spawn_key=(3,)),
        "pa halves": pa.array(np.array([1.5, np.nan, -0.0], "f2")),
        "pa views": pa.array(["a", None, "more than twelve bytes"], pa.string_view()),
        "pa null dictionary": pa.DictionaryArray.from_arrays(pa.array([0, 1, None], pa.int8()), pa.array(["a", None])),
    }


GOLDEN = golden_values()


@pytest.fixture(scope="module")
def golden() -> dict[str, str]:
    text = (Path(__file__).parent / "golden_keys.json").read_text(encoding="utf-8")
    vectors: dict[str, str] = json.loads(text)["columns"]
    return vectors


@pytest.mark.parametrize("name", GOLDEN)
def test_the_digest_is_the_golden_one_on_every_python(golden: dict[str, str], name: str) -> None:
    assert digest(GOLDEN[name]) == golden[name]


def test_no_two_golden_values_share_a_digest_and_none_is_missing(golden: dict[str, str]) -> None:
    assert len(set(golden.values())) == len(golden)
    assert set(golden) == set(GOLDEN)


# -- numpy -----------------------------------------------------------------------------------------------------------

BASE = np.arange(24, dtype="f8").reshape(2, 3, 4)


@pytest.mark.parametrize(
    "same",
    [
        np.asfortranarray(BASE),
        BASE.astype(">f8"),
        np.ascontiguousarray(BASE.transpose(2, 0, 1)).transpose(1, 2, 0),
        np.repeat(BASE, 2, axis=2)[:, :, ::2],
        BASE[:, ::-1].copy()[:, ::-1],
        np.asfortranarray(BASE.astype(">f8")),
    ],
    ids=["fortran", "big-endian", "transposed", "strided", "reversed", "both"],
)
def test_the_layout_of_an_array_does_not_matter(same: Any) -> None:
    assert np.array_equal(same, BASE)
    assert digest(same) == digest(BASE)


def test_a_large_array_in_any_layout_has_one_digest() -> None:
    big = np.arange(3 << 20, dtype="f8").reshape(1024, -1)
    assert digest(np.asfortranarray(big)) == digest(big) == digest(big.astype(">f8"))


def test_shape_and_dtype_of_an_array_matter() -> None:
    flat = np.zeros(6)
    shaped = [flat.reshape(2, 3), flat.reshape(3, 2), np.zeros(7)]
    different = [flat, *shaped, flat.astype("f4"), flat.astype("i8"), [0.0] * 6]
    assert len({digest(value) for value in different}) == len(different)


def test_numpy_scalars_are_not_python_numbers() -> None:
    different = [np.int64(3), 3, np.int32(3), np.float64(3), 3.0, np.array(3)]
    assert len({digest(value) for value in different}) == len(different)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "c8", "c16"])
def test_all_nans_in_arrays_are_one_value(dtype: str) -> None:
    one = np.array([1, np.nan, 2], dtype)
    bits = one.copy()
    view = bits.view(f"u{one.real.dtype.itemsize}")
    view[np.isnan(bits.view(one.real.dtype))] |= 1
    assert bits.tobytes() != one.tobytes()
    assert digest(bits) == digest(one)
    assert digest(one) != digest(np.array([1, 0, 2], dtype))


def test_padding_between_fields_does_not_matter() -> None:
    packed = np.array([(1, 2.5), (3, 4.5)], dtype=np.dtype([("a", "i1"), ("b", "f8")]))
    aligned = packed.astype(np.dtype([("a", "i1"), ("b", "f8")], align=True))
    assert aligned.itemsize != packed.itemsize
    assert digest(aligned) == digest(packed)


def test_values_under_a_mask_do_not_matter() -> None:
    one, other = (np.ma.masked_array([1, hidden], mask=[False, True]) for hidden in (2, 3))
    assert digest(one) == digest(other)
    assert digest(one) != digest(np.ma.masked_array([1, 2], mask=[True, False]))


def test_a_read_only_array_and_a_memory_map_count_as_arrays(tmp_path: Path) -> None:
    values = np.arange(4.0)
    np.save(tmp_path / "a.npy", values)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    assert digest(mapped) == digest(values)


def test_objects_in_arrays_are_followed_and_named_in_errors() -> None:
    with pytest.raises(DigestError) as caught:
        digest({"a": np.array([1, iter([])], object)})
    assert caught.value.where == "value['a'][1]"


def test_an_array_that_holds_itself_is_an_error() -> None:
    value = np.empty(1, object)
    value[0] = {"again": value}
    with pytest.raises(DigestError, match="contains itself"):
        digest(value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.matrix([[1]]),
        lambda: np.frompyfunc(len, 1, 1),
        lambda: np.array([1], np.longdouble),
    ],
)
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_numpy_values_without_a_digest_are_errors(make: Any) -> None:
    with pytest.raises(DigestError):
        digest(make())


def test_masked_arrays_of_structs_count_the_mask_of_each_field() -> None:
    dtype = [("a", "i4"), ("b", [("c", "i4", (2,))])]
    values = [(1, ((2, 3),))]
    masks = ([(1, ((0, 0),))], [(0, ((0, 0),))], [(0, ((1, 0),))], [(0, ((0, 1),))])
    arrays = [np.ma.array(values, mask=mask, dtype=dtype) for mask in masks]
    assert len({digest(array) for array in arrays}) == 4
    hidden = np.ma.array([(7, ((2, 3),))], mask=masks[0], dtype=dtype)
    assert digest(hidden) == digest(arrays[0])


SPREAD = {"names": ["b", "a"], "formats": ["i4", "i2"], "offsets": [4, 0], "itemsize": 16}


def test_places_of_fields_do_not_matter_in_arrays() -> None:
    spread = np.array([(1, 2)], np.dtype(SPREAD))
    assert digest(spread) == digest(np.array([(1, 2)], [("b", "i4"), ("a", "i2")]))


def test_places_of_fields_matter_in_dtypes() -> None:
    aligned = np.dtype([("a", "i1"), ("b", "i4")], align=True)
    dtypes = [
        np.dtype(SPREAD),
        np.dtype(SPREAD | {"itemsize": 20}),
        np.dtype([("b", "i4"), ("a", "i2")]),
        np.dtype([("x", aligned)]),
        np.dtype([("x", aligned)], align=True),
        np.dtype([("x", [("a", "i1"), ("b", "i4")])]),
        np.dtype([("x", np.dtype(SPREAD), (2,))]),
    ]
    assert len({digest(dtype) for dtype in dtypes}) == len(dtypes)


def test_a_nul_is_not_an_empty_text() -> None:
    scalars = [np.str_(""), np.str_("\0"), np.str_("\0\0"), np.bytes_(b""), np.bytes_(b"\0"), np.bytes_(b"a\0")]
    assert len({digest(scalar) for scalar in scalars}) == len(scalars)


def test_numpy_functions_count_by_name() -> None:
    assert len({digest(fn) for fn in (np.sin, np.cos, np.mean, np.linalg.norm, np.cross, np.linalg.cross)}) == 6


# -- Arrow -----------------------------------------------------------------------------------------------------------

KINDS: list[tuple[Any, list[Any]]] = [
    (pa.int32(), [1, None, 3, 4]),
    (pa.float64(), [1.5, None, float("nan"), -0.0]),
    (pa.float16(), [np.float16(1.5), None, np.float16("nan"), np.float16(0.0)]),
    (pa.bool_(), [True, None, False, True]),
    (pa.string(), ["a", None, "", "dddd"]),
    (pa.large_string(), ["a", None, "", "dddd"]),
    (pa.string_view(), ["a", None, "", "a text longer than twelve bytes"]),
    (pa.binary(2), [b"ab", None, b"cd", b"ef"]),
    (pa.decimal128(5, 2), [1, None, 3, 4]),
    (pa.decimal256(5, 2), [1, None, 3, 4]),
    (pa.date32(), [1, None, 3, 4]),
    (pa.timestamp("us"), [1, None, 3, 4]),
    (pa.list_(pa.int8()), [[1], None, [], [2, None]]),
    (pa.large_list(pa.string()), [["a"], None, [], ["b", None]]),
    (pa.list_view(pa.int8()), [[1], None, [], [2, None]]),
    (pa.list_(pa.int8(), 2), [[1, 2], None, [3, 4], [5, None]]),
    (pa.struct([("a", pa.int8()), ("b", pa.string())]), [{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}, {}]),
    (pa.map_(pa.string(), pa.int8()), [[("a", 1)], None, [], [("b", None)]]),
    (pa.dictionary(pa.int8(), pa.string()), ["a", None, "b", "a"]),
    (pa.list_(pa.struct([("a", pa.list_(pa.string()))])), [[{"a": ["x"]}], None, [], [None, {"a": None}]]),
    (pa.null(), [None, None, None, None]),
]


@pytest.mark.parametrize(("kind", "items"), KINDS, ids=lambda value: str(value))
def test_chunks_and_offsets_do_not_matter(kind: Any, items: list[Any]) -> None:
    whole = pa.chunked_array([pa.array(items, kind)])
    split = pa.chunked_array([pa.array(items[:1], kind), pa.array([], kind), pa.array(items[1:], kind)])
    padded = pa.array([*items, *items, *items], kind)[4:8]
    assert digest(split) == digest(whole)
    assert digest(pa.chunked_array([padded])) == digest(whole)
    assert digest(padded) == digest(pa.array(items, kind))
    assert digest(pa.chunked_array([padded[:3], padded[3:]])) == digest(whole)


@pytest.mark.parametrize(("kind", "items"), KINDS[:-1], ids=lambda value: str(value))
def test_content_nulls_and_length_matter(kind: Any, items: list[Any]) -> None:
    different = [items, items[::-1], items[:3], [items[0], items[0], *items[2:]], [None, *items[1:]], [None] * 4]
    assert len({digest(pa.array(value, kind)) for value in different}) == len(different)


@pytest.mark.parametrize("width", [1, 4])
def test_bytes_under_nulls_do_not_matter(width: int) -> None:
    validity = pa.py_buffer(b"\x05")  # the second of three is null
    kind = {1: pa.uint8(), 4: pa.int32()}[width]
    one, other = (
        pa.Array.from_buffers(kind, 3, [validity, pa.py_buffer(b"\1" * width + fill * width + b"\3" * width)])
        for fill in (b"\0", b"\7")
    )
    assert digest(one) == digest(other) == digest(pa.array([one[0].as_py(), None, one[2].as_py()], kind))


def test_text_under_nulls_does_not_matter() -> None:
    offsets = pa.py_buffer(np.array([0, 1, 4, 5], "i4").tobytes())
    array = pa.Array.from_buffers(pa.string(), 3, [pa.py_buffer(b"\x05"), offsets, pa.py_buffer(b"axxxc")])
    assert array.to_pylist() == ["a", None, "c"]
    assert digest(array) == digest(pa.array(["a", None, "c"]))


def test_items_under_null_lists_and_fields_under_null_structs_do_not_matter() -> None:
    lists = pa.ListArray.from_arrays([0, 1, 3], [1, 2, 3], mask=pa.array([False, True]))
    assert digest(lists) == digest(pa.array([[1], None]))
    structs = pa.StructArray.from_arrays([pa.array([1, 2])], ["a"], mask=pa.array([False, True]))
    assert digest(structs) == digest(pa.array([{"a": 1}, None]))


def test_a_validity_bitmap_without_a_null_does_not_matter() -> None:
    array = pa.Array.from_buffers(pa.int8(), 2, [pa.py_buffer(b"\xff"), pa.py_buffer(b"\1\2")])
    assert digest(array) == digest(pa.array([1, 2], pa.int8()))


def test_the_dictionary_behind_a_dictionary_array_does_not_matter() -> None:
    one = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), ["a", "b"])
    other = pa.DictionaryArray.from_arrays(pa.array([2, 0], pa.int32()), ["b", "unused", "a"])
    assert digest(one) == digest(other)
    assert digest(one) != digest(pa.array(["a", "b"]))


def test_types_of_arrow_columns_matter() -> None:
    kinds = [pa.int8(), pa.int16(), pa.uint8(), pa.float32(), pa.string(), pa.date32(), pa.list_(pa.int8()),
             pa.large_list(pa.int8()), pa.list_(pa.int8(), 2), pa.timestamp("s"), pa.timestamp("s", "UTC"),
             pa.struct([("a", pa.int8())]), pa.struct([("b", pa.int8())])]  # fmt: skip
    assert len({digest(pa.array([], kind)) for kind in kinds}) == len(kinds)


def test_the_name_of_list_items_does_not_matter() -> None:
    named = pa.list_(pa.field("element", pa.int8()))
    assert digest(pa.array([[1]], named)) == digest(pa.array([[1]], pa.list_(pa.int8())))


def test_a_table_survives_parquet_with_its_digest(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    coded = pa.array(["u", "v"]).dictionary_encode()
    table = pa.table({"a": [1, None], "b": ["x", "y"], "c": [[1], [2, 3]], "d": coded})
    pq.write_table(table, tmp_path / "t.parquet")
    assert digest(pq.read_table(tmp_path / "t.parquet")) == digest(table)


def test_names_order_and_metadata_of_a_table_matter() -> None:
    table = pa.table({"a": [1], "b": [2]})
    different = [table, table.select(["b", "a"]), table.rename_columns(["a", "c"]),
                 table.replace_schema_metadata({"k": "v"}), table.to_batches()[0]]  # fmt: skip
    assert len({digest(value) for value in different}) == len(different)


def test_the_pandas_version_behind_a_table_does_not_matter_but_its_index_does() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
    table = pa.Table.from_pandas(frame)
    document = json.loads(table.schema.metadata[b"pandas"])
    later = table.replace_schema_metadata({"pandas": json.dumps(document | {"pandas_version": "99"})})
    assert digest(later) == digest(table)
    indexed = pa.table({"a": [1, 2], "b": [3, 4]}, metadata=pa.Table.from_pandas(frame.set_index("b")).schema.metadata)
    assert digest(indexed) != digest(table)


def test_a_reader_is_an_error_because_reading_consumes_it() -> None:
    table = pa.table({"a": [1]})
    reader = table.to_reader()
    with pytest.raises(DigestError):
        digest(reader)
    assert reader.read_all().equals(table)


def test_extension_types_count_by_name() -> None:
    ids = pa.array([b"0123456789abcdef"], pa.binary(16))
    assert digest(pa.ExtensionArray.from_storage(pa.uuid(), ids)) != digest(ids)


RARE = [
    pa.array([(1, 2, 3), None], pa.month_day_nano_interval()),
    pa.array([b"", None], pa.binary(0)),
    pa.array([b"a", None], pa.binary(1)),
    pa.array([1, None], pa.time32("s")),
    pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])]),
    pa.RunEndEncodedArray.from_arrays([2, 3], ["a", None]),
    pa.array([{}, None], pa.struct([])),
    pa.nulls(2, pa.dictionary(pa.int8(), pa.string())),
]


@pytest.mark.parametrize("array", RARE, ids=lambda array: str(array.type))
def test_rare_types_have_digests_too(array: Any) -> None:
    assert digest(pa.concat_arrays([array, array])[len(array) :]) == digest(array)
    assert digest(array) != digest(array[:1])


def test_columns_without_rows_and_tables_without_columns_have_digests() -> None:
    empty = [pa.table({}), pa.chunked_array([], pa.int8()), pa.array([], pa.string()), pd.DataFrame(), pl.DataFrame()]
    assert len({digest(value) for value in empty}) == len(empty)
    assert digest(pa.chunked_array([], pa.int8())) == digest(pa.chunked_array([[]], pa.int8()))


@given(st.lists(st.none() | st.text(), max_size=8), st.integers(0, 8))
def test_any_chunking_of_a_text_column_has_the_same_digest(items: list[str | None], cut: int) -> None:
    array = pa.array(items, pa.string())
    split, whole = pa.chunked_array([array[:cut], array[cut:]]), pa.chunked_array([array])
    assert digest(split) == digest(whole)


class Unit(pa.ExtensionType):  # type: ignore[misc]
    """A user's extension type with a parameter."""

    def __init__(self, unit: bytes) -> None:
        self.unit = unit
        super().__init__(pa.int64(), "penstock.unit")

    def __arrow_ext_serialize__(self) -> bytes:
        return self.unit

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: Any, serialized: bytes) -> Unit:
        return cls(serialized)


def intervals(closed: Any) -> Any:
    return pa.array(pd.arrays.IntervalArray.from_tuples([(0, 1)], closed=closed))


def periods(freq: str) -> Any:
    return pa.array(pd.PeriodIndex.from_ordinals([3], freq=freq).array)  # type: ignore[attr-defined]


def extended(kind: Any) -> Any:
    return pa.ExtensionArray.from_storage(kind, pa.array([[1, 2, 3, 4, 5, 6]], kind.storage_type))


def union(how: str, codes: list[int], code: int) -> Any:
    ids, children = pa.array([code], pa.int8()), [pa.array([1]), pa.array([1])]
    if how == "sparse":
        return pa.UnionArray.from_sparse(ids, children, ["a", "b"], codes)
    return pa.UnionArray.from_dense(ids, pa.array([0], pa.int32()), children, ["a", "b"], codes)


FIELDS = [
    pa.field("x", pa.int64()),
    pa.field("x", pa.int64(), nullable=False),
    pa.field("x", pa.int64(), metadata={"unit": "m"}),
    pa.field("x", pa.int64(), metadata={"unit": "s"}),
]
UNLIKE_TYPES: dict[str, Any] = {
    "tensors": lambda: (
        [
            extended(pa.fixed_shape_tensor(pa.int64(), (2, 3), **options))
            for options in ({}, {"permutation": [1, 0]}, {"dim_names": ["a", "b"]}, {"dim_names": ["b", "a"]})
        ]
        + [extended(pa.fixed_shape_tensor(pa.int64(), (3, 2)))]
    ),
    "opaque": lambda: [
        pa.ExtensionArray.from_storage(pa.opaque(pa.int64(), *names), pa.array([1]))
        for names in (("a", "c"), ("a", "d"), ("b", "c"))
    ],
    "intervals": lambda: [intervals(closed) for closed in ("left", "right", "both", "neither")],
    "periods": lambda: [periods("M"), periods("D")],
    "users": lambda: [
        pa.ExtensionArray.from_storage(Unit(unit), pa.array([1]))
        for unit in (b"", b"m", b"\0", b"{}", b'{"a":1}', b'{"a": 1}')
    ],
    "unions": lambda: [
        union(how, codes, code) for how in ("dense", "sparse") for codes in ([0, 1], [1, 0], [5, 7]) for code in codes
    ],
    "maps": lambda: [
        pa.array([[("a", 1)], None], kind)
        for kind in (
            pa.map_(pa.string(), pa.int64()),
            pa.map_(pa.string(), pa.int64(), keys_sorted=True),
            pa.map_(pa.string(), pa.field("value", pa.int64(), nullable=False)),
        )
    ],
    "structs": lambda: [pa.array([{"x": 1}, None], pa.struct([field])) for field in FIELDS],
    "lists": lambda: [pa.array([[1], None], pa.list_(field)) for field in FIELDS],
    "large lists": lambda: [pa.array([[1], None], pa.large_list(field)) for field in FIELDS],
    "fixed lists": lambda: [pa.array([[1], None], pa.list_(field, 1)) for field in FIELDS],
    "views of lists": lambda: [pa.array([[1], None], pa.list_view(field)) for field in FIELDS],
    "lists of structs": lambda: [pa.array([[{"x": 1}]], pa.list_(pa.struct([field]))) for field in FIELDS],
    "maps of structs": lambda: [
        pa.array([[("a", {"x": 1})]], pa.map_(pa.string(), pa.struct([field]))) for field in FIELDS
    ],
}


@pytest.mark.parametrize("name", UNLIKE_TYPES)
def test_everything_that_a_type_says_matters(name: str) -> None:
    arrays = UNLIKE_TYPES[name]()
    assert len({digest(array) for array in arrays}) == len(arrays)
    assert len({digest(pa.table({"c": array})) for array in arrays}) == len(arrays)


@pytest.mark.parametrize("name", UNLIKE_TYPES)
def test_everything_that_the_type_of_an_arrow_dtype_says_matters(name: str) -> None:
    arrays = UNLIKE_TYPES[name]()
    columns = [pd.Series(pd.arrays.ArrowExtensionArray(array)) for array in arrays]
    assert len({digest(column) for column in columns}) == len(arrays)
    types = {bytes(pa.schema([("", array.type)]).serialize()) for array in arrays}
    assert len({digest(column.dtype) for column in columns}) == len(types)


def test_metadata_of_the_fields_of_a_map_matters() -> None:
    note = {"unit": "m"}
    kinds = [
        pa.map_(pa.string(), pa.int64()),
        pa.map_(pa.field("key", pa.string(), nullable=False, metadata=note), pa.int64()),
        pa.map_(pa.string(), pa.field("value", pa.int64(), metadata=note)),
    ]
    assert len({digest(kind) for kind in kinds}) == 3


@pytest.mark.parametrize("children", [[pa.array([1]), pa.array([1], pa.int8())], [pa.array([None, 1]), pa.array([""])]])
def test_the_child_that_holds_an_entry_of_a_union_matters_if_its_value_does_not_show_it(children: Any) -> None:
    ids = [pa.array([code] * len(children[0]), pa.int8()) for code in (0, 1)]
    nulls = [pa.array([None] * len(children[0]), child.type) for child in children]
    unions = [pa.UnionArray.from_sparse(each, nulls) for each in ids]
    assert digest(unions[0]) != digest(unions[1])


def test_the_spelling_of_the_parameters_of_a_known_extension_does_not_matter() -> None:
    from penstock.digests.arrow_types import extensions

    class Known:
        extension_name = "arrow.fixed_shape_tensor"

    found = []
    for text in (b'{"shape":[2,3],"dim_names":["a","b"]}', b'{ "dim_names": ["a", "b"], "shape": [2, 3] }'):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(extensions, "_serialised", lambda kind, text=text: text)
            found.append(extensions.extension_parameters(Known()))
    assert found[0] == found[1]


def test_fields_that_parquet_numbers_are_the_same_type() -> None:
    plain = pa.list_(pa.field("item", pa.int64()))
    assert digest(pa.list_(pa.field("item", pa.int64(), metadata={"PARQUET:field_id": "1"}))) == digest(plain)


# Digests of an earlier release: parameters count only where there are any.
USUAL_TYPES = {
    "uuid": "1acf9c928a92b0067e450a49d1ff81e84eed457e",
    "bool8": "0c6222c1f795dcffd94050607c7320dc29bbe386",
    "struct": "dd53f99e3dbaef202bee54cf60a9ebd53b8ba4ad",
    "map": "73ea4b08db8acdb295d8c6ee59419b05428d881b",
    "union": "cd84e178798897e7c4dc0731fc0df15842a313d1",
    "fixed list": "5a4e05bf3a83dc3febffcb569dd44946b9157931",
}


@pytest.mark.parametrize("name", USUAL_TYPES)
def test_types_without_parameters_keep_their_digests(name: str) -> None:
    kind: Any = {
        "uuid": pa.uuid(),
        "bool8": pa.bool8(),
        "struct": pa.struct([("a", pa.int8()), ("b", pa.list_(pa.string()))]),
        "map": pa.map_(pa.string(), pa.large_list(pa.int8())),
        "union": pa.dense_union([pa.field("a", pa.int8()), pa.field("b", pa.string())]),
        "fixed list": pa.list_(pa.int8(), 2),
    }[name]
    assert digest(pa.nulls(0, kind)) == USUAL_TYPES[name]


def test_the_content_of_a_union_of_unlike_children_keeps_its_digest() -> None:
    value = pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])])
    assert digest(value) == "feaf8f1c52c884f901d03482b2b3eb80a2c7b91c"


# -- pandas ----------------------------------------------------------------------------------------------------------


def test_index_labels_dtypes_and_order_of_a_frame_matter() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [3.0, 4.0]})
    different = [
        frame,
        frame.set_axis([5, 6]),
        frame.set_axis(["x", "y"]),
        frame.rename_axis("n"),
        frame[["b", "a"]],
        frame.rename(columns={"a": "c"}),
        frame.astype({"a": "int32"}),
        frame.astype({"a": "Int64"}),
        frame.astype({"a": "int64[pyarrow]"}),
        frame.astype({"a": "category"}),
        frame.iloc[::-1],
        frame.iloc[:1],
        frame["a"],
        frame.assign(a=[1, 3]),
    ]
    assert len({digest(value) for value in different}) == len(different)


def test_how_a_frame_was_built_does_not_matter() -> None:
    one = pd.DataFrame({"a": [1, 2, 3], "b": [4, 5, 6], "c": list("xyz")})
    grown = pd.DataFrame({"a": [1, 2, 3]})
    grown["b"] = [4, 5, 6]
    grown["c"] = list("xyz")
    assert digest(grown) == digest(one)
    assert digest(pd.concat([one, one]).iloc[:3].set_axis(pd.RangeIndex(3))) == digest(one)


def test_the_storage_of_text_does_not_matter() -> None:
    stored = [pd.Series(["a", None, "b"], dtype=pd.StringDtype(storage)) for storage in ("python", "pyarrow")]
    assert digest(stored[0]) == digest(stored[1])
    assert digest(stored[0]) != digest(pd.Series(["a", None, "b"], dtype=object))


def test_categories_and_their_order_matter_but_codes_do_not() -> None:
    plain = pd.Series(pd.Categorical(["a", "b"], categories=["a", "b"]))
    ordered = pd.Series(pd.Categorical(["a", "b"], categories=["a", "b"], ordered=True))
    more = pd.Series(pd.Categorical(["a", "b"], categories=["a", "b", "c"]))
    turned = pd.Series(pd.Categorical(["a", "b"], categories=["b", "a"]))
    assert len({digest(value) for value in (plain, ordered, more, turned)}) == 4


@pytest.mark.parametrize(
    "value",
    [
        pd.Series([True, None], dtype="boolean"),
        pd.Series([1.5, None], dtype="Float64"),
        pd.Series(pd.period_range("2024-01", periods=2, freq="M")),
        pd.Series(pd.interval_range(0, 2)),
        pd.Series(pd.arrays.SparseArray([0, 0, 1])),
        pd.Series(pd.to_timedelta([1, None], unit="s")),
        pd.Series([[1], {"a": 2}], dtype=object),
        pd.CategoricalIndex(["a", "b"]),
        pd.Timestamp("2024-01-01 12:00", tz="Europe/Berlin"),
        pd.Timedelta("1h"),
        pd.Period("2024-01", "M"),
        pd.Interval(0, 1),
        pd.array([1, None], dtype="Int64"),
        pd.CategoricalDtype(["a"]),
        pd.Series([[1], None], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
    ],
    ids=lambda value: type(value).__name__ + str(getattr(value, "dtype", "")),
)
def test_every_kind_of_pandas_value_has_the_digest_of_its_copy(value: Any) -> None:
    import copy
    import pickle

    assert digest(copy.deepcopy(value)) == digest(value) == digest(pickle.loads(pickle.dumps(value)))


def test_the_spelling_of_a_sparse_fill_value_does_not_matter() -> None:
    one, other = (pd.arrays.SparseArray([0, 1], fill_value=fill, dtype="int64") for fill in (0, np.int64(0)))
    assert digest(pd.Series(one)) == digest(pd.Series(other))
    assert digest(pd.Series(one)) != digest(pd.Series(pd.arrays.SparseArray([0, 1], fill_value=1, dtype="int64")))


def test_missing_values_of_different_kinds_differ() -> None:
    assert len({digest(value) for value in (pd.NA, pd.NaT, None, float("nan"))}) == 4


def test_a_column_without_a_digest_is_named() -> None:
    with pytest.raises(DigestError) as caught:
        digest({"t": pd.DataFrame({"a": [1], "f": [iter([])]})})
    assert caught.value.where == "value['t']['f'][0]"


def test_a_subclass_of_a_frame_is_an_error_until_it_is_registered() -> None:
    class Frame(pd.DataFrame):  # type: ignore[misc,name-defined]
        pass

    with pytest.raises(DigestError, match="Frame"):
        digest(Frame({"a": [1]}))


def test_inputs_are_not_mutated() -> None:
    frame = pd.DataFrame({"a": [1.0, np.nan], "b": ["x", None]})
    before = frame.copy(deep=True)
    digest(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_the_dtype_of_text_labels_does_not_matter() -> None:
    dtypes = [object, "string", pd.StringDtype("python")]
    frames = [pd.DataFrame({"a": [1]}, index=pd.Index(["x"], dtype=dtype)) for dtype in dtypes]
    assert len({digest(frame) for frame in frames}) == 1
    labelled = [pd.DataFrame([[1, 2]], columns=pd.Index(["x", "y"], dtype=dtype, name="n")) for dtype in dtypes]
    assert len({digest(frame) for frame in labelled}) == 1
    levels = [pd.MultiIndex.from_arrays([pd.Index(["x"], dtype=dtype), [1]]) for dtype in dtypes]
    assert len({digest(level) for level in levels}) == 1
    categories = [pd.Series(pd.Categorical(["x"], categories=pd.Index(["x", "y"], dtype=dtype))) for dtype in dtypes]
    assert len({digest(category) for category in categories}) == 1


LEVELS: dict[str, list[Any]] = {
    "large integers": [pd.Index([2**53, 2**53 + 1]), pd.Index([2**53 + 1, 2**53]), pd.Index([2**53 + 2, 2**53])],
    "integers of several sizes": [pd.Index([1, 2], dtype=dtype) for dtype in ("i1", "i4", "i8", "u8", "f8")],
    "booleans and objects": [pd.Index([True, False], dtype=dtype) for dtype in (bool, object)],
    "intervals": [
        pd.IntervalIndex.from_breaks([2**53, 2**53 + 2, 2**53 + 4]),
        pd.IntervalIndex.from_breaks([2**53, 2**53 + 1, 2**53 + 4]),
        pd.IntervalIndex.from_breaks([2.0**53, 2.0**53 + 2, 2.0**53 + 4]),
    ],
    "sparse integers": [pd.Index(pd.arrays.SparseArray([2**53, 2**53 + at])) for at in (1, 2)],
    "times": [pd.DatetimeIndex(["2024", "2025"]).as_unit(unit) for unit in ("s", "ms", "ns")],
    "categories": [pd.CategoricalIndex([2**53, 2**53 + at]) for at in (1, 2)],
}


@pytest.mark.parametrize("kind", LEVELS)
def test_levels_with_missing_labels_count_with_their_exact_labels_and_dtype(kind: str) -> None:
    found = [digest(pd.MultiIndex([level], [[-1, 0, 1]])) for level in LEVELS[kind]]
    assert len(set(found)) == len(found)


def test_where_labels_of_a_level_are_missing_counts() -> None:
    codes = [[-1, 0, 1], [0, -1, 1], [0, 1, -1], [0, 1], [-1, 0], [-1, -1], [-1]]
    assert len({digest(pd.MultiIndex([pd.Index([1, 2])], [each])) for each in codes}) == len(codes)


def test_unused_labels_and_their_order_in_a_level_with_missing_labels_do_not_matter() -> None:
    levels = [pd.Index([1, 2]), pd.Index([2, 1]), pd.Index([0, 1, 2]), pd.RangeIndex(3), pd.RangeIndex(2, 0, -1)]
    indexes = [pd.MultiIndex([level], [[-1, *level.get_indexer([1, 2])]], names=["k"]) for level in levels]
    assert len({digest(index) for index in indexes}) == 1
    assert digest(indexes[0]) != digest(indexes[0].rename(["other"]))


def test_a_range_of_column_labels_does_not_matter() -> None:
    ranged = pd.DataFrame([[1, 2]], columns=pd.RangeIndex(3, -1, -2))
    listed = pd.DataFrame([[1, 2]], columns=pd.Index([3, 1], dtype="int64"))
    assert digest(ranged) == digest(listed)


def test_labels_that_are_not_all_text_count_with_their_types() -> None:
    labels = [["a", None], ["a", float("nan")], ["a", 1], ["a", "1"], [b"a", "1"]]
    assert len({digest(pd.Index(items, dtype=object)) for items in labels}) == len(labels)


def test_how_the_writer_stored_its_labels_does_not_matter_in_a_table_from_pandas() -> None:
    table = pa.Table.from_pandas(pd.DataFrame({"a": [1, 2]}))
    document = json.loads(table.schema.metadata[b"pandas"])

    def written(**changes: Any) -> Any:
        return table.replace_schema_metadata({"pandas": json.dumps(document | changes)})

    (entry,) = document["column_indexes"]
    older = written(column_indexes=[entry | {"numpy_type": "object", "pandas_type": "unicode"}], attributes={})
    newer = written(column_indexes=[entry | {"numpy_type": "str", "pandas_type": "unicode"}])
    assert digest(older) == digest(newer)
    assert digest(written(attributes={"unit": "kg"})) != digest(newer)


@pytest.mark.parametrize(
    "texts",
    [
        [b"x", b"y", b"\xff", b""],
        [b"[]", b"[ ]", b"{}", b"1", b"null", b'"x"', b"NaN"],
        [b'{"column_indexes": "ab"}', b'{"column_indexes": ["a", "b"]}', b'{"column_indexes": {"a": 1, "b": 2}}'],
        [b'{"column_indexes": 5}', b'{"column_indexes": 0}', b'{"column_indexes": false}', b'{"column_indexes": []}'],
    ],
)
def test_metadata_under_the_name_of_pandas_that_pandas_did_not_write_counts_as_it_is(texts: list[bytes]) -> None:
    table = pa.table({"a": [1]})
    found = {digest(table.replace_schema_metadata({b"pandas": text})) for text in texts}
    assert len(found | {digest(table)}) == len(texts) + 1


def test_metadata_that_cannot_be_parsed_for_its_depth_is_a_clear_error() -> None:
    table = pa.table({"a": [1]}).replace_schema_metadata({b"pandas": b"[" * 200_000})
    with pytest.raises(DigestError, match="nested too deeply"):
        digest(table)


def test_the_frequency_of_a_time_index_counts() -> None:
    daily = pd.date_range("2024-01-01", periods=3, freq="D")
    plain = pd.DatetimeIndex(list(daily))
    assert daily.equals(plain)
    assert digest(daily) != digest(plain)
    assert digest(pd.MultiIndex.from_arrays([daily])) == digest(pd.MultiIndex.from_arrays([plain]))
    assert daily.freqstr == "D"


@pytest.mark.parametrize("make", [lambda text: pd.Series([text, None], dtype=object), lambda text: np.array([text])])
def test_text_that_is_not_valid_utf_8_has_a_digest(make: Any) -> None:
    assert digest(make("\ud800")) == digest(make("\ud800"))
    assert digest(make("\ud800")) != digest(make("\ud801"))
    assert digest(pd.Index(["\ud800"], dtype=object)) != digest(pd.Index(["\ud801"], dtype=object))


def test_times_with_a_zone_count_by_instant_and_zone_name() -> None:
    early, late = (
        pd.Timestamp("2024-10-27 02:30").tz_localize("Europe/Berlin", ambiguous=first) for first in (True, False)
    )
    utc = pd.Timestamp("2024-10-27 00:30", tz="UTC")
    assert early == utc
    assert len({digest(value) for value in (early, late, utc)}) == 3


# -- random numbers, sparse arrays, estimators -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_a_random_generator_counts_by_what_it_will_return(kind: str) -> None:
    def fresh(seed: int = 1) -> Any:
        return np.random.Generator(getattr(np.random, kind)(seed))

    used, spawned = fresh(), fresh()
    used.random()
    spawned.spawn(1)
    different = [fresh(), fresh(2), used, spawned, np.random.default_rng(1) if kind != "PCG64" else None]
    assert digest(fresh()) == digest(fresh())
    assert len({digest(value) for value in different}) == len(different)


def test_a_digest_does_not_advance_a_generator() -> None:
    generator, twin = np.random.default_rng(1), np.random.default_rng(1)
    digest(generator)
    assert generator.random() == twin.random()


def test_a_random_state_counts_with_its_buffered_deviate() -> None:
    one, other = np.random.RandomState(1), np.random.RandomState(1)
    assert digest(one) == digest(other)
    one.standard_normal()
    held = digest(one)
    one.standard_normal()
    assert len({held, digest(one), digest(other)}) == 3


def test_the_spelling_of_a_seed_does_not_matter() -> None:
    assert digest(np.random.SeedSequence([1, 2])) == digest(np.random.SeedSequence(np.array([1, 2])))
    assert digest(np.random.SeedSequence(1)) != digest(np.random.SeedSequence([1, 0]))


@pytest.mark.needs("scipy")
def test_the_order_of_entries_in_a_sparse_array_does_not_matter() -> None:
    import scipy.sparse as sp

    one = sp.coo_array(([1.0, 2.0, 3.0], ([0, 1, 1], [1, 0, 0])), shape=(2, 2))
    other = sp.coo_array(([2.0, 1.0, 3.0], ([1, 0, 1], [0, 1, 0])), shape=(2, 2))
    assert digest(one) == digest(other) == digest(one.copy())
    assert one.nnz == 3
    different = [one, one.tocsr(), one.tocsc(), sp.coo_array(one.toarray() * 2), sp.coo_array((2, 2)), one.toarray()]
    assert len({digest(value) for value in different}) == len(different)


@pytest.mark.needs("sklearn")
@pytest.mark.slow
def test_an_estimator_counts_by_its_parameters_and_its_fitted_state() -> None:
    from sklearn.linear_model import LinearRegression, Ridge
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeClassifier

    x = np.random.default_rng(0).normal(size=(40, 3))
    y = (x[:, 0] > 0).astype(int)
    makers = [
        LinearRegression,
        lambda: LinearRegression(fit_intercept=False),
        Ridge,
        lambda: KNeighborsClassifier(2),
        lambda: DecisionTreeClassifier(random_state=1),
        lambda: make_pipeline(StandardScaler(), Ridge()),
    ]
    for make in makers:
        assert digest(make()) == digest(make())
        assert digest(make().fit(x, y)) == digest(make().fit(x, y))
        assert len({digest(make()), digest(make().fit(x, y)), digest(make().fit(x[:30], y[:30]))}) == 3
    assert len({digest(make()) for make in makers}) == len(makers)


# -- polars ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(pl, "Categories"), reason="this polars has no named categories")
def test_named_categories_matter() -> None:
    named = [
        pl.Categories(),
        pl.Categories("u"),
        pl.Categories("v"),
        pl.Categories("u", namespace="n"),
        pl.Categories("u", physical=pl.UInt8),
    ]
    series = [pl.Series(["a", "b"], dtype=pl.Categorical(each)) for each in named]
    assert len({digest(each) for each in series}) == len(named)
    assert len({digest(each.dtype) for each in series}) == len(named)
    assert len({digest(pl.DataFrame({"c": [each]})) for each in series}) == len(named)
    assert digest(series[0]) == digest(pl.Series(["a", "b"], dtype=pl.Categorical))


@pytest.mark.skipif(not hasattr(pl, "Extension"), reason="this polars has no extension types")
def test_the_name_storage_and_metadata_of_an_extension_of_polars_matter() -> None:
    kinds = [pl.Extension("n", pl.Int8), pl.Extension("n", pl.Int8, "m"), pl.Extension("o", pl.Int8)]
    kinds.append(pl.Extension("n", pl.Int16))
    assert len({digest(kind) for kind in kinds}) == len(kinds)
    columns = [pl.Series([1], dtype=kind.ext_storage()).ext.to(kind) for kind in kinds]
    assert len({digest(column) for column in columns}) == len(kinds)


def test_chunks_of_polars_values_do_not_matter() -> None:
    one = pl.DataFrame({"a": [1, 2, None], "b": ["x", None, "z"]})
    parts = pl.concat([one[:1], one[1:]], rechunk=False)
    assert parts.n_chunks() == 2
    assert digest(parts) == digest(one)


def test_names_dtypes_and_order_of_polars_columns_matter() -> None:
    frame = pl.DataFrame({"a": [1, 2], "b": [3, 4]})
    columns = [frame[["b", "a"]], frame.rename({"a": "c"}), frame.cast({"a": pl.Int32})]
    different = [frame, *columns, frame[::-1], frame.clear(), frame["a"], frame.to_arrow()]
    assert len({digest(value) for value in different}) == len(different)


def test_polars_categories_are_digested_by_their_text() -> None:
    one = pl.Series("c", ["b", "a", "b"], dtype=pl.Categorical)
    other = pl.Series("c", ["zzz", "a", "b", "a", "b"], dtype=pl.Categorical)[2:].reverse()
    assert other.to_list() == ["b", "a", "b"]
    assert digest(other) == digest(one)
    assert digest(one) != digest(pl.Series("c", ["b", "a", "b"]))
    assert digest(pl.Series(["a"], dtype=pl.Enum(["a"]))) != digest(pl.Series(["a"], dtype=pl.Enum(["a", "b"])))


def _expressions() -> list[Any]:
    x = pl.col("x")
    literals = [pl.lit(value) for value in (None, 1, 1.0, float("nan"), float("inf"), "1", pl.Series([1, 2]))]
    return [
        x,
        x + 1,
        x + 2,
        1 + x,
        x.alias("y"),
        pl.when(x > 1).then(2),
        *(_selectors() if hasattr(pl.selectors, "Selector") else ()),
        *literals,
    ]


def _selectors() -> list[Any]:
    return [pl.selectors.numeric(), pl.selectors.numeric().as_expr()]


def test_polars_selectors_have_a_stable_digest_or_none() -> None:
    for selector in _selectors():
        try:
            first = digest(selector)
        except DigestError as error:
            assert "any order" in error.because  # noqa: PT017 (it depends on the version)
        else:
            assert first == digest(selector)


def test_different_polars_expressions_have_different_digests() -> None:
    assert len({digest(value) for value in _expressions()}) == len(_expressions())


@pytest.mark.slow
def test_equal_polars_expressions_have_equal_digests_in_another_process() -> None:
    code = "from tests.graph import test_columns as here; print([here.digest(one) for one in here._expressions()])"
    root = Path(__file__).parents[2]
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root).stdout
    assert out.strip() == str([digest(value) for value in _expressions()])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "expression",
    [
        lambda: pl.col("x").map_elements(lambda x: x + 1, return_dtype=pl.Int64),
        lambda: pl.col("x").map_batches(str),
        lambda: pl.reduce(lambda a, b: a + b, [pl.col("x")]) * 2,
        lambda: pl.col("x").name.map(str.upper),
        lambda: pl.col("x").rolling_map(sum, 3),
        lambda: pl.lit(object(), allow_object=True),
    ],
)
def test_polars_expressions_that_hold_python_objects_have_no_digest(expression: Any) -> None:
    with pytest.raises(DigestError, match=r"a polars expression .*has no stable digest"):
        digest(expression())


def test_categories_inside_lists_and_structs_have_digests() -> None:
    kind = pl.Enum(["a", "b"])
    values = [
        pl.Series([["a"], None], dtype=pl.List(kind)),
        pl.Series([["a"], None], dtype=pl.List(pl.String)),
        pl.Series([{"k": "a"}], dtype=pl.Struct({"k": kind})),
        pl.Series([["a"]], dtype=pl.Array(kind, 1)),
    ]
    assert len({digest(value) for value in values}) == len(values)


def test_a_lazy_frame_is_an_error() -> None:
    with pytest.raises(DigestError, match="LazyFrame"):
        digest(pl.LazyFrame({"a": [1]}))


def test_a_column_without_an_arrow_type_is_an_error() -> None:
    with pytest.raises(DigestError, match="Int128") as caught:
        digest(pl.DataFrame({"a": pl.Series([1], dtype=pl.Int128)}))
    assert caught.value.where == "value['a']"


@pytest.mark.needs("numpy")
def test_the_behaviour_of_an_array_counts_besides_its_content() -> None:
    import numpy as np

    parts = [("a", "i1"), ("b", "i8")]
    plain = np.dtype("i4")
    pairs = [
        (np.ma.array([1, 2], mask=[1, 0]), np.ma.array([1, 2], mask=[1, 0], hard_mask=True)),
        (np.zeros(1, plain), np.zeros(1, np.dtype("i4", metadata={"a": 1}))),
        (plain, np.dtype("i4", metadata={"a": 1})),
        (np.dtype(parts), np.dtype(parts, align=True)),
        (np.dtype([("a", "i1")]), np.dtype([(("title", "a"), "i1")])),
    ]
    if hasattr(np, "dtypes") and hasattr(np.dtypes, "StringDType"):
        text = np.dtypes.StringDType
        pairs += [
            (np.array(["a"], text()), np.array(["a"], text(na_object=None))),
            (np.array(["a"], text(na_object=np.nan)), np.array(["a"], text(na_object=None))),
            (np.array(["a"], text()), np.array(["a"], text(coerce=False))),
        ]
    for one, other in pairs:
        assert digest(one) != digest(other)
        assert digest(other) == digest(other.copy() if isinstance(other, np.ndarray) else other)


@pytest.mark.needs("numpy")
def test_empty_metadata_of_a_dtype_counts_as_none() -> None:
    import numpy as np

    assert digest(np.zeros(1, np.dtype("i4", metadata={}))) == digest(np.zeros(1, "i4"))


@pytest.mark.needs("pandas")
def test_a_table_that_refuses_duplicate_labels_differs() -> None:
    import pandas as pd

    frame = pd.DataFrame({"a": [1]})
    assert digest(frame) != digest(frame.set_flags(allows_duplicate_labels=False))
    assert digest(frame["a"]) != digest(frame["a"].set_flags(allows_duplicate_labels=False))
    assert digest(frame) == digest(frame.set_flags(allows_duplicate_labels=True))
