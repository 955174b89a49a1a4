"""A bucket of a real S3 server against the suite that is shipped for all stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.storage import Store, open_store
from penstock.testing.stores import StoreTests
from tests.servers.fixtures import Bucket

pytestmark = [pytest.mark.needs("s3fs", "boto3"), pytest.mark.slow]


class TestS3Store(StoreTests):
    rounds = 10

    @pytest.fixture(autouse=True)
    def _in_a_bucket(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def make_store(self, folder: Path) -> Store:
        return open_store(self.bucket.url)

    def raw_put(self, store: Store, name: str, data: bytes) -> None:
        self.bucket.put(name, data)

    def raw_get(self, store: Store, name: str) -> bytes | None:
        return self.bucket.get(name)
