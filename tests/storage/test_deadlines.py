"""A service that accepts requests and never answers: the store reports it within seconds and fails at its deadline."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.errors import StoreUnreachable
from penstock.storage import open_store
from penstock.storage.stores import deadlines
from penstock.storage.stores.base import Conditions
from penstock.storage.stores.objects import ObjectStore
from penstock.storage.stores.s3 import uploads as s3_uploads

pytestmark = [pytest.mark.needs("s3fs", "boto3")]


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """A bucket store whose service accepts connections and reads nothing."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    taken: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                taken.append(listener.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "made up")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(deadlines, "STALL_SECONDS", 0.05)
    monkeypatch.setattr(deadlines, "REQUEST_SECONDS", 0.5)
    monkeypatch.setattr(deadlines, "LEAST_BYTES_PER_SECOND", 1 << 30)
    store: Any = open_store("s3://bucket/folder")
    store._conditions = Conditions("enforced")
    yield store
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for each in taken:
        each.close()
    thread.join(100)


def write_payload(store: Any) -> None:
    with store.create("payload") as file:
        file.write(bytes(30 << 20))


@pytest.mark.parametrize(
    "request_of",
    [
        pytest.param(lambda store: store.get("record"), id="read"),
        pytest.param(lambda store: store.put("record", b"{}"), id="write"),
        pytest.param(lambda store: store.put_if_absent("record", b"{}"), id="commit"),
        pytest.param(lambda store: list(store.list("")), id="list"),
        pytest.param(lambda store: store.open("payload"), id="download"),
        pytest.param(write_payload, id="upload"),
    ],
)
def test_a_store_that_stalls_is_reported_soon_and_fails_at_the_deadline(
    request_of: Any, deaf: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING, "penstock.store"),
        pytest.raises(StoreUnreachable, match="did not end within"),
    ):
        request_of(deaf)
    assert "stalls" in caplog.text


def test_an_upload_that_stalls_in_the_middle_fails_at_the_deadline(
    deaf: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    store: Any = deaf
    upload = store._upload("folder/payload")
    upload._upload_id = "begun"
    with (
        caplog.at_level(logging.WARNING, "penstock.store"),
        pytest.raises(StoreUnreachable, match="writing did not end"),
    ):
        upload.write(bytes(100 << 20))
    upload.abandon()
    assert "stalls" in caplog.text


def test_a_request_that_fails_on_its_own_keeps_its_error() -> None:
    async def fails() -> None:
        raise TimeoutError("the client's own")

    with pytest.raises(TimeoutError, match="the client's own"):
        asyncio.run(deadlines.Deadlines("store").keep(fails(), "reading", "key"))


def test_concurrent_uploads_share_one_allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec_asyn = pytest.importorskip("fsspec.asyn")
    monkeypatch.setattr(s3_uploads, "PART_BYTES", 1000)
    monkeypatch.setattr(s3_uploads, "BYTES_IN_FLIGHT", 3000)
    loop, sizes, most = fsspec_asyn.get_loop(), [0], [0]

    class Store:
        _location = type("Location", (), {"bucket": "b", "path": staticmethod(str)})

        def conditions(self) -> Conditions:
            return Conditions("enforced")

        def _call(self, make: Any, **_: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(make(None), loop).result(60)

        def _translating(self, *_: Any) -> Any:
            return contextlib.nullcontext()

        async def _ask(self, fs: Any, method: str, doing: str, key: str, **more: Any) -> Any:
            if method != "upload_part":
                return {"UploadId": "u", "Metadata": {}}
            size = more["Body"].getbuffer().nbytes
            sizes[0] += size
            most[0] = max(most[0], sizes[0])
            for _ in range(5):
                await asyncio.sleep(0)
            sizes[0] -= size
            return {"ETag": "e"}

    def upload() -> None:
        one = s3_uploads.Upload(Store(), os.urandom(4).hex())
        for _ in range(10):
            one.write(bytes(2500))

    threads = [threading.Thread(target=upload) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert 1000 < most[0] <= 3000
