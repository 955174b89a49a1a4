"""Looking up, publishing, loading and closing results, with a store that fails as scripted."""

from __future__ import annotations

import errno
import json
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import (
    CodecRefused,
    DamagedResult,
    SerializationError,
    StoreError,
    StoreFull,
    StoreNotWritable,
    StoreUnreachable,
    StoreVersionError,
)
from penstock.storage import LocalStore, MemoryStore
from penstock.storage.formats.parts.manifests import remove_files
from penstock.storage.records.encoding import encode
from penstock.storage.records.names import recipe_name, slot_name
from penstock.storage.records.records import FORMAT_NAME, PayloadFile, RecipeEntry, RedirectRecord, StoreFormat
from penstock.storage.results.generations import Absent, Found, Unknown
from penstock.storage.results.store import COMMIT_SECONDS, COMMIT_TRIES, Published, Restart, ResultStore
from penstock.testing.stores.faults import FlakyStore, HastyClock, SlowStore
from tests.opaque import Opaque

NEVER = Absent(0, "never")
BIG = b"x" * 10_000
"""Stored as a payload, not inline."""


@pytest.fixture
def clock() -> HastyClock:
    return HastyClock()


@pytest.fixture
def store() -> FlakyStore:
    return FlakyStore(MemoryStore())


@pytest.fixture
def results(store: FlakyStore, clock: HastyClock) -> ResultStore:
    return ResultStore(store, clock=clock)


def publish(
    results: ResultStore, value: Any, *, attempt: str = "a", after: Found | Absent | None = None, **more: Any
) -> Published:
    staging = {"digest": "d", "after": after or results.look_up("t", "k")} | more
    published = results.publish("t", "k", value, attempt=attempt, **staging)
    assert isinstance(published, Published)
    return published


def current(results: ResultStore) -> Any:
    found = results.look_up("t", "k")
    return results.load(found.record) if isinstance(found, Found) else found


def names(store: FlakyStore) -> list[str]:
    return [file.name.removeprefix("results/t/k/") for file in store.inner.list("results/")]


# -- lookups


def test_a_result_that_was_never_published_is_absent(results: ResultStore) -> None:
    assert results.look_up("t", "k") == NEVER


@pytest.mark.parametrize("value", [{"a": [1, None]}, BIG, None, "", list(range(5000))])
def test_a_published_result_is_found_and_loaded(results: ResultStore, value: Any) -> None:
    published = publish(results, value, key_parts={"x": "1"}, session="s", fence=7, started=1.0, seconds=2.5)
    assert published.won
    found = results.look_up("t", "k")
    assert found == Found(published.record, 0)
    assert isinstance(found, Found)
    record = found.record
    assert (record.digest, record.key_parts, record.session, record.fence) == ("d", {"x": "1"}, "s", 7)
    assert (record.started, record.seconds, record.created) == (1.0, 2.5, results.clock.now())
    assert record.producer.pid
    assert results.load(record) == value


def test_only_small_json_is_stored_in_the_record(results: ResultStore, store: FlakyStore) -> None:
    publish(results, {"a": 1})
    assert names(store) == ["000000.record.json"]
    results.publish("t", "set", Opaque({1}), after=NEVER, attempt="a", digest="d")
    results.publish("t", "long", "x" * 9000, after=NEVER, attempt="a", digest="d")
    assert [name for name in names(store) if "/set/" in name] == [
        "results/t/set/000000.a.pkl",
        "results/t/set/000000.record.json",
    ]
    assert "results/t/long/000000.a.json" in names(store)


def test_the_same_key_of_another_task_is_another_result(results: ResultStore) -> None:
    publish(results, 1)
    assert results.look_up("other", "k") == NEVER


def test_many_results_take_one_round_trip_and_one_more_for_refreshed_ones() -> None:
    slow = SlowStore(MemoryStore(), seconds=0)
    results = ResultStore(slow)
    pairs = [("t", str(i)) for i in range(100)]
    for _, key in pairs:
        results.publish("t", key, 1, after=NEVER, attempt="a", digest="d")
    before = slow.round_trips
    assert all(isinstance(each, Found) for each in results.look_up_many(pairs))
    assert slow.round_trips == before + 1
    for _, key in pairs[::3]:
        for n in range(3):
            found = results.look_up("t", key)
            results.publish("t", key, 2, after=found, attempt=f"b{n}", digest="d")
    before, counted = slow.round_trips, results.counters.round_trips
    found_many = results.look_up_many([*pairs, ("t", "none")])
    assert slow.round_trips == before + 2
    assert results.counters.round_trips == counted + 2
    assert [each.generation for each in found_many] == [3 if i % 3 == 0 else 0 for i in range(100)] + [0]
    assert found_many[-1] == NEVER


def test_lookups_read_no_payload(results: ResultStore, store: FlakyStore) -> None:
    publish(results, BIG)
    assert isinstance(results.look_up("t", "k"), Found)
    assert store.count("open") == 0


def test_a_store_that_does_not_answer_makes_results_unknown_never_absent(
    results: ResultStore, store: FlakyStore
) -> None:
    publish(results, 1)
    for error in (StoreUnreachable("down"), StoreError("odd")):
        store.fail("get_many", error, times=2)
        assert results.look_up_many([("t", "k"), ("t", "x")]) == [Unknown(error), Unknown(error)]
        with pytest.raises(StoreError) as caught:
            results.look_up("t", "k")
        assert caught.value is error
    fresh = ResultStore(store)
    store.fail("get", StoreUnreachable("down"), name=FORMAT_NAME)
    assert isinstance(fresh.look_up_many([("t", "k")])[0], Unknown)
    assert isinstance(fresh.look_up_many([("t", "k")])[0], Found)


def test_a_store_that_fails_between_two_rounds_keeps_its_answers(results: ResultStore, store: FlakyStore) -> None:
    publish(results, 1)
    results.publish("t", "other", 1, after=NEVER, attempt="a", digest="d")
    publish(results, 2, attempt="b")
    error = StoreUnreachable("down")
    store.fail("get_many", error, name="000001")
    first, second = results.look_up_many([("t", "other"), ("t", "k")])
    assert isinstance(first, Found)
    assert second == Unknown(error)


def test_an_expired_result_is_absent_but_seen(results: ResultStore, clock: HastyClock) -> None:
    published = publish(results, 1, expires=clock.now() + 10)
    assert isinstance(results.look_up("t", "k"), Found)
    clock.advance(10)
    assert results.look_up("t", "k") == Absent(0, "expired", published.record)


def test_a_record_of_a_newer_version_is_unknown_not_damaged(results: ResultStore, store: FlakyStore) -> None:
    publish(results, 1)
    name = slot_name("t", "k", 0)
    store.inner.put(name, (store.inner.get(name) or b"").replace(b'"v":1', b'"v":9'))
    (found,) = results.look_up_many([("t", "k")])
    assert isinstance(found, Unknown)
    assert isinstance(found.error, StoreVersionError)


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-10], lambda d: d[:50] + b"?" + d[51:], lambda d: b"", lambda d: d * 99]
)
def test_a_damaged_record_is_absent_and_replaced_by_the_next_result(
    results: ResultStore, store: FlakyStore, damage: Callable[[bytes], bytes]
) -> None:
    publish(results, 1)
    name = slot_name("t", "k", 0)
    store.inner.put_if_absent("other", b"")
    store.inner._files[name] = (damage(store.inner.get(name) or b""), 0.0)  # type: ignore[attr-defined]
    found = results.look_up("t", "k")
    assert found == Absent(0, "damaged")
    assert publish(results, 2, attempt="b").record.generation == 1
    assert current(results) == 2


def test_a_cyclic_redirect_is_damage_not_a_loop(results: ResultStore, store: FlakyStore) -> None:
    for target in (0, -1):
        back = RedirectRecord(v=1, slot=slot_name("t", "k", 0), generation=0, next=target, reason="gc")
        store.inner.put(slot_name("t", "k", 0), encode(back))
        assert results.look_up("t", "k") == Absent(0, "damaged")


# -- generations


def test_a_refresh_publishes_in_the_next_generation(results: ResultStore, store: FlakyStore) -> None:
    publish(results, 1)
    refreshed = publish(results, 2, attempt="b")
    assert (refreshed.record.generation, current(results)) == (1, 2)
    redirect = json.loads(store.inner.get(slot_name("t", "k", 0)) or b"")
    assert (redirect["kind"], redirect["next"], redirect["reason"]) == ("redirect", 1, "refreshed")


def test_the_old_result_stays_until_the_new_one_is_staged(results: ResultStore) -> None:
    publish(results, 1)
    staged = results.stage("t", "k", 2, after=results.look_up("t", "k"), attempt="b", digest="d")
    assert current(results) == 1
    assert isinstance(results.commit(staged), Published)
    assert current(results) == 2


def test_after_a_hundred_refreshes_a_lookup_takes_two_reads(results: ResultStore, store: FlakyStore) -> None:
    for i in range(100):
        publish(results, i, attempt=f"a{i}")
    before = store.count("get_many")
    assert current(results) == 99
    assert store.count("get_many") - before == 2


def test_an_expired_result_is_replaced(results: ResultStore, clock: HastyClock) -> None:
    publish(results, 1, expires=clock.now() + 1)
    clock.advance(2)
    assert publish(results, 2, attempt="b").record.generation == 1
    assert current(results) == 2


def test_an_invalidated_result_is_absent(results: ResultStore) -> None:
    publish(results, 1)
    assert results.invalidate("t", "k") is True
    gone = results.look_up("t", "k")
    assert isinstance(gone, Absent)
    assert (gone.generation, gone.reason) == (1, "redirected")
    assert gone.redirect is not None
    assert gone.redirect.reason == "invalidated"
    assert results.invalidate("t", "k") is False
    assert publish(results, 2, attempt="b").record.generation == 1


def test_invalidating_a_missing_result_says_so(results: ResultStore, store: FlakyStore) -> None:
    assert results.invalidate("t", "k") is False
    assert names(store) == []


@pytest.mark.parametrize("value", [1, BIG])
def test_a_late_writer_of_an_invalidated_generation_publishes_nothing(
    results: ResultStore, store: FlakyStore, value: Any
) -> None:
    zombie = results.stage("t", "k", value, after=NEVER, attempt="zombie", digest="d")
    publish(results, 1, after=NEVER)
    results.invalidate("t", "k")
    assert results.commit(zombie) == Restart(1, "invalidated")
    assert isinstance(current(results), Absent)
    publish(results, 2, attempt="b")
    assert results.commit(zombie) == Restart(1, "invalidated")
    assert current(results) == 2


def test_closing_an_empty_generation_refuses_late_writers(results: ResultStore) -> None:
    staged = results.stage("t", "k", 1, after=NEVER, attempt="a", digest="d")
    results.close("t", "k", 0, "invalidated")
    assert results.commit(staged) == Restart(1, "invalidated")
    results.close("t", "k", 0, "invalidated")
    assert isinstance(results.look_up("t", "k"), Absent)


# -- publishing


@pytest.mark.parametrize("value", [1, BIG])
def test_the_first_publisher_wins_and_the_other_adopts_its_result(results: ResultStore, value: Any) -> None:
    first = publish(results, value, after=NEVER, digest="one")
    second = publish(results, [value], after=NEVER, attempt="b", digest="other")
    assert not second.won
    assert second.record == first.record
    assert second.record.digest == "one"
    assert current(results) == value


def test_the_loser_removes_only_its_own_payload(results: ResultStore, store: FlakyStore) -> None:
    publish(results, BIG, after=NEVER)
    publish(results, BIG, after=NEVER, attempt="b")
    assert names(store) == ["000000.a.json", "000000.record.json"]


def test_a_loser_that_cannot_clean_up_still_adopts(results: ResultStore, store: FlakyStore) -> None:
    publish(results, BIG, after=NEVER)
    store.fail("delete", StoreUnreachable("down"))
    assert not publish(results, BIG, after=NEVER, attempt="b").won


@pytest.mark.parametrize("value", [1, BIG])
def test_a_commit_whose_answer_is_lost_still_wins(results: ResultStore, store: FlakyStore, value: Any) -> None:
    store.fail("put_if_absent", StoreUnreachable("cut"), when="after", name="record")
    published = publish(results, value)
    assert published.won
    assert store.count("put_if_absent", "record") == 1
    assert current(results) == value


def test_a_commit_whose_answers_are_all_lost_is_settled_by_reading(results: ResultStore, store: FlakyStore) -> None:
    store.fail("put_if_absent", StoreUnreachable("cut"), when="after", times=99, name="record")
    assert publish(results, BIG).won


def test_a_commit_that_did_not_land_is_sent_again(results: ResultStore, store: FlakyStore, clock: HastyClock) -> None:
    store.fail("put_if_absent", StoreUnreachable("503"), times=COMMIT_TRIES - 1, name="record")
    began = clock.monotonic()
    assert publish(results, BIG).won
    assert 0 < clock.monotonic() - began < COMMIT_SECONDS
    assert current(results) == BIG


def test_a_taken_name_without_content_is_retried_with_pauses_but_not_forever(
    results: ResultStore, store: FlakyStore, clock: HastyClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def taken(name: str, data: bytes) -> bool:
        tries.append(name)
        return False

    staged = results.stage("t", "k", BIG, after=NEVER, attempt="a", digest="d")
    monkeypatch.setattr(store, "put_if_absent", taken)
    began = clock.monotonic()
    with pytest.raises(StoreUnreachable, match="unknown"):
        results.commit(staged)
    assert len(tries) == COMMIT_TRIES
    assert clock.monotonic() > began, "it paused between its tries"


def test_a_lost_answer_and_a_failed_read_are_settled_later(results: ResultStore, store: FlakyStore) -> None:
    store.fail("put_if_absent", StoreUnreachable("cut"), when="after", name="record")
    store.fail("get", StoreUnreachable("cut"), times=2, name="record")
    assert publish(results, BIG).won


def test_a_commit_with_an_unknown_outcome_is_an_error_never_a_success(
    results: ResultStore, store: FlakyStore, clock: HastyClock
) -> None:
    staged = results.stage("t", "k", BIG, after=NEVER, attempt="a", digest="d")
    store.fail("put_if_absent", StoreUnreachable("cut"), when="after", times=99, name="record")
    store.fail("get", StoreUnreachable("cut too"), times=99, name="record")
    began = clock.monotonic()
    with pytest.raises(StoreUnreachable, match="unknown") as caught:
        results.commit(staged)
    assert caught.value.hint
    assert clock.monotonic() - began <= COMMIT_SECONDS + 10
    assert store.count("delete") == 0
    # It had landed: the next reader gets the value, and nothing is missing.
    assert current(ResultStore(store.inner)) == BIG


def test_a_commit_gives_up_in_time_however_slow_each_attempt_is(
    results: ResultStore, store: FlakyStore, clock: HastyClock
) -> None:
    staged = results.stage("t", "k", 1, after=NEVER, attempt="a", digest="d")
    store.interrupt("put_if_absent", lambda: clock.advance(COMMIT_SECONDS), times=99, name="record")
    store.fail("put_if_absent", StoreUnreachable("timeout"), times=99, name="record")
    with pytest.raises(StoreUnreachable):
        results.commit(staged)
    assert store.count("put_if_absent", "record") == 1


@pytest.mark.parametrize("error", [StoreFull("full"), StoreNotWritable("read-only")])
def test_a_definite_refusal_is_raised_at_once(results: ResultStore, store: FlakyStore, error: StoreError) -> None:
    store.fail("put_if_absent", error, times=99, name="record")
    with pytest.raises(type(error)):
        publish(results, BIG)
    assert store.count("put_if_absent", "record") == 1
    assert store.count("delete") == 0


def test_a_full_disk_under_a_payload_raises_store_full_and_leaves_nothing(
    results: ResultStore, store: FlakyStore
) -> None:
    pa = pytest.importorskip("pyarrow")
    for value in (BIG, pa.table({"a": list(range(10_000))})):
        store.fail("write", StoreFull("full"))
        with pytest.raises(StoreFull):
            publish(results, value)
    assert names(store) == []


@pytest.mark.parametrize("nth", [0, 3])
def test_a_disk_that_fills_up_late_under_a_large_payload_raises_store_full(
    results: ResultStore, store: FlakyStore, nth: int
) -> None:
    pa = pytest.importorskip("pyarrow")
    stream = (pa.record_batch({"a": [str(i * k) for k in range(100_000)]}) for i in range(1, 30))
    seen = iter(range(10**6))

    def full_after_some() -> None:
        if next(seen) >= nth:
            raise StoreFull("full")

    store.interrupt("write", full_after_some, times=10**6)
    with pytest.raises(StoreFull):
        publish(results, stream)
    assert names(store) == []
    assert "penstock-payload" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.needs("numpy", "pandas", "polars")
def test_large_values_of_every_kind_are_restored(tmp_path: Path) -> None:
    np, pl, pd = pytest.importorskip("numpy"), pytest.importorskip("polars"), pytest.importorskip("pandas")
    results = ResultStore(LocalStore(tmp_path, durable=False))
    numbers = np.random.default_rng(1).normal(size=400_000)
    for i, value in enumerate(
        (
            numbers,
            pl.DataFrame({"a": numbers}),
            pd.DataFrame({"a": numbers}),
            {"a": numbers.tolist(), "b": (1,)},
            numbers.tolist(),
        )
    ):
        published = results.publish("t", str(i), value, after=NEVER, attempt="a", digest="d")
        assert isinstance(published, Published)
        assert published.record.size > 1 << 20
        again = results.load(published.record)
        assert type(again) is type(value)
        column = again if isinstance(value, (list, np.ndarray)) else again["a"]
        np.testing.assert_array_equal(np.asarray(column), numbers)


def test_a_rival_that_commits_while_our_write_hangs_wins(results: ResultStore, store: FlakyStore) -> None:
    rival = ResultStore(store.inner)
    store.interrupt("put_if_absent", lambda: publish(rival, "rival", after=NEVER, attempt="r") and None, name="record")
    mine = publish(results, BIG, after=NEVER)
    assert (mine.won, mine.record.attempt) == (False, "r")
    assert current(results) == "rival"
    assert names(store) == ["000000.record.json"]


def test_a_late_write_is_refused(results: ResultStore, store: FlakyStore) -> None:
    """The client gave up, a rival committed, then the first request reaches the store."""
    late = results.stage("t", "k", BIG, after=NEVER, attempt="late", digest="d")
    publish(results, "rival", after=NEVER, attempt="r")
    assert store.inner.put_if_absent(late.record.slot_name, late.data) is False
    assert current(results) == "rival"


@pytest.mark.parametrize("value", [1, BIG])
def test_a_generation_closed_by_the_garbage_collector_costs_no_second_run(results: ResultStore, value: Any) -> None:
    staged = results.stage("t", "k", value, after=NEVER, attempt="a", digest="d")
    results.close("t", "k", 0, "gc")
    results.close("t", "k", 1, "gc")
    published = results.commit(staged)
    assert isinstance(published, Published)
    assert (published.won, published.record.generation, current(results)) == (True, 2, value)


@pytest.mark.parametrize("value", [1, BIG])
def test_a_generation_closed_while_its_value_is_written_costs_no_second_run(results: ResultStore, value: Any) -> None:
    def digest() -> str:
        results.close("t", "k", 0, "gc")
        return "d"

    published = publish(results, value, after=NEVER, digest=digest)
    assert (published.won, published.record.generation, current(results)) == (True, 1, value)


def batches(pa: Any) -> Any:
    return (pa.record_batch({"a": [i]}) for i in range(3))


def test_a_consumed_stream_can_be_published_in_a_later_generation(results: ResultStore) -> None:
    pa = pytest.importorskip("pyarrow")
    staged = results.stage("t", "k", batches(pa), after=NEVER, attempt="a", digest="d")
    results.close("t", "k", 0, "gc")
    published = results.commit(staged)
    assert isinstance(published, Published)
    assert results.load(published.record).to_pydict() == {"a": [0, 1, 2]}


def test_a_stream_whose_bytes_were_collected_must_run_again(results: ResultStore) -> None:
    pa = pytest.importorskip("pyarrow")

    def digest() -> str:
        remove_files(results.store, "results/")
        results.close("t", "k", 0, "gc")
        return "d"

    outcome = results.publish("t", "k", batches(pa), after=NEVER, attempt="a", digest=digest)
    assert outcome == Restart(1, "gc")


def test_a_staged_result_is_pickled_without_its_value(results: ResultStore) -> None:
    staged = results.stage("t", "k", BIG, after=NEVER, attempt="a", digest="d")
    sent = pickle.dumps(staged)
    assert len(sent) < 2_000 < len(BIG)
    published = results.commit(pickle.loads(sent))
    assert isinstance(published, Published)
    assert current(results) == BIG


def test_a_slot_with_damaged_bytes_is_skipped(results: ResultStore, store: FlakyStore) -> None:
    staged = results.stage("t", "k", BIG, after=NEVER, attempt="a", digest="d")
    store.inner.put(slot_name("t", "k", 0), b"{torn")
    published = results.commit(staged)
    assert isinstance(published, Published)
    assert published.record.generation == 1
    assert current(results) == BIG


def test_a_slot_of_a_newer_version_is_left_alone(results: ResultStore, store: FlakyStore) -> None:
    staged = results.stage("t", "k", 1, after=NEVER, attempt="a", digest="d")
    newer = staged.data.replace(b'"v":1', b'"v":9')
    store.inner.put(slot_name("t", "k", 0), newer)
    with pytest.raises(StoreVersionError):
        results.commit(staged)
    assert store.inner.get(slot_name("t", "k", 0)) == newer


def test_closing_the_old_result_is_repeated_until_it_is_certain(results: ResultStore, store: FlakyStore) -> None:
    publish(results, 1)
    store.fail("put", StoreUnreachable("cut"), times=2, name="000000.record")
    assert publish(results, 2, attempt="b").won
    assert current(results) == 2


def test_two_concurrent_refreshes_leave_one_visible_result(results: ResultStore) -> None:
    publish(results, 1)
    seen = results.look_up("t", "k")
    first = results.stage("t", "k", 2, after=seen, attempt="b", digest="d")
    second = results.stage("t", "k", 3, after=seen, attempt="c", digest="d")
    assert publish_staged(results, second).won
    adopted = publish_staged(results, first)
    assert (adopted.won, adopted.record.attempt) == (False, "c")
    assert current(results) == 3


def publish_staged(results: ResultStore, staged: Any) -> Published:
    published = results.commit(staged)
    assert isinstance(published, Published)
    return published


def test_the_digest_can_be_computed_after_the_value_is_written(results: ResultStore) -> None:
    pa = pytest.importorskip("pyarrow")
    seen: list[int] = []

    def stream():
        for i in range(3):
            seen.append(i)
            yield pa.record_batch({"a": [i]})

    published = publish(results, stream(), digest=lambda: str(sum(seen)))
    assert published.record.digest == "3"


def test_the_error_of_a_stream_is_raised_unchanged_and_leaves_nothing(results: ResultStore, store: FlakyStore) -> None:
    pa = pytest.importorskip("pyarrow")
    mistake = OSError(errno.ENOSPC, "the task's own")

    def stream():
        yield pa.record_batch({"a": [1]})
        raise mistake

    with pytest.raises(OSError, match="own") as caught:
        publish(results, stream())
    assert caught.value is mistake
    assert names(store) == []


def test_an_unstorable_value_publishes_nothing(results: ResultStore, store: FlakyStore) -> None:
    with pytest.raises(SerializationError, match="lock"):
        publish(results, {"lock": threading.Lock()})
    assert names(store) == []


@pytest.mark.parametrize("attempt", ["record", "../x", "A", ""])
def test_an_attempt_name_that_could_be_another_file_is_refused(results: ResultStore, attempt: str) -> None:
    with pytest.raises(StoreError):
        publish(results, BIG, attempt=attempt)


ODD_KEYS = ["a.1", "a.2", "A.1", "../x", "", "k" * 10_000, "nul\0", "🔒", "a/b", "record", "000000.record.json"]


@pytest.mark.parametrize("make", [lambda folder: MemoryStore(), lambda folder: LocalStore(folder / "store")])
def test_odd_tasks_and_keys_have_separate_results(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    results = ResultStore(make(tmp_path))
    pairs = [(key, "k") for key in ODD_KEYS] + [("t", key) for key in ODD_KEYS]
    for i, (task, key) in enumerate(pairs):
        results.publish(task, key, i, after=NEVER, attempt="a", digest="d")
    for i, (task, key) in enumerate(pairs):
        found = results.look_up(task, key)
        assert isinstance(found, Found)
        assert results.load(found.record) == i
    assert [path.name for path in tmp_path.iterdir()] in ([], ["store"])


# -- loading


def test_changing_a_loaded_value_does_not_change_the_stored_one(results: ResultStore) -> None:
    np, pa = pytest.importorskip("numpy"), pytest.importorskip("pyarrow")
    for i, value in enumerate(([1, [2]], {"a": {1, 2}}, np.arange(500_000))):
        published = results.publish("m", str(i), value, after=NEVER, attempt="a", digest="d")
        assert isinstance(published, Published)
        first = results.load(published.record)
        if isinstance(first, list):
            first[1].append(3)
        elif isinstance(first, dict):
            first["a"].clear()
        else:
            first[:] = 0
        again = results.load(published.record)
        assert np.array_equal(again, value) if isinstance(value, np.ndarray) else again == value
    assert pa


@pytest.mark.needs("numpy", "pandas")
def test_changing_a_large_loaded_frame_does_not_change_its_file(tmp_path: Path) -> None:
    pd, np = pytest.importorskip("pandas"), pytest.importorskip("numpy")
    results = ResultStore(LocalStore(tmp_path))
    frame, array = pd.DataFrame({"a": np.random.default_rng(1).normal(size=300_000)}), np.arange(10**6)
    for key, value in (("frame", frame), ("array", array)):
        published = results.publish("t", key, value, after=NEVER, attempt="a", digest="d")
        assert isinstance(published, Published)
        assert published.record.size > 1 << 20
        loaded = results.load(published.record)
        loaded *= 0
        again = results.load(published.record)
        np.testing.assert_array_equal(again, value)


def damaged_files() -> dict[str, Callable[[bytes], bytes | None]]:
    return {
        "cut": lambda data: data[:-1],
        "empty": lambda data: b"",
        "one bit": lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:],
        "longer": lambda data: data + b"\0",
        "much longer": lambda data: data * 3,
        "gone": lambda data: None,
    }


@pytest.mark.parametrize("damage", damaged_files())
@pytest.mark.parametrize("size", [10_000, 3_000_000])
@pytest.mark.parametrize("make", [lambda folder: MemoryStore(), LocalStore])
def test_a_damaged_payload_is_noticed_before_it_is_parsed_and_is_replaced(
    tmp_path: Path, make: Callable[[Path], Any], size: int, damage: str
) -> None:
    results = ResultStore(make(tmp_path))
    record = publish(results, b"x" * size).record
    assert record.payload_name is not None
    with results.store.open(record.payload_name) as file:
        data = damaged_files()[damage](file.read())
    results.store.delete(record.payload_name)
    if data is not None:
        with results.store.create(record.payload_name) as file:
            file.write(data)
    with pytest.raises(DamagedResult) as caught:
        results.load(record)
    assert caught.value.data == {"gone": damage == "gone", "closed": False}
    found = results.look_up("t", "k")
    assert isinstance(found, Found)
    assert publish(results, b"new", after=found.damaged(), attempt="b").record.generation == 1
    assert current(results) == b"new"


def test_a_payload_that_disappeared_with_its_generation_is_distinguished(results: ResultStore) -> None:
    record = publish(results, BIG).record
    results.invalidate("t", "k")
    assert record.payload_name
    results.store.delete(record.payload_name)
    with pytest.raises(DamagedResult) as caught:
        results.load(record)
    assert caught.value.data["closed"] is True


def test_a_temporarily_unreadable_payload_is_unknown_not_damaged(results: ResultStore, store: FlakyStore) -> None:
    record = publish(results, BIG).record
    for error in (StoreUnreachable("down"), OSError(errno.EIO, "io"), PermissionError("no")):
        store.fail("open", error)
        with pytest.raises(StoreUnreachable):
            results.load(record)
    assert results.load(record) == BIG


def test_pickles_are_refused_before_they_are_read_in_an_untrusted_store(tmp_path: Path) -> None:
    store = FlakyStore(LocalStore(tmp_path))
    record = publish(ResultStore(store), Opaque({1, 2})).record
    tmp_path.chmod(0o777)
    try:
        with pytest.raises(CodecRefused, match="pickle"):
            ResultStore(store).load(record)
        assert store.count("open") == 0
        assert ResultStore(store, allow_pickle=True).load(record) == {1, 2}
    finally:
        tmp_path.chmod(0o700)
    assert ResultStore(store).load(record) == {1, 2}
    with pytest.raises(CodecRefused):
        ResultStore(store, allow_pickle=False).load(record)


def test_a_payload_above_the_limit_is_not_even_opened(results: ResultStore, store: FlakyStore) -> None:
    record = publish(results, BIG).record
    with pytest.raises(SerializationError, match="too large"):
        ResultStore(store, max_bytes=100).load(record)
    assert store.count("open") == 0


@pytest.mark.parametrize("suffix", ["/../../x", ".json/../../x", ".a.b.c"])
def test_a_forged_record_leads_to_no_other_file(results: ResultStore, suffix: str) -> None:
    import msgspec

    record = publish(results, BIG).record
    forged = msgspec.structs.replace(record, payload=PayloadFile(suffix, 1, "x"))
    with pytest.raises(StoreError):
        results.load(forged)


# -- recipes


def entry(recipe: str, **more: Any) -> RecipeEntry:
    return RecipeEntry(recipe=recipe, key="k", task="t", digest="d", **more)


def test_recipes_are_read_in_order_in_one_round_trip(results: ResultStore, store: FlakyStore) -> None:
    for name in ("a", "b", "odd ../ one"):
        results.put_recipe(entry(name, expires=3.0))
    results.put_recipe(entry("b", expires=4.0))
    before = store.count("get_many")
    assert results.get_recipes(["b", "none", "odd ../ one"]) == [
        entry("b", expires=4.0),
        None,
        entry("odd ../ one", expires=3.0),
    ]
    assert store.count("get_many") == before + 1


def test_a_damaged_or_newer_recipe_counts_as_missing(results: ResultStore, store: FlakyStore) -> None:
    results.put_recipe(entry("a"))
    data = store.inner.get(recipe_name("a")) or b""
    for other in (b"", data[:-4], data.replace(b'"v":1', b'"v":9'), encode(entry("b"))):
        store.inner.put(recipe_name("a"), other)
        assert results.get_recipes(["a"]) == [None]


def test_recipes_of_a_store_that_does_not_answer_are_an_error(results: ResultStore, store: FlakyStore) -> None:
    store.fail("get_many", StoreUnreachable("down"))
    with pytest.raises(StoreUnreachable):
        results.get_recipes(["a"])


# -- the format of the store


def test_the_first_write_names_the_format(results: ResultStore, store: FlakyStore) -> None:
    results.look_up("t", "k")
    assert store.inner.get(FORMAT_NAME) is None
    publish(results, 1)
    assert json.loads(store.inner.get(FORMAT_NAME) or b"")["format"] == 1


def test_a_store_with_a_newer_layout_is_neither_read_nor_written(store: FlakyStore) -> None:
    store.inner.put(FORMAT_NAME, encode(StoreFormat(2)))
    results = ResultStore(store)
    calls: list[Callable[[], object]] = [
        lambda: results.look_up_many([("t", "k")]),
        lambda: results.stage("t", "k", 1, after=NEVER, attempt="a", digest="d"),
        lambda: results.get_recipes(["a"]),
        lambda: results.put_recipe(entry("a")),
        lambda: results.close("t", "k", 0, "gc"),
    ]
    for call in calls:
        with pytest.raises(StoreVersionError, match="version 2") as caught:
            call()
        assert caught.value.hint
    assert [file.name for file in store.inner.list("")] == [FORMAT_NAME]


def test_a_damaged_format_is_reported_with_a_fix(store: FlakyStore) -> None:
    store.inner.put(FORMAT_NAME, b"torn")
    with pytest.raises(StoreError, match="damaged") as caught:
        ResultStore(store).stage("t", "k", 1, after=NEVER, attempt="a", digest="d")
    assert FORMAT_NAME in caught.value.where


def test_the_format_is_checked_once(results: ResultStore, store: FlakyStore) -> None:
    for i in range(5):
        results.publish("t", str(i), 1, after=NEVER, attempt="a", digest="d")
        results.look_up("t", str(i))
    assert store.count("get", FORMAT_NAME) == 1
    assert store.count("put_if_absent", FORMAT_NAME) == 1


# -- races


@pytest.mark.parametrize("make", [lambda folder: MemoryStore(), lambda folder: LocalStore(folder, durable=False)])
def test_one_of_many_concurrent_commits_wins_and_all_others_adopt_it(
    tmp_path: Path, make: Callable[[Path], Any]
) -> None:
    results, threads = ResultStore(make(tmp_path)), 32
    for key in ("small", "large", "again"):
        barrier = threading.Barrier(threads)

        def commit(mine: int, key: str = key, barrier: threading.Barrier = barrier) -> Any:
            value = [mine] if key == "small" else bytes([mine]) * 9000
            staged = results.stage("t", key, value, after=NEVER, attempt=f"a{mine}", digest=str(mine))
            barrier.wait()
            return results.commit(staged)

        with ThreadPoolExecutor(threads) as pool:
            outcomes = list(pool.map(commit, range(threads)))
        winners = [each for each in outcomes if each.won]
        assert len(winners) == 1
        assert {each.record.attempt for each in outcomes} == {winners[0].record.attempt}
        mine = int(winners[0].record.digest)
        assert results.load(winners[0].record) == ([mine] if key == "small" else bytes([mine]) * 9000)
        payloads = [
            file.name for file in results.store.list(f"results/t/{key}/") if not file.name.endswith("record.json")
        ]
        assert payloads == ([] if key == "small" else [winners[0].record.payload_name])


def test_readers_never_see_an_invalidated_value_while_writers_continue(tmp_path: Path) -> None:
    results = ResultStore(LocalStore(tmp_path, durable=False))
    floor, done, bad = [0], threading.Event(), []

    def read() -> None:
        while not done.is_set():
            least = floor[0]
            found = results.look_up("t", "k")
            if isinstance(found, Found) and found.record.generation < least:
                bad.append(found)

    def write(mine: int) -> None:
        n = 0
        while not done.is_set():
            after = results.look_up("t", "k")
            if isinstance(after, Absent):
                results.publish("t", "k", b"x", after=after, attempt=f"w{mine}-{n}", digest="d")
            n += 1

    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(read), pool.submit(write, 1), pool.submit(write, 2)]
        closed = 0
        while closed < 40 and not any(other.done() for other in others):
            found = results.look_up("t", "k")
            if isinstance(found, Found) and results.invalidate("t", "k"):
                floor[0] = found.generation + 1
                closed += 1
        done.set()
        for other in others:
            other.result()
    assert closed == 40
    assert bad == []


def test_reading_plain_values_does_not_check_who_can_write_to_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = ResultStore(LocalStore(tmp_path))
    publish(results, {"n": [1.5, "text", None]})
    looks: list[object] = []
    monkeypatch.setattr(LocalStore, "open_to", property(looks.append))
    assert current(results) == {"n": [1.5, "text", None]}
    assert looks == []
