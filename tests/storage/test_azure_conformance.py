"""A container of Azurite, the emulator of Azure Blob Storage, tested with the suite shipped for all stores.

It needs `npm install azurite`, with its programs on the PATH, and `pip install 'penstock[azure]'`.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock import INPUTS, flow, load_settings, task
from penstock.errors import StoreError
from penstock.storage import Store, open_store
from penstock.storage.stores.base import ProbedStore
from penstock.testing.stores import StoreTests
from penstock.testing.stores.suite import ODD_NAMES
from tests.servers.ceph import free_port

adlfs = pytest.importorskip("adlfs", reason="an optional job: pip install 'penstock[azure]'")
PROGRAM = shutil.which("azurite-blob")
START_SECONDS = 30.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),  # aiohttp's, about Azure's client
    pytest.mark.skipif(PROGRAM is None, reason="an optional job: npm install azurite"),
]


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The connection string of an emulator with one account, which has its own key."""
    folder, port = tmp_path_factory.mktemp("azurite"), free_port()
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    assert PROGRAM is not None
    command = [PROGRAM, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder)]
    command += ["--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    with open(folder / "azurite.log", "wb") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | {"AZURITE_ACCOUNTS": f"penstock:{key}"}
        )
    try:
        limit = time.monotonic() + START_SECONDS
        while not _listens(port):
            assert server.poll() is None, (folder / "azurite.log").read_text()
            assert time.monotonic() < limit, "Azurite did not start"
            time.sleep(0.05)  # nothing signals that a port is open
        yield (
            f"DefaultEndpointsProtocol=http;AccountName=penstock;AccountKey={key};"
            f"BlobEndpoint=http://127.0.0.1:{port}/penstock;"
        )
    finally:
        server.kill()
        server.wait()


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def container(azurite: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The client of a new container; the environment says how to reach it, as a user's does."""
    from azure.storage.blob import BlobServiceClient

    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite)
    service = BlobServiceClient.from_connection_string(azurite)
    return service.create_container(f"test-{uuid.uuid4().hex[:16]}")


class TestAzureStore(StoreTests):
    rounds = 10
    travels = True

    @pytest.fixture(autouse=True)
    def _in_a_container(self, container: Any) -> None:
        self.container = container

    def make_store(self, folder: Path) -> Store:
        return open_store(f"az://{self.container.container_name}/a store")

    @pytest.mark.parametrize("name", [name for name in ODD_NAMES if not set(name) & set("?\n")])
    def test_an_odd_name_works_like_any_other(self, store: Store, name: str) -> None:
        super().test_an_odd_name_works_like_any_other(store, name)

    @pytest.mark.parametrize("name", ["a?b#c", "a\nb"])
    def test_a_name_that_would_be_changed_in_transit_is_refused(self, store: Store, name: str) -> None:
        with pytest.raises(StoreError, match="refused the name"):
            store.put_if_absent(name, b"1")

    def raw_put(self, store: Store, name: str, data: bytes) -> None:
        self.container.upload_blob(f"a store/{name}", data, overwrite=True)

    def raw_get(self, store: Store, name: str) -> bytes | None:
        from azure.core.exceptions import ResourceNotFoundError

        try:
            data: bytes = self.container.download_blob(f"a store/{name}").readall()
        except ResourceNotFoundError:
            return None
        return data


def test_the_probe_finds_that_conditions_are_enforced(container: Any) -> None:
    store = open_store(f"az://{container.container_name}")
    assert isinstance(store, ProbedStore)
    assert store.conditions().verdict == "enforced"


def test_one_run_publishes_and_the_next_one_finds_it(container: Any) -> None:
    @task(cache_policy=INPUTS)
    def square(x: int) -> int:
        return x * x

    @flow
    def squares() -> list[int]:
        return square.map([1, 2, 3])

    settings = load_settings(overrides={"store": f"az://{container.container_name}/store"})
    cold, warm = (squares.run_with({}, settings=settings) for _ in range(2))
    assert cold.result() == warm.result() == [1, 4, 9]
    assert (cold.counts["executed"], warm.counts["executed"], warm.counts["hit"]) == (3, 0, 3)
