"""A bucket of a real S3 server, tested with the suite that is shipped for all stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penstock.errors import StoreRefused
from penstock.storage import Store, open_store
from penstock.storage.stores.objects import ObjectStore
from penstock.storage.stores.s3.store import S3Store
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


class ByFsspecAlone(S3Store):
    """The code shared by Google's and Azure's stores, over s3fs: only what fsspec itself offers."""

    _read, _write, _remove = ObjectStore._read, ObjectStore._write, ObjectStore._remove
    _page, _versioned, _upload, _download = (
        ObjectStore._page,
        ObjectStore._versioned,
        ObjectStore._upload,
        ObjectStore._download,
    )

    async def _create(self, fs: Any, key: str, data: bytes, **more: Any) -> bool:
        try:
            return await ObjectStore._create(self, fs, key, data)
        except StoreRefused as error:
            # gcsfs and adlfs raise `FileExistsError`; s3fs only if the server is Amazon's.
            if error.data.get("status") == 412:
                return False
            raise


class TestObjectStoreByFsspecAlone(TestS3Store):
    travels = True

    def make_store(self, folder: Path) -> Store:
        return ByFsspecAlone(self.bucket.url)
