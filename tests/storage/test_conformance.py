"""The stores of this package, tested with the suite that is shipped for all of them."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

from penstock.clocks import SYSTEM_CLOCK
from penstock.storage import LocalStore, MemoryStore, Store
from penstock.testing.stores import StoreTests
from penstock.testing.stores.faults import FlakyStore, SlowStore


class TestMemoryStore(StoreTests):
    travels = False

    def make_store(self, folder: Path) -> Store:
        return MemoryStore()

    def raw_put(self, store: Store, name: str, data: bytes) -> None:
        assert isinstance(store, MemoryStore)
        store._files[name] = (data, time.time())

    def raw_get(self, store: Store, name: str) -> bytes | None:
        assert isinstance(store, MemoryStore)
        return store._files[name][0] if name in store._files else None


class TestNamedMemoryStore(TestMemoryStore):
    travels = True

    def make_store(self, folder: Path) -> Store:
        return MemoryStore.named(str(folder))


class TestLocalStore(StoreTests):
    def make_store(self, folder: Path) -> Store:
        return LocalStore(folder / "a store")

    def raw_put(self, store: Store, name: str, data: bytes) -> None:
        path = Path(unquote(urlsplit(store.url).path)) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def raw_get(self, store: Store, name: str) -> bytes | None:
        path = Path(unquote(urlsplit(store.url).path)) / name
        return path.read_bytes() if path.exists() else None


class TestLocalStoreThatIsNotDurable(TestLocalStore):
    def make_store(self, folder: Path) -> Store:
        return LocalStore(folder / "a store", durable=False)


class _OverMemory(StoreTests):
    def raw_put(self, store: Store, name: str, data: bytes) -> None:
        assert isinstance(store, (FlakyStore, SlowStore))
        TestMemoryStore.raw_put(self, store.inner, name, data)  # type: ignore[arg-type]

    def raw_get(self, store: Store, name: str) -> bytes | None:
        assert isinstance(store, (FlakyStore, SlowStore))
        return TestMemoryStore.raw_get(self, store.inner, name)  # type: ignore[arg-type]


class TestFlakyStoreWithoutAScript(_OverMemory):
    travels = False

    def make_store(self, folder: Path) -> Store:
        return FlakyStore(MemoryStore())


class TestSlowStore(_OverMemory):
    travels = False

    def make_store(self, folder: Path) -> Store:
        return SlowStore(MemoryStore(), seconds=0.0, clock=SYSTEM_CLOCK)
