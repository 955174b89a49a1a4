"""Servers for tests as fixtures: each starts when the first test requests it and ends with the session."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers.packages import Unavailable
from tests.servers.proxy import FaultProxy
from tests.servers.s3 import Endpoint
from tests.servers.shared import shared


@dataclass(frozen=True, slots=True)
class Bucket:
    """An empty bucket for one test, and a way to it that bypasses Penstock."""

    endpoint: Endpoint
    name: str

    @property
    def url(self) -> str:
        """The address of a store in a folder of the bucket."""
        return f"s3://{self.name}/a store"

    def put(self, name: str, data: bytes) -> None:
        self.endpoint.client().put_object(Bucket=self.name, Key=f"a store/{name}", Body=data)

    def get(self, name: str) -> bytes | None:
        client = self.endpoint.client()
        try:
            found: bytes = client.get_object(Bucket=self.name, Key=f"a store/{name}")["Body"].read()
        except client.exceptions.NoSuchKey:
            return None
        return found

    def names(self) -> list[str]:
        """Return the name of every object in the bucket."""
        pages = self.endpoint.client().get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [each["Key"] for page in pages for each in page.get("Contents", [])]


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """A real S3 server, shared by all processes of the session."""
    with _served(tmp_path_factory, "tests.servers.ceph") as facts:
        yield Endpoint(facts["url"], facts["access_key"], facts["secret_key"])


@pytest.fixture(scope="session")
def s3_reader(s3_endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Another user of the same server, who has no rights until a bucket's policy grants some."""
    with _served(tmp_path_factory, "tests.servers.ceph") as facts:
        yield Endpoint(**facts["reader"])


@pytest.fixture
def bucket(s3_endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A new bucket; the environment variables say how to reach it, as a user's do."""
    use(s3_endpoint, monkeypatch)
    return Bucket(s3_endpoint, s3_endpoint.new_bucket())


@pytest.fixture(scope="session")
def rclone_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """An S3 server that accepts every conditional write."""
    with _served(tmp_path_factory, "tests.servers.rclone") as facts:
        yield Endpoint(facts["url"], facts["access_key"], facts["secret_key"])


@pytest.fixture
def proxy(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy between the environment's clients and the server of `bucket`, which itself bypasses it."""
    with FaultProxy(bucket.endpoint.url) as proxy:
        use(bucket.endpoint.at(proxy.url), monkeypatch)
        yield proxy


def use(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables that AWS's tools read."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in endpoint.environment().items():
        monkeypatch.setenv(name, value)


@contextmanager
def _served(factory: pytest.TempPathFactory, module: str) -> Iterator[dict[str, Any]]:
    try:
        with shared(_session_folder(factory) / module, module) as facts:
            yield facts
    except Unavailable as error:
        if sys.platform == "darwin" and os.environ.get("CI") != "true":
            pytest.skip(str(error))
        pytest.fail(str(error), pytrace=False)


def _session_folder(factory: pytest.TempPathFactory) -> Path:
    """Return one folder for all processes of a session."""
    base = factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "servers"
