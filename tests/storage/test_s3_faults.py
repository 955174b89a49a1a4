"""Results in a bucket of a real S3 server, while answers are lost, requests arrive late or twice, and servers die."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from penstock.errors import StoreError, StoreNotWritable, StoreUnreachable
from penstock.storage import open_store
from penstock.storage.results.generations import Absent, Found
from penstock.storage.results.maintenance import gc
from penstock.storage.results.store import Published, ResultStore
from penstock.testing.stores.faults import HastyClock
from tests.servers.ceph import Ceph, running
from tests.servers.fixtures import Bucket, use
from tests.servers.packages import Unavailable
from tests.servers.proxy import FaultProxy

pytestmark = [pytest.mark.needs("s3fs", "boto3"), pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.untraced]

SLOT = "record.json"
TABLE = pa.table({"a": list(range(50_000))})


@pytest.fixture
def results(bucket: Bucket) -> ResultStore:
    """The results as another machine sees them, with a server that answers."""
    return opened(bucket)


def opened(bucket: Bucket, *, hasty: bool = True) -> ResultStore:
    return ResultStore(open_store(bucket.url), clock=HastyClock()) if hasty else ResultStore(open_store(bucket.url))


def publish(results: ResultStore, value: object, key: str = "key", attempt: str = "") -> Published:
    done = results.publish(
        "task", key, value, after=Absent(0, "never"), attempt=attempt or uuid.uuid4().hex, digest=str(value)
    )
    assert isinstance(done, Published)
    return done


def value_of(results: ResultStore, key: str = "key") -> object:
    found = results.look_up("task", key)
    assert isinstance(found, Found)
    return results.load(found.record)


def test_one_of_32_concurrent_commits_is_published_and_31_adopt_it(results: ResultStore) -> None:
    publish(results, 0, "warm up")
    for i in range(20):
        with ThreadPoolExecutor(32) as pool:
            done = list(pool.map(lambda mine, key=f"key {i}": publish(results, mine, key), range(32)))  # type: ignore[misc]
        assert [each.won for each in done].count(True) == 1
        assert len({each.record.attempt for each in done}) == 1
        assert value_of(results, f"key {i}") == next(i for i, each in enumerate(done) if each.won)


def test_a_commit_with_a_lost_answer_succeeds(proxy: FaultProxy, bucket: Bucket) -> None:
    results = opened(bucket)
    publish(results, 0, "warm up")
    proxy.fault("lose answer", method="PUT", part=SLOT)
    assert publish(results, 1, attempt="mine").won
    assert value_of(results) == 1


def test_answers_lost_at_every_attempt_are_settled_by_reading(proxy: FaultProxy, bucket: Bucket) -> None:
    results = opened(bucket)
    publish(results, 0, "warm up")
    proxy.fault("lose answer", method="PUT", part=SLOT, times=1000)
    assert publish(results, 1, attempt="mine").won


def test_a_commit_whose_outcome_cannot_be_read_is_unknown_and_found_later(proxy: FaultProxy, bucket: Bucket) -> None:
    results = opened(bucket)
    publish(results, 0, "warm up")
    proxy.fault("lose answer", method="PUT", part=SLOT, times=1000)
    proxy.fault("drop", method="GET", part=SLOT, times=1000)
    with pytest.raises(StoreUnreachable, match="unknown whether"):
        publish(results, 1)
    proxy.heal()
    assert value_of(results) == 1


def test_a_commit_that_arrives_after_a_rivals_is_refused_by_the_store(proxy: FaultProxy, bucket: Bucket) -> None:
    results = opened(bucket, hasty=False)
    around = ResultStore(open_store(f"{bucket.url}?endpoint_url={bucket.endpoint.url}"))
    publish(results, 0, "warm up")
    publish(around, 0, "warm up, too")
    proxy.fault("late", method="PUT", part=SLOT, times=1000)
    with ThreadPoolExecutor(1) as pool:
        mine = pool.submit(publish, results, "mine")
        assert proxy.wait_for("PUT", "key/000000." + SLOT)
        rival = publish(around, "rival")
        assert rival.won
        assert mine.result(60).record.attempt == rival.record.attempt
    proxy.release()
    assert proxy.late
    assert not any(thread.is_alive() for thread in proxy.late)
    assert value_of(results) == "rival"


def test_a_late_commit_to_an_empty_slot_counts(proxy: FaultProxy, bucket: Bucket) -> None:
    results = opened(bucket)
    publish(results, 0, "warm up")
    proxy.fault("late", method="PUT", part=SLOT, times=1000)
    with pytest.raises(StoreUnreachable):
        publish(results, TABLE)
    proxy.heal()
    assert results.look_up("task", "key") == Absent(0, "never")
    proxy.release()
    assert value_of(results).equals(TABLE)  # type: ignore[attr-defined]


def test_a_commit_that_arrives_twice_is_one_result(proxy: FaultProxy, bucket: Bucket) -> None:
    results = opened(bucket)
    publish(results, 0, "warm up")
    proxy.fault("twice", method="PUT", part=SLOT)
    assert publish(results, 1, attempt="mine").won
    assert value_of(results) == 1


def test_a_conflict_is_retried(proxy: FaultProxy, bucket: Bucket) -> None:
    results = opened(bucket)
    publish(results, 0, "warm up")
    proxy.fault("refuse", method="PUT", part=SLOT, status=409, times=3)
    before = proxy.count("PUT", SLOT)
    assert publish(results, 1).won
    assert proxy.count("PUT", SLOT) == before + 4


def test_a_throttled_commit_succeeds_within_its_budget(proxy: FaultProxy, bucket: Bucket) -> None:
    results = opened(bucket)
    publish(results, 0, "warm up")
    proxy.fault("refuse", method="PUT", part=SLOT, status=503, times=5)
    assert publish(results, 1).won


def test_a_forbidden_commit_fails_at_once_and_names_the_missing_permission(proxy: FaultProxy, bucket: Bucket) -> None:
    results = opened(bucket)
    publish(results, 0, "warm up")
    proxy.fault("refuse", method="PUT", part=SLOT, status=403, times=1000)
    before = proxy.count("PUT", SLOT)
    with pytest.raises(StoreNotWritable) as caught:
        publish(results, 1)
    assert proxy.count("PUT", SLOT) == before + 1
    assert bucket.name in str(caught.value)
    assert "s3:PutObject" in caught.value.hint


def test_a_forbidden_lookup_is_an_error_and_not_a_miss(proxy: FaultProxy, bucket: Bucket) -> None:
    results = opened(bucket)
    publish(results, 0, "warm up")
    proxy.fault("refuse", method="GET", part=SLOT, status=403, times=1000)
    with pytest.raises(StoreError, match="not allowed") as caught:
        results.look_up("task", "key")
    assert caught.value.code == "store.refused"


def test_a_rivals_equal_bytes_are_not_taken_for_our_own(results: ResultStore) -> None:
    first = publish(results, TABLE, attempt="first")
    second = publish(results, TABLE, attempt="second")
    assert (first.won, second.won) == (True, False)
    assert second.record.attempt == "first"
    names = [file.name.rpartition("/")[2] for file in results.store.list("results/")]
    assert names == ["000000.first.parquet", "000000.record.json"]
    assert value_of(results).equals(TABLE)  # type: ignore[attr-defined]


def test_a_payload_with_a_lost_answer_is_not_reported_as_taken(proxy: FaultProxy, bucket: Bucket) -> None:
    results = opened(bucket)
    publish(results, 0, "warm up")
    proxy.fault("lose answer", method="PUT", part=".parquet")
    assert publish(results, TABLE).won
    assert value_of(results).equals(TABLE)  # type: ignore[attr-defined]


def test_a_large_payload_survives_throttling_and_lost_answers_of_its_parts(proxy: FaultProxy, bucket: Bucket) -> None:
    store = opened(bucket).store
    store.put("warm", b"up")
    proxy.fault("refuse", method="PUT", part="partNumber=2", status=503)
    proxy.fault("lose answer", method="PUT", part="partNumber=3")
    proxy.fault("lose answer", method="POST", part="uploadId")
    parts = [bytes([i]) * (4 << 20) for i in range(9)]
    with store.create("large") as file:
        for part in parts:
            file.write(part)
    with store.open("large") as file:
        assert file.read() == b"".join(parts)


def test_a_large_payload_that_fails_leaves_nothing_not_even_parts(proxy: FaultProxy, bucket: Bucket) -> None:
    store = opened(bucket).store
    store.put("warm", b"up")
    proxy.fault("refuse", method="PUT", part="partNumber=2", status=403, times=1000)

    def write() -> None:
        with store.create("large") as file:
            for _ in range(9):
                file.write(b"x" * (4 << 20))

    with pytest.raises(StoreNotWritable):
        write()
    assert [file.name for file in store.list("")] == ["warm"]
    uploads = bucket.endpoint.client().list_multipart_uploads(Bucket=bucket.name)
    assert uploads.get("Uploads", []) == []


def test_uploads_of_killed_writers_are_swept(bucket: Bucket) -> None:
    store, client = open_store(bucket.url), bucket.endpoint.client()
    store.put("kept", b"1")
    client.create_multipart_upload(Bucket=bucket.name, Key="a store/results/left behind")
    client.create_multipart_upload(Bucket=bucket.name, Key="another program's")
    assert store.sweep(older_than=3600.0) == 0  # type: ignore[attr-defined]
    assert store.sweep(older_than=-60.0) == 1  # type: ignore[attr-defined]
    left = client.list_multipart_uploads(Bucket=bucket.name)["Uploads"]
    assert [each["Key"] for each in left] == ["another program's"]
    assert store.get("kept") == b"1"


def test_a_large_payload_is_read_in_few_requests(proxy: FaultProxy, bucket: Bucket) -> None:
    store = opened(bucket).store
    data = bytes(range(256)) * (150 << 10)
    with store.create("large") as file:
        file.write(data)
    for begin in (0, 1000):
        before = proxy.count("GET", "large")
        with store.open("large") as file:
            file.seek(begin)
            assert file.read() == data[begin:]
        assert proxy.count("GET", "large") - before <= 4


@pytest.mark.parametrize("part", [SLOT, ".parquet"])
def test_an_interrupted_answer_is_requested_again(proxy: FaultProxy, bucket: Bucket, part: str) -> None:
    results = opened(bucket)
    publish(results, TABLE)
    proxy.fault("cut", method="GET", part=part)
    assert value_of(results).equals(TABLE)  # type: ignore[attr-defined]


@pytest.mark.parametrize("part", [SLOT, ".parquet"])
def test_answers_that_always_break_off_never_give_half_a_value(proxy: FaultProxy, bucket: Bucket, part: str) -> None:
    results = opened(bucket)
    publish(results, TABLE)
    proxy.fault("cut", method="GET", part=part, times=1000)
    with pytest.raises(StoreUnreachable):
        value_of(results)


def test_listings_are_not_cached(bucket: Bucket) -> None:
    store = open_store(bucket.url)
    store.put("p/old", b"1")
    assert [file.name for file in store.list("p/")] == ["p/old"]
    bucket.put("p/new", b"2")
    with store.open("p/new") as file:
        assert file.read() == b"2"
    assert [file.name for file in store.list("p/")] == ["p/new", "p/old"]
    bucket.endpoint.client().delete_object(Bucket=bucket.name, Key="a store/p/new")
    assert store.get("p/new") is None
    with pytest.raises(FileNotFoundError):
        store.open("p/new")


def test_an_empty_payload_does_not_overwrite_an_existing_one(bucket: Bucket) -> None:
    store = open_store(bucket.url)
    bucket.put("p/a", b"old")
    with pytest.raises(StoreError, match="payload twice"), store.create("p/a"):
        pass
    assert bucket.get("p/a") == b"old"


def test_a_bucket_with_more_objects_than_one_listing_holds(bucket: Bucket) -> None:
    store = open_store(bucket.url)
    store.put("first", b"")
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda i: store.put(f"many/{i:04d}", b""), range(1010)))
    assert [file.name for file in store.list("many/")] == [f"many/{i:04d}" for i in range(1010)]
    assert store.get_many([f"many/{i:04d}" for i in range(1011)]) == [b""] * 1010 + [None]


# -- servers that die: each test has its own


@pytest.fixture
def ceph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_endpoint: object) -> Ceph:
    try:
        ceph = running(tmp_path)
    except Unavailable as error:
        pytest.fail(str(error), pytrace=False)
    use(ceph.endpoint, monkeypatch)
    return ceph


def test_a_gateway_killed_during_100_commits_leaves_each_key_with_one_result_or_none(ceph: Ceph) -> None:
    with ceph:
        results = ResultStore(open_store(f"s3://{ceph.endpoint.new_bucket()}"))
        publish(results, 0, "warm up")

        def commit(number: int) -> Published | StoreError:
            if number == 30:
                ceph.kill_gateway()
            if number == 60:
                ceph.start_gateway()
            try:
                return publish(results, number, f"key {number}")
            except StoreError as error:
                return error

        with ThreadPoolExecutor(8) as pool:
            done = list(pool.map(commit, range(100)))
        assert all(isinstance(each, Published | StoreUnreachable) for each in done)
        assert any(isinstance(each, Published) for each in done[70:])
        for number, each in enumerate(done):
            if isinstance(each, StoreUnreachable):
                publish(results, number, f"key {number}")
        assert [value_of(results, f"key {number}") for number in range(100)] == list(range(100))
        gc(results, grace_seconds=0.0)
        assert [file for file in results.store.list("results/") if SLOT not in file.name] == []


def test_no_commit_is_reported_before_the_store_has_answered(ceph: Ceph) -> None:
    with ceph, FaultProxy(ceph.endpoint.url) as proxy, ThreadPoolExecutor(1) as pool:
        address = f"s3://{ceph.endpoint.new_bucket()}?endpoint_url={proxy.url}"
        results = ResultStore(open_store(address))
        publish(results, 0, "warm up")
        ceph.pause_storage()
        try:
            done = pool.submit(publish, results, 1)
            assert proxy.wait_for("PUT", "key/000000." + SLOT)
            assert not done.done()
        finally:
            ceph.resume_storage()
        assert done.result(60).won
        assert value_of(results) == 1
