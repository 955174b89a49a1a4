"""Signed results: what is read of a store that others can write to, whatever they write there."""

from __future__ import annotations

import copy
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import CodecRefused, SignatureRefused
from penstock.storage import LocalStore, MemoryStore
from penstock.storage.records.encoding import decode_slot, encode, encode_signed
from penstock.storage.records.names import recipe_name, slot_name
from penstock.storage.records.records import About, PayloadFile, Producer, RecipeEntry, ResultRecord, Signature
from penstock.storage.records.signing import Signatures
from penstock.storage.records.signing_keys import rotate_file, write_new_file
from penstock.storage.results import copying, maintenance
from penstock.storage.results.generations import Absent, Found
from penstock.storage.results.store import Published, ResultStore
from penstock.storage.results.stored import find_stored
from penstock.testing.stores.faults import FlakyStore
from tests.opaque import Opaque

TABLE = pa.table({"a": [1, 2, 3]})


class Shared(FlakyStore):
    """A store that others can write to."""

    trusted = False  # type: ignore[assignment]


gone_off: list[str] = []


class Bomb:
    """An attack whose unpickling is noticed."""

    def __reduce__(self) -> tuple[Any, ...]:
        return go_off, ("boom",)


def go_off(how: str) -> None:
    gone_off.append(how)


@pytest.fixture(autouse=True)
def _no_bomb_goes_off() -> Any:
    gone_off.clear()
    yield
    assert gone_off == []


def test_the_bomb_goes_off_when_it_is_unpickled() -> None:
    pickle.loads(cloudpickle.dumps(Bomb()))
    assert gone_off == ["boom"]
    gone_off.clear()


@pytest.fixture
def keys(tmp_path: Path) -> str:
    path = str(tmp_path / "keys")
    write_new_file(path)
    return path


@pytest.fixture
def store() -> Shared:
    return Shared(MemoryStore())


@pytest.fixture
def results(store: Shared, keys: str) -> ResultStore:
    return ResultStore(store, signatures=Signatures(keys))


def strict(results: ResultStore) -> ResultStore:
    """Return the same store, with signatures required."""
    assert results.trust.signatures is not None
    return ResultStore(results.store, signatures=Signatures(results.trust.signatures.keys, required=True))


def publish(results: ResultStore, value: Any, key: str = "k", *, task: str = "t", attempt: str = "a") -> ResultRecord:
    found = results.look_up(task, key)
    done = results.publish(task, key, value, after=found, attempt=attempt, digest=f"digest of {value}")
    assert isinstance(done, Published)
    return done.record


def found(results: ResultStore, key: str = "k", *, task: str = "t") -> Found:
    there = results.look_up(task, key)
    assert isinstance(there, Found)
    return there


def write(results: ResultStore, record: ResultRecord) -> None:
    """Write a record at its own name, as an attacker with write access can."""
    store = results.store
    assert isinstance(store, FlakyStore)
    store.inner.put(record.slot_name, encode(record))


def refusal(results: ResultStore, record: ResultRecord) -> SignatureRefused:
    """Return the error of loading this record. Fail the test if a byte of a payload is read first."""
    store = results.store
    assert isinstance(store, FlakyStore)
    before = store.count("open")
    with pytest.raises(SignatureRefused) as caught:
        results.load(record)
    assert store.count("open") == before
    return caught.value


# -- signed results are read


@pytest.mark.parametrize("value", [{1, 2}, [1], TABLE, b"x" * 10_000, None])
def test_results_written_with_keys_are_signed_and_readable_with_them(results: ResultStore, value: Any) -> None:
    record = publish(results, value)
    again = strict(results)
    there = found(again)
    assert (there.record, there.refused) == (record, None)
    assert again.load(there.record) == value


def test_a_reader_without_keys_reads_tables_and_refuses_pickles(results: ResultStore) -> None:
    publish(results, TABLE, "table")
    publish(results, Opaque({1}), "pickle")
    reader = ResultStore(results.store)
    assert reader.load(found(reader, "table").record).equals(TABLE)
    with pytest.raises(CodecRefused) as caught:
        reader.load(found(reader, "pickle").record)
    assert "sign" in caught.value.hint


def test_a_reader_that_forbids_pickles_reads_no_signed_ones_either(results: ResultStore) -> None:
    record = publish(results, Opaque({1}))
    careful = ResultStore(results.store, signatures=results.trust.signatures, allow_pickle=False)
    with pytest.raises(CodecRefused):
        careful.load(record)
    with pytest.raises(CodecRefused):
        careful.stage("t", "other", Opaque({1}), after=Absent(0, "never"), attempt="a", digest="d")


@pytest.mark.parametrize("mistrusted", [True, False])
def test_unsigned_pickles_are_read_only_in_a_trusted_store(keys: str, mistrusted: bool) -> None:
    inner = MemoryStore()
    publish(ResultStore(inner), Opaque({1}))
    reader = ResultStore(Shared(inner) if mistrusted else inner, signatures=Signatures(keys))
    there = found(reader)
    assert there.refused is None
    if mistrusted:
        assert refusal(reader, there.record).data["verdict"] == "missing"
    else:
        assert reader.load(there.record) == {1}


def test_unsigned_tables_are_read_unless_signatures_are_required(results: ResultStore) -> None:
    record = publish(ResultStore(results.store), TABLE)
    assert results.load(record).equals(TABLE)
    there = found(strict(results))
    assert isinstance(there.refused, SignatureRefused)
    assert refusal(strict(results), record).data == there.refused.data


def test_a_scan_that_could_not_detect_changes_is_refused(results: ResultStore, keys: str) -> None:
    record = publish(results, TABLE)
    assert results.scan(record).to_table().equals(TABLE)
    with pytest.raises(SignatureRefused) as caught:
        strict(results).scan(record)
    assert "load()" in caught.value.hint
    mine = ResultStore(MemoryStore(), signatures=Signatures(keys, required=True))
    assert mine.scan(publish(mine, TABLE)).to_table().equals(TABLE)


def test_a_changed_result_is_not_returned_even_unread(results: ResultStore) -> None:
    record = publish(results, TABLE)
    assert find_stored(results, "t", "k").load().equals(TABLE)  # type: ignore[union-attr]
    write(results, msgspec.structs.replace(record, digest="other"))
    with pytest.raises(SignatureRefused):
        find_stored(results, "t", "k")


# -- changed results are not


def changed() -> dict[str, Callable[[ResultRecord], ResultRecord]]:
    """Return changes of a record, one for every field."""
    other: dict[str, Any] = {
        "codec": "npy",
        "digest": "other",
        "payload": PayloadFile(".pkl", 5, "0" * 64),
        "inline": msgspec.Raw(b"1"),
        "about": About(type="Table"),
        "session": "other",
        "fence": 9,
        "key_parts": {"a": "b"},
        "producer": Producer(host="other"),
        "started": 2.0,
        "seconds": 2.0,
        "created": 2.0,
        "expires": 9e9,
        "upstream_expires": 9e9,
        "attempt": "other",
    }
    return {
        name: (lambda record, name=name, value=value: msgspec.structs.replace(record, **{name: value}))
        for name, value in other.items()
    }


def test_every_field_of_a_record_is_tested_below() -> None:
    places = {"v", "key", "task", "generation", "signature", "transaction"}  # the last: see test_transactions.py
    assert ResultRecord.__struct_fields__[-1] == RecipeEntry.__struct_fields__[-1] == "signature"
    assert changed().keys() == {field.name for field in msgspec.structs.fields(ResultRecord)} - places


@pytest.mark.parametrize("name", changed())
def test_a_record_with_one_changed_field_is_refused(results: ResultStore, name: str) -> None:
    forged = changed()[name](publish(results, Opaque({1})))
    write(results, forged)
    there = found(results)
    assert isinstance(there.refused, SignatureRefused)
    assert there.refused.data["verdict"] == "wrong"
    assert refusal(results, forged).code == "result.signature-refused"


def test_a_signed_record_under_another_key_is_refused_even_with_an_adapted_name(results: ResultStore) -> None:
    record = publish(results, {"the value of": "other"}, "other")
    moved = msgspec.structs.replace(record, key="k")
    write(results, moved)
    assert found(results).refused is not None
    refusal(results, moved)
    taken = msgspec.structs.replace(record, task="another task")
    write(results, taken)
    assert found(results, "other", task="another task").refused is not None


def test_an_unchanged_signed_record_copied_to_another_name_is_not_found_there(results: ResultStore) -> None:
    record = publish(results, Opaque({1}), "other")
    store = results.store
    assert isinstance(store, FlakyStore)
    store.inner.put(slot_name("t", "k", 0), encode(record))
    assert results.look_up("t", "k") == Absent(0, "damaged")


def test_a_record_of_an_older_generation_is_refused_in_a_later_one(results: ResultStore) -> None:
    old = publish(results, {"old"}, attempt="a")
    publish(results, Opaque({"new"}), attempt="b")
    replayed = msgspec.structs.replace(old, generation=1)
    write(results, replayed)
    assert found(results).refused is not None
    refusal(results, replayed)


def test_a_forged_pickle_is_refused_before_it_is_opened(results: ResultStore) -> None:
    record = publish(results, Opaque({1}))
    data = cloudpickle.dumps(Bomb())
    for signature in (None, record.signature, Signature("unknown", "00"), Signature(record.signature.key, "é\ud800")):  # type: ignore[union-attr]
        forged = msgspec.structs.replace(
            record, attempt="evil", payload=PayloadFile(".pkl", len(data), "0" * 64), signature=signature
        )
        refusal(results, forged)


def test_a_payload_changed_under_a_signed_record_is_damage_and_recomputed(results: ResultStore) -> None:
    record = publish(results, Opaque({1}))
    store = results.store
    assert isinstance(store, FlakyStore)
    assert record.payload_name is not None
    store.inner.delete(record.payload_name)
    with store.inner.create(record.payload_name) as file:
        file.write(cloudpickle.dumps(Bomb()))
    with pytest.raises(Exception, match="damaged"):
        results.load(record)


def test_an_unknown_key_is_refused_only_where_a_signature_is_needed(results: ResultStore, tmp_path: Path) -> None:
    write_new_file(str(tmp_path / "theirs"))
    theirs = ResultStore(results.store, signatures=Signatures(str(tmp_path / "theirs")))
    publish(theirs, TABLE, "table")
    record = publish(theirs, Opaque({1}), "pickle")
    assert results.load(found(results, "table").record).equals(TABLE)
    error = refusal(results, record)
    assert error.data["verdict"] == "unknown key"
    assert record.signature is not None
    assert record.signature.key in error.what
    assert found(strict(results), "table").refused is not None


# -- errors, never misses


def test_an_unusable_first_result_is_reported_and_not_adopted(results: ResultStore) -> None:
    staged = results.stage("t", "k", Opaque({1}), after=Absent(0, "never"), attempt="mine", digest="d")
    # With the attempt of the writer itself, which anybody can read in the name of the payload.
    write(results, msgspec.structs.replace(staged.record, codec="json", payload=None, inline=msgspec.Raw(b"666")))
    with pytest.raises(SignatureRefused):
        results.commit(staged)


def test_a_refresh_replaces_a_refused_result(results: ResultStore) -> None:
    forged = msgspec.structs.replace(publish(results, Opaque({1})), digest="other")
    write(results, forged)
    assert publish(results, Opaque({2}), attempt="b").generation == 1
    assert results.load(found(results).record) == {2}


def test_a_refused_result_can_be_removed(results: ResultStore) -> None:
    write(results, msgspec.structs.replace(publish(results, Opaque({1})), digest="other"))
    assert maintenance.rm(results, "t", "k") == 1
    assert isinstance(results.look_up("t", "k"), Absent)


def test_verify_names_refused_results(results: ResultStore) -> None:
    publish(results, [1], "fine")
    publish(ResultStore(results.store), [1], "unsigned")
    write(results, msgspec.structs.replace(publish(results, [1], "changed"), digest="other"))
    assert [problem.name for problem in maintenance.verify(results).problems] == [slot_name("t", "changed", 0)]
    bad = {problem.name for problem in maintenance.verify(strict(results)).problems}
    assert bad == {slot_name("t", "changed", 0), slot_name("t", "unsigned", 0)}


# -- rotation


def test_results_of_an_older_key_can_be_read_after_a_rotation(results: ResultStore, keys: str) -> None:
    old = publish(results, Opaque({1}), "old")
    newest = rotate_file(keys)
    later = ResultStore(results.store, signatures=Signatures(keys, required=True))
    assert later.load(old) == {1}
    record = publish(later, Opaque({2}), "new")
    assert record.signature is not None
    assert record.signature.key == newest


def test_a_process_that_read_its_keys_before_a_rotation_reads_them_again(store: Shared, keys: str) -> None:
    from penstock.storage.records.signing_keys import SigningKeys
    from penstock.testing.stores.faults import HastyClock

    clock = HastyClock()
    early = ResultStore(store, signatures=Signatures(SigningKeys(keys, clock=clock)))
    publish(early, Opaque({1}), "first")
    rotate_file(keys)
    record = publish(ResultStore(store, signatures=Signatures(keys)), Opaque({2}), "second")
    refusal(early, record)
    clock.advance(10)
    assert early.load(record) == {2}


# -- recipes


def entry(**more: Any) -> RecipeEntry:
    return RecipeEntry(recipe="r", key="k", task="t", digest="d", **more)


def test_a_changed_index_entry_counts_as_missing(results: ResultStore, store: Shared) -> None:
    """It would lead to another result of the same task, whose own signature is valid."""
    results.put_recipe(entry(inputs=["1"]))
    (there,) = results.get_recipes(["r"])
    assert there is not None
    assert (there.key, there.inputs) == ("k", ["1"])
    store.inner.put(recipe_name("r"), encode(msgspec.structs.replace(there, key="other")))
    assert results.get_recipes(["r"]) == [None]


def test_an_unsigned_index_entry_counts_only_if_nobody_else_can_write(results: ResultStore, store: Shared) -> None:
    """An attacker could make up one that leads to a signed result of other inputs."""
    ResultStore(results.store).put_recipe(entry())
    assert results.get_recipes(["r"]) == [None]
    assert strict(results).get_recipes(["r"]) == [None]
    own = ResultStore(store.inner, signatures=results.trust.signatures)
    assert own.get_recipes(["r"]) == [entry()]
    assert strict(own).get_recipes(["r"]) == [None]


# -- copies


def test_a_copy_is_signed_for_its_new_place(results: ResultStore, keys: str) -> None:
    publish(results, Opaque({1}), "k")
    publish(results, Opaque({2}), "k", attempt="b")
    target = ResultStore(Shared(MemoryStore()), signatures=Signatures(keys, required=True))
    assert copying.copy(results, target).results == 1
    there = found(target)
    assert (there.generation, there.refused) == (0, None)
    assert target.load(there.record) == {2}


def test_a_copy_of_a_trusted_store_is_signed(keys: str) -> None:
    source = ResultStore(MemoryStore(), signatures=Signatures(keys))
    publish(ResultStore(source.store), Opaque({1}))
    ResultStore(source.store).put_recipe(entry())
    target = ResultStore(Shared(MemoryStore()), signatures=Signatures(keys, required=True))
    assert copying.copy(source, target).results == 1
    assert target.load(found(target).record) == {1}
    assert target.get_recipes(["r"])[0] is not None


def test_copying_does_not_sign_what_others_may_have_written(results: ResultStore, keys: str) -> None:
    attacker = ResultStore(results.store, allow_pickle=True)
    publish(attacker, Opaque({1}), "pickle")
    publish(attacker, TABLE, "table")
    publish(attacker, [1], "inline")
    attacker.put_recipe(entry())
    target = ResultStore(Shared(MemoryStore()), signatures=Signatures(keys))
    assert copying.copy(results, target).results == 3
    assert [found(target, key).record.signature for key in ("pickle", "table", "inline")] == [None] * 3
    refusal(target, found(target, "pickle").record)
    careful = ResultStore(Shared(MemoryStore()), signatures=Signatures(keys, required=True))
    done = copying.copy(results, careful)
    assert (done.results, done.refused) == (0, 3)
    assert careful.get_recipes(["r"]) == [None]


def test_a_copy_interrupted_by_a_collection_is_not_signed_either(results: ResultStore, keys: str) -> None:
    publish(ResultStore(results.store), [1])
    inner = Shared(MemoryStore())
    target = ResultStore(inner, signatures=Signatures(keys))
    inner.interrupt("put_if_absent", lambda: target.close("t", "k", 0, "gc"), name="record")
    assert copying.copy(results, target).results == 1
    there = found(target)
    assert (there.generation, there.record.signature) == (1, None)


def test_a_changed_record_is_not_copied(results: ResultStore, keys: str) -> None:
    write(results, msgspec.structs.replace(publish(results, [1]), digest="other"))
    target = ResultStore(MemoryStore(), signatures=Signatures(keys))
    done = copying.copy(results, target)
    assert (done.results, done.refused) == (0, 1)


# -- what a signature covers


Json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), Json, max_size=4),
    st.integers(0, 9),
    st.floats(0, 2e9),
    Json,
)
def test_the_signature_of_any_record_is_valid_after_reading_or_sending_it(
    module_signatures: Signatures, parts: dict[str, Any], seconds: int, created: float, inline: Any
) -> None:
    record = ResultRecord(
        v=1, key="k", task="t", generation=0, attempt="a", codec="json", digest="d", key_parts=parts,
        seconds=seconds, created=created, inline=msgspec.Raw(msgspec.json.encode(inline)),
    )  # fmt: skip
    signed, data = encode_signed(record, module_signatures.signed)
    back = decode_slot(data, task="t", key="k", generation=0)
    assert back == signed
    assert isinstance(back, ResultRecord)
    assert module_signatures.verdict(back) == "valid"
    assert module_signatures.verdict(pickle.loads(pickle.dumps(back))) == "valid"


@pytest.fixture(scope="module")
def module_signatures(tmp_path_factory: pytest.TempPathFactory) -> Signatures:
    path = str(tmp_path_factory.mktemp("keys") / "keys")
    write_new_file(path)
    return Signatures(path)


def test_a_shortened_record_is_signed_as_written(results: ResultStore) -> None:
    long = {f"part {i}": "x" * 1000 for i in range(100)}
    done = results.publish("t", "k", Opaque({1}), after=Absent(0, "never"), attempt="a", digest="d", key_parts=long)
    assert isinstance(done, Published)
    assert "left out" in done.record.key_parts
    assert strict(results).load(done.record) == {1}
    assert found(strict(results)) == Found(done.record, 0)


# -- keys stay secret -------


def test_no_key_is_pickled_printed_or_logged(keys: str, tmp_path: Path) -> None:
    results = ResultStore(LocalStore(tmp_path / "store"), signatures=Signatures(keys))
    record = publish(results, Opaque({1}))
    with pytest.raises(SignatureRefused) as caught:
        results.load(msgspec.structs.replace(record, digest="other"))
    secret = bytes.fromhex(Path(keys).read_text().split()[-1])
    things = (results.trust.signatures, results, results.trust, caught.value)
    texts = [repr(each) + str(each) for each in (*things, record)]
    data = [pickle.dumps(each) + cloudpickle.dumps(each) for each in things]
    data.append(cloudpickle.dumps(lambda: results))
    data.append(pickle.dumps(copy.deepcopy(results.trust.signatures)))
    for form in (secret, secret.hex().encode(), secret.hex().upper().encode()):
        assert not any(form in each for each in (*data, *(text.encode() for text in texts)))
    again = pickle.loads(pickle.dumps(results.trust.signatures))
    assert again.verdict(record) == "valid"


def test_signing_is_thread_safe(results: ResultStore) -> None:
    barrier, verdicts = threading.Barrier(8), []

    def sign() -> None:
        signatures = Signatures(os.fspath(results.trust.signatures.keys.source))  # type: ignore[union-attr]
        barrier.wait()
        verdicts.append(signatures.verdict(signatures.signed(entry())))

    threads = [threading.Thread(target=sign) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == ["valid"] * 8
