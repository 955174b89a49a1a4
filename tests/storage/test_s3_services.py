"""Buckets that do not keep their promises, and denied access to a bucket: both are recognised and clearly reported."""

from __future__ import annotations

import json
import logging
import multiprocessing
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from penstock import INPUTS, TASK_SOURCE, flow, task
from penstock.errors import (
    ConfigurationError,
    LockError,
    StoreError,
    StoreNotWritable,
    StoreRefused,
    StoreUnreachable,
)
from penstock.graph.policies import IsolationLevel
from penstock.locks.slots import SlotLockManager
from penstock.storage import open_store
from penstock.storage.stores.probing import VERDICT_NAME
from penstock.storage.stores.s3.store import S3Store
from tests.servers.fixtures import Bucket, use
from tests.servers.proxy import FaultProxy
from tests.servers.s3 import Endpoint

pytestmark = [pytest.mark.needs("s3fs", "boto3"), pytest.mark.slow, pytest.mark.untraced]


@pytest.fixture
def ignoring(rclone_endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    """A bucket of a server that ignores conditions."""
    use(rclone_endpoint, monkeypatch)
    return S3Store(f"s3://{rclone_endpoint.new_bucket()}/store")


@pytest.fixture
def versioned(s3_endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    """A bucket in which the real server ignores conditions."""
    use(s3_endpoint, monkeypatch)
    return S3Store(f"s3://{s3_endpoint.new_bucket(versioned=True)}/store")


@pytest.fixture
def unsupported(bucket: Bucket, proxy: FaultProxy) -> S3Store:
    """A bucket of a server that answers 501 to the first conditional write, which decides."""
    proxy.fault("refuse", method="PUT", part=".penstock/probes", status=501)
    return S3Store(bucket.url)


def test_a_bucket_that_enforces_conditions_is_recognised(bucket: Bucket) -> None:
    found = S3Store(bucket.url).conditions()
    assert (found.verdict, found.versioned) == ("enforced", False)


def test_a_server_that_ignores_conditions_is_recognised(ignoring: S3Store) -> None:
    assert ignoring.conditions().verdict == "ignored"


def test_a_versioned_bucket_whose_conditions_are_ignored_is_recognised(versioned: S3Store) -> None:
    found = versioned.conditions()
    assert (found.verdict, found.versioned) == ("ignored", True)


def test_a_server_without_conditional_writes_is_recognised(unsupported: S3Store) -> None:
    assert unsupported.conditions().verdict == "unsupported"


@pytest.mark.parametrize("kind", ["lose answer", "twice"])
def test_a_probe_that_conflicts_with_its_own_repetition_is_repeated(
    bucket: Bucket, proxy: FaultProxy, kind: str
) -> None:
    proxy.fault(kind, method="PUT", part=".penstock/probes")
    assert S3Store(bucket.url).conditions().verdict == "enforced"


def test_the_verdict_is_stored_in_the_bucket(bucket: Bucket, proxy: FaultProxy) -> None:
    S3Store(bucket.url).put_if_absent("a", b"1")
    before = len(proxy.seen)
    assert S3Store(bucket.url).put_if_absent("a", b"2") is False
    assert [method for method, _ in proxy.seen[before:]] == ["GET", "PUT"]


def test_an_old_verdict_is_not_trusted(bucket: Bucket) -> None:
    bucket.put(VERDICT_NAME, json.dumps({"verdict": "ignored", "versioned": None, "seen": 1.0}).encode())
    assert S3Store(bucket.url).conditions().verdict == "enforced"


def test_the_probe_leaves_only_its_verdict(bucket: Bucket) -> None:
    S3Store(bucket.url).conditions()
    assert bucket.names() == [f"a store/{VERDICT_NAME}"]


def _verdict(url: str) -> str:
    return S3Store(url).conditions().verdict


def test_concurrent_probes_reach_one_verdict_and_leave_nothing(bucket: Bucket) -> None:
    # 8 processes, because each takes 100 MB with its client.
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        assert pool.map(_verdict, [bucket.url] * 16, chunksize=1) == ["enforced"] * 16
    assert bucket.names() == [f"a store/{VERDICT_NAME}"]


def test_a_forked_child_has_its_own_client(bucket: Bucket) -> None:
    code = """
        import os
        import sys
        import warnings
        from penstock.storage.stores.s3.store import S3Store

        warnings.simplefilter("ignore", DeprecationWarning)  # about forking with threads, which is under test
        url = sys.argv[1]
        S3Store(url).put("a", b"1")
        if not (child := os.fork()):
            answer = None
            try:
                answer = S3Store(url).get("a")
            finally:
                os._exit(answer != b"1")
        assert os.waitpid(child, 0)[1] == 0
        assert S3Store(url).get("a") == b"1"
    """
    command = [sys.executable, "-c", textwrap.dedent(code), bucket.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


# -- what is refused without conditions, and what is not


def test_without_conditions_later_writers_still_see_a_taken_name(ignoring: S3Store) -> None:
    assert ignoring.put_if_absent("a", b"1") is True
    assert ignoring.put_if_absent("a", b"2") is False
    assert ignoring.get("a") == b"1"


def test_without_conditions_locks_in_the_bucket_are_refused(ignoring: S3Store) -> None:
    with pytest.raises(LockError, match="cannot hold locks"):
        SlotLockManager(ignoring, reach="network", poll_seconds=(0.5, 5.0)).open_session()


@task(cache_policy=(INPUTS + TASK_SOURCE).configure(isolation_level=IsolationLevel.SERIALIZABLE))
def exclusive(x: int) -> int:
    return x + 1


@task(cache_policy=INPUTS + TASK_SOURCE)
def shared(x: int) -> int:
    return x + 2


def test_without_conditions_serializable_tasks_are_refused(ignoring: S3Store, tmp_path: Path) -> None:
    @flow(result_storage=ignoring.url)
    def once() -> int:
        return exclusive(1)

    with pytest.raises(ConfigurationError, match="SERIALIZABLE") as caught:
        once()
    assert "ignored" in caught.value.because


def test_without_conditions_other_tasks_run_with_a_warning(ignoring: S3Store, caplog: pytest.LogCaptureFixture) -> None:
    @flow(result_storage=ignoring.url)
    def often() -> int:
        return shared(1)

    with caplog.at_level(logging.WARNING, logger="penstock.store"):
        assert often() == 3
    assert "does not enforce conditional writes (ignored)" in caplog.text
    assert often.run().counts["hit"] == 1


# -- denied access ---------


def test_the_error_for_a_missing_bucket_names_it(bucket: Bucket) -> None:
    store = open_store("s3://no-such-bucket-here/store")
    for call in (lambda: store.get("a"), lambda: store.put("a", b""), lambda: list(store.list(""))):
        with pytest.raises(StoreRefused, match="no bucket no-such-bucket-here"):
            call()


def test_wrong_credentials_are_distinguished_from_missing_permissions(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2" * 5)
    with pytest.raises(StoreRefused, match="credentials are not accepted") as caught:
        open_store(bucket.url).get("a")
    assert "hunter2" not in str(caught.value) + repr(caught.value.data)


def test_missing_credentials_are_reported(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(StoreRefused, match="cannot be accessed with") as caught:
        open_store(bucket.url).get("a")
    assert "AWS_PROFILE" in caught.value.hint


def test_an_endpoint_without_a_server_is_unreachable(monkeypatch: pytest.MonkeyPatch, bucket: Bucket) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreUnreachable) as caught:
        open_store(bucket.url).get("a")
    assert bucket.name in caught.value.where


def test_a_store_can_be_read_without_write_permission_and_writing_says_so(bucket: Bucket, proxy: FaultProxy) -> None:
    bucket.put("a", b"1")
    proxy.fault("refuse", method="PUT", status=403, times=1000)
    store = open_store(bucket.url)
    assert store.get("a") == b"1"
    with pytest.raises(StoreError, match="writing is not allowed") as caught:
        store.put_if_absent("b", b"2")
    assert caught.value.code == "store.not-writable"


def test_a_writer_without_delete_permission_can_publish(bucket: Bucket, proxy: FaultProxy) -> None:
    proxy.fault("refuse", method="DELETE", status=403, times=1000)
    store = open_store(bucket.url)
    assert store.put_if_absent("a", b"1") is True
    assert store.put_if_absent("a", b"2") is False


# -- addresses


def test_credentials_in_an_address_are_refused_and_not_shown() -> None:
    for address in ("s3://key:hunter2@bucket/a", "s3://bucket/a?endpoint_url=http://key:hunter2@host"):
        with pytest.raises(ConfigurationError) as caught:
            open_store(address)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("address", ["s3://", "s3:///a", "s3://bucket/a/../b", "s3://bucket/a?colour=red"])
def test_an_address_without_a_bucket_or_with_an_unknown_option_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError):
        open_store(address)


def test_an_address_with_options_is_restored_whole() -> None:
    address = "s3://bucket/a/b?endpoint_url=https%3A%2F%2Fs3.example.org&trusted=true"
    store = open_store(address)
    assert store.url == address
    assert store.trusted
    assert not open_store("s3://bucket").trusted
    assert pickle.loads(pickle.dumps(store)).url == address


def test_no_secret_is_in_a_pickled_store_or_its_repr(bucket: Bucket) -> None:
    store = open_store(bucket.url)
    store.put("a", b"1")
    secret = bucket.endpoint.secret_key
    assert secret.encode() not in pickle.dumps(store)
    assert secret not in repr(store) + store.url


def test_a_user_with_read_permission_can_read_and_is_told_what_is_missing(
    bucket: Bucket, s3_reader: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(bucket.url).put("a", b"1")
    allowed = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": "*",
                "Action": ["s3:GetObject", "s3:ListBucket"],
                "Resource": [f"arn:aws:s3:::{bucket.name}", f"arn:aws:s3:::{bucket.name}/*"],
            }
        ],
    }
    bucket.endpoint.client().put_bucket_policy(Bucket=bucket.name, Policy=json.dumps(allowed))
    use(s3_reader, monkeypatch)
    store = open_store(bucket.url)
    assert (store.get("a"), store.get("b")) == (b"1", None)
    for write in (lambda: store.put("b", b""), lambda: store.put_if_absent("b", b"")):
        with pytest.raises(StoreNotWritable, match=f"bucket {bucket.name}") as caught:
            write()
        assert "s3:PutObject" in caught.value.hint
    with pytest.raises(StoreNotWritable, match="deleting"):
        store.delete("a")
