"""Records and their names: strict about every byte, clear about newer versions, injective for any strings."""

from __future__ import annotations

import json
import pickle
import re
import unicodedata

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import DamagedResult, StoreError, StoreVersionError
from penstock.storage.records import records
from penstock.storage.records.encoding import check_format, decode_recipe, decode_slot, decode_slot_at, encode
from penstock.storage.records.names import payload_name, recipe_name, segment, slot_name
from penstock.storage.records.records import About, PayloadFile, RecipeEntry, RedirectRecord, ResultRecord, StoreFormat
from penstock.storage.stores.base import MAX_RECORD_BYTES, check_name

KEY = "0123456789abcdef" * 2 + "01234567"
ODD = [
    "a.1",
    "a.2",
    "A.1",
    "",
    " ",
    ".",
    "..",
    "../x",
    "/etc/passwd",
    "x/y",
    "x\\y",
    "nul\0",
    "🔒",
    "é",
    "e\u0301",
    "\ud800",
]
ODD += ["a" * 10_000, "a" * 10_001, "A" * 10_000, "con", "CON", "a~b", "a.", KEY, KEY.upper()]


def record(**changes: object) -> ResultRecord:
    fields: dict[str, object] = {
        "v": 1,
        "key": KEY,
        "task": "mod.task",
        "generation": 0,
        "attempt": "a1",
        "codec": "json",
        "digest": "d" * 64,
        "inline": msgspec.Raw(b'{"x":[1,2.5,null,"\xc3\xbc"]}'),
        "key_parts": {"inputs": {"x": "1"}, "source": "2"},
        "expires": 12.5,
    }
    return ResultRecord(**(fields | changes))  # type: ignore[arg-type]


def decoded(data: bytes) -> object:
    return decode_slot(data, task="mod.task", key=KEY, generation=0)


def test_a_record_is_restored_equal() -> None:
    mine = record(about=About(type="Table", rows=3, columns={"a": "int64"}), payload=PayloadFile(".json", 3, "c"))
    assert decoded(encode(mine)) == mine
    assert pickle.loads(pickle.dumps(decoded(encode(mine)))) == mine


def test_a_record_is_readable_json() -> None:
    plain = json.loads(encode(record()))
    assert plain["kind"] == "final"
    assert plain["inline"] == {"x": [1, 2.5, None, "ü"]}
    assert plain["key_parts"]["source"] == "2"


def test_equal_records_are_equal_bytes() -> None:
    assert encode(record(key_parts={"a": 1, "b": 2})) == encode(record(key_parts={"b": 2, "a": 1}))


def test_no_byte_of_a_record_can_change_unnoticed() -> None:
    data = encode(record())
    for i in range(len(data)):
        for flip in (1, 0x20, 0x80):
            broken = data[:i] + bytes([data[i] ^ flip]) + data[i + 1 :]
            with pytest.raises((DamagedResult, StoreVersionError)):
                decoded(broken)


def test_a_cut_or_lengthened_record_is_damaged() -> None:
    data = encode(record())
    for broken in [*(data[:i] for i in range(len(data))), data + b" ", data * 2, b"x" * (MAX_RECORD_BYTES + 1)]:
        with pytest.raises(DamagedResult):
            decoded(broken)


@given(st.binary(max_size=300))
def test_any_other_bytes_are_damaged(data: bytes) -> None:
    with pytest.raises(DamagedResult):
        decoded(data)


def test_a_deeply_nested_file_is_damaged_not_a_crash() -> None:
    with pytest.raises(DamagedResult):
        decoded(b'{"v":' + b"[" * 60_000)


def checked(plain: dict[str, object]) -> bytes:
    body = msgspec.json.encode(plain)[:-1]
    return body + b',"check":"' + blake3(body).hexdigest(16).encode() + b'"}'


def test_a_record_of_a_newer_version_is_distinguished_from_damage() -> None:
    newer = json.loads(encode(record())) | {"v": 2, "new_field": [1]}
    for data in (checked(newer), msgspec.json.encode(newer)):
        with pytest.raises(StoreVersionError, match="version 2") as caught:
            decoded(data)
        assert "1" in caught.value.because
        assert caught.value.hint


def test_an_intact_record_of_an_unknown_kind_counts_as_another_version_not_as_damage() -> None:
    plain = json.loads(encode(record())) | {"kind": "something new"}
    del plain["check"]
    with pytest.raises(StoreVersionError, match="kind"):
        decoded(checked(plain))


def test_fields_added_by_a_later_minor_version_are_ignored() -> None:
    plain = json.loads(encode(record()))
    del plain["check"]
    assert decoded(checked(plain | {"later": 1})) == record()


@pytest.mark.parametrize("changes", [{"key": "other"}, {"task": "other"}, {"generation": 1}])
def test_a_record_under_another_name_is_damaged(changes: dict[str, object]) -> None:
    data = encode(record(**changes))
    with pytest.raises(DamagedResult, match="wrong name"):
        decoded(data)
    with pytest.raises(DamagedResult, match="wrong name"):
        decode_slot_at(data, slot_name("mod.task", KEY, 0))


def test_a_redirect_under_another_name_is_damaged() -> None:
    mine = RedirectRecord(v=1, slot=slot_name("mod.task", KEY, 0), generation=0, next=1, reason="gc")
    assert decoded(encode(mine)) == mine
    with pytest.raises(DamagedResult, match="wrong name"):
        decode_slot(encode(mine), task="mod.task", key=KEY, generation=1)


def test_a_record_that_would_be_too_large_omits_its_descriptive_parts() -> None:
    wide = record(about=About(rows=3, columns={f"column {i}": "int64" for i in range(5000)}))
    back = decoded(encode(wide))
    assert isinstance(back, ResultRecord)
    assert (back.about.rows, back.about.columns, back.key_parts) == (3, {}, wide.key_parts)
    both = record(about=wide.about, key_parts={f"part {i}": "x" * 64 for i in range(5000)})
    back = decoded(encode(both))
    assert isinstance(back, ResultRecord)
    assert list(back.key_parts) == ["left out"]
    with pytest.raises(StoreError, match="the limit is"):
        encode(record(key="k" * MAX_RECORD_BYTES))


def test_text_that_cannot_be_encoded_is_omitted_or_an_error() -> None:
    back = decoded(encode(record(key_parts={"x": "\ud800"})))
    assert isinstance(back, ResultRecord)
    assert "left out" in back.key_parts
    with pytest.raises(StoreError, match="cannot be written"):
        encode(record(key="\ud800"))


def test_a_recipe_is_read_only_under_its_own_key() -> None:
    entry = RecipeEntry(recipe="r" * 40, key=KEY, task="t", digest="d", inputs=["1", "2"], expires=3.0)
    assert decode_recipe(encode(entry), recipe=entry.recipe) == entry
    with pytest.raises(DamagedResult):
        decode_recipe(encode(entry), recipe="s" * 40)


def test_a_store_of_a_newer_layout_is_refused() -> None:
    check_format(encode(StoreFormat(1)))
    with pytest.raises(StoreVersionError, match="store has version 2"):
        check_format(encode(StoreFormat(2)))


# -- names


def test_a_hex_key_and_a_plain_task_are_their_own_names() -> None:
    assert slot_name("pkg.mod.task", KEY, 12) == f"results/pkg.mod.task/{KEY}/000012.record.json"
    assert payload_name("t", KEY, 0, "a-1", ".parquet") == f"results/t/{KEY}/000000.a-1.parquet"
    assert re.fullmatch(rf"recipes/[0-9a-f]{{2}}/{KEY}\.json", recipe_name(KEY))


def folded(text: str) -> str:
    """Return what a file system that ignores case and Unicode normalisation makes of a name."""
    return unicodedata.normalize("NFKD", text).casefold()


def test_odd_strings_have_distinct_segments() -> None:
    segments = [segment(text) for text in ODD]
    assert len({folded(each) for each in segments}) == len(ODD)


@given(st.lists(st.text(), min_size=2, max_size=5, unique=True))
def test_different_strings_have_different_segments_whatever_the_case(texts: list[str]) -> None:
    assert len({folded(segment(text)) for text in texts}) == len(texts)


@given(st.text(), st.text(), st.integers(0, 10**9))
def test_every_name_is_accepted_by_stores(task: str, key: str, generation: int) -> None:
    for name in (slot_name(task, key, generation), recipe_name(key), payload_name(task, key, generation, "a", ".x")):
        assert check_name(name) == name
        assert max(map(len, name.split("/"))) <= 200


def test_a_segment_is_a_plain_name_on_any_file_system() -> None:
    for text in ODD:
        assert re.fullmatch(r"[a-z0-9_~.-]{1,200}", segment(text)), text
        assert not segment(text).endswith(".")


def test_a_segment_does_not_collide_with_another_strings_hash() -> None:
    hashed = segment("A")
    assert segment(hashed) != hashed


@pytest.mark.parametrize("attempt", ["", "record", "a/b", "../x", "a.b", "A", "a" * 65, "a\n"])
def test_an_attempt_that_cannot_be_part_of_a_name_is_refused(attempt: str) -> None:
    with pytest.raises(StoreError):
        payload_name("t", "k", 0, attempt, ".json")


@pytest.mark.parametrize("suffix", ["", "json", "./x", ".json/..", ".a.b.c", ".JSON", ".json\n"])
def test_a_suffix_that_cannot_be_part_of_a_name_is_refused(suffix: str) -> None:
    with pytest.raises(StoreError):
        payload_name("t", "k", 0, "a", suffix)


def test_the_layout_has_not_changed_by_accident() -> None:
    """Results of earlier versions must be found: change the version together with this test."""
    assert (records.RECORD_VERSION, records.FORMAT_VERSION) == (1, 1)
    assert segment("Weekly report") == "weekly_report~" + blake3(b"Weekly report").hexdigest(16)
    assert encode(StoreFormat(1)).startswith(b'{"format":1,')
