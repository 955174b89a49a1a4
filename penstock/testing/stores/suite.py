"""The conformance suite for stores, as a class to subclass.

    class TestMyStore(StoreTests):
        def make_store(self, folder):
            return MyStore(...)

        def raw_put(self, store, name, data): ...   # bypassing the store, as another program would
        def raw_get(self, store, name): ...

The raw access matters: a store that consistently mishandles both writes and reads would pass any test that only uses
its own methods.
"""

from __future__ import annotations

import pickle
import threading
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, get_args

import pytest

from penstock.errors import PenstockError, StoreError
from penstock.storage.stores.addresses import open_store
from penstock.storage.stores.base import MAX_RECORD_BYTES, AppendStore, Reach, Store, SweepStore
from penstock.testing.suites import Suite

REFUSED_NAMES = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/.",
    ".hid",
    "a/.hid",
    "a\0b",
    "a\\b",
    "\ud800",
]
"""Names that lead out of a store, are not normalised, or cannot be encoded."""

ODD_NAMES = [
    "a b",
    "a.",
    "~",
    "a~b",
    "%2e%2e",
    "a:b",
    "a?b#c",
    "*",
    "é",
    "🔒",
    "-",
    "a\nb",
    "x" * 150,
    "con",
    "a/b/c/d/e/f",
]
"""Valid names that look invalid."""


class StoreTests(Suite):
    """Tests that every `Store` must pass.

    Subclass it as `Test…` and override `make_store`, `raw_put` and `raw_get`.
    """

    travels: ClassVar[bool] = True
    """False if the store intentionally cannot be pickled."""
    rounds: ClassVar[int] = 30
    """How many times races are run."""

    @abstractmethod
    def make_store(self, folder: Path) -> Store:
        """Return a new, empty store. It may use `folder`, which is empty."""

    @abstractmethod
    def raw_put(self, store: Store, name: str, data: bytes) -> None:
        """Write or replace the bytes under a name, bypassing the store."""

    @abstractmethod
    def raw_get(self, store: Store, name: str) -> bytes | None:
        """Read the bytes under a name, bypassing the store; None if there are none."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return self.make_store(tmp_path)

    # -- records

    def test_a_missing_record_is_none(self, store: Store) -> None:
        assert store.get("a/b") is None
        assert store.get_many(["a/b", "c"]) == [None, None]

    def test_get_sees_what_another_program_wrote(self, store: Store) -> None:
        store.put("a/b", b"mine")
        self.raw_put(store, "a/b", b"theirs")
        assert store.get("a/b") == b"theirs"

    def test_put_if_absent_writes_into_an_empty_slot(self, store: Store) -> None:
        assert store.put_if_absent("a/b", b"1") is True
        assert self.raw_get(store, "a/b") == b"1"

    def test_put_if_absent_leaves_a_taken_slot_alone(self, store: Store) -> None:
        store.put("a/b", b"old")
        assert store.put_if_absent("a/b", b"new") is False
        assert self.raw_get(store, "a/b") == b"old"

    def test_put_if_absent_leaves_alone_what_another_program_wrote(self, store: Store) -> None:
        store.put("a/other", b"")
        self.raw_put(store, "a/b", b"old")
        assert store.put_if_absent("a/b", b"old") is False

    def test_put_if_absent_of_empty_bytes_does_not_empty_a_taken_slot(self, store: Store) -> None:
        store.put("a/b", b"old")
        assert store.put_if_absent("a/b", b"") is False
        assert self.raw_get(store, "a/b") == b"old"

    def test_an_empty_record_counts_as_a_record(self, store: Store) -> None:
        assert store.put_if_absent("a/b", b"")
        assert store.get("a/b") == b""
        assert store.put_if_absent("a/b", b"1") is False

    @pytest.mark.parametrize("durable", [True, False])
    def test_put_replaces_a_record(self, store: Store, durable: bool) -> None:
        store.put("a/b", b"a long one", durable=durable)
        store.put("a/b", b"short", durable=durable)
        assert self.raw_get(store, "a/b") == b"short"

    def test_delete_removes_the_record_and_frees_its_name(self, store: Store) -> None:
        store.put("a/b", b"1")
        store.delete("a/b")
        assert self.raw_get(store, "a/b") is None
        assert store.put_if_absent("a/b", b"2")

    def test_deleting_a_missing_record_is_not_an_error(self, store: Store) -> None:
        store.delete("a/b")
        store.put("a/c", b"")
        store.delete("a/b")

    def test_get_many_answers_in_the_requested_order(self, store: Store) -> None:
        for i in range(20):
            store.put(f"k{i % 3}/{i}", str(i).encode())
        names = [f"k{i % 3}/{i}" for i in (7, 3, 19, 7)]
        assert store.get_many([*names, "k0/none"]) == [b"7", b"3", b"19", b"7", None]
        assert store.get_many([]) == []

    def test_any_bytes_are_restored(self, store: Store) -> None:
        data = bytes(range(256)) + b"\r\n\0"
        store.put("a", data)
        assert store.get("a") == data

    def test_a_record_can_be_as_large_as_the_limit(self, store: Store) -> None:
        data = b"x" * MAX_RECORD_BYTES
        assert store.put_if_absent("a", data)
        assert store.get("a") == data

    def test_a_larger_record_is_refused(self, store: Store) -> None:
        data = b"x" * (MAX_RECORD_BYTES + 1)
        for write in (store.put, store.put_if_absent):
            with pytest.raises(StoreError):
                write("a", data)
        assert self.raw_get(store, "a") is None

    def test_only_a_little_is_read_of_a_file_that_is_not_a_record(self, store: Store) -> None:
        store.put("b", b"")
        self.raw_put(store, "a", b"x" * (3 * MAX_RECORD_BYTES))
        assert store.get("a") == b"x" * (MAX_RECORD_BYTES + 1)

    @pytest.mark.parametrize("name", REFUSED_NAMES)
    def test_a_name_that_could_leave_the_store_is_refused(self, store: Store, name: str) -> None:
        def create() -> None:
            with store.create(name):
                pass

        calls: list[Callable[[], object]] = [
            lambda: store.get(name),
            lambda: store.get_many(["fine", name]),
            lambda: store.put(name, b"x"),
            lambda: store.put_if_absent(name, b"x"),
            lambda: store.delete(name),
            lambda: store.open(name),
            lambda: store.local_path(name),
            create,
        ]
        for call in calls:
            with pytest.raises(StoreError):
                call()
        assert list(store.list("")) == []

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_an_odd_name_works_like_any_other(self, store: Store, name: str) -> None:
        assert store.put_if_absent(name, b"1")
        assert not store.put_if_absent(name, b"2")
        assert store.get(name) == self.raw_get(store, name) == b"1"
        assert [file.name for file in store.list("")] == [name]

    # -- listings

    def test_list_returns_names_and_sizes_in_order(self, store: Store) -> None:
        names = ["b", "a/b", "a-b/c", "a/a/a", "a.b", "ab/c", "a/b2"]
        for name in names:
            store.put(name, name.encode())
        assert [(file.name, file.size) for file in store.list("")] == [(name, len(name)) for name in sorted(names)]

    def test_list_of_a_folder_contains_only_what_is_below_it(self, store: Store) -> None:
        for name in ("a/b", "a/c/d", "ab/c", "b"):
            store.put(name, b"")
        assert [file.name for file in store.list("a/")] == ["a/b", "a/c/d"]
        assert list(store.list("none/")) == []

    def test_list_shows_what_another_program_wrote(self, store: Store) -> None:
        store.put("a/b", b"")
        self.raw_put(store, "a/c", b"123")
        assert [(file.name, file.size) for file in store.list("a/")] == [("a/b", 0), ("a/c", 3)]

    def test_deleting_while_listing_is_not_an_error(self, store: Store) -> None:
        for i in range(10):
            store.put(f"{i % 2}/{i}", b"")
        for file in store.list(""):
            store.delete(file.name)
        assert list(store.list("")) == []

    def test_a_listing_contains_the_time_of_each_write(self, store: Store) -> None:
        store.put("a", b"")
        store.put("b", b"")
        first, second = store.list("")
        assert 0 < first.modified <= second.modified

    # -- races

    def test_one_of_many_concurrent_put_if_absent_calls_wins_and_its_bytes_are_stored(self, store: Store) -> None:
        threads = 8
        for i in range(self.rounds):
            barrier = threading.Barrier(threads)

            def put(mine: int, name: str = f"race/{i}", barrier: threading.Barrier = barrier) -> bool:
                barrier.wait()
                return store.put_if_absent(name, f"{mine}".encode() * 500)

            with ThreadPoolExecutor(threads) as pool:
                won = list(pool.map(put, range(threads)))
            assert won.count(True) == 1
            assert self.raw_get(store, f"race/{i}") == f"{won.index(True)}".encode() * 500

    def test_a_reader_sees_the_old_or_the_new_bytes_and_never_a_mixture(self, store: Store) -> None:
        versions = [bytes([65 + i]) * (100 + 5000 * i) for i in range(5)]
        store.put("a", versions[0])
        done, seen = threading.Event(), set()

        def read() -> None:
            while not done.is_set():
                seen.add(store.get("a"))

        with ThreadPoolExecutor(2) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            for i in range(self.rounds):
                store.put("a", versions[i % len(versions)])
            done.set()
            for reader in readers:
                reader.result()
        assert seen <= set(versions)

    # -- payloads

    def test_a_payload_is_restored(self, store: Store) -> None:
        with store.create("p/a.bin") as file:
            for i in range(300):
                file.write(bytes([i % 256]) * 10_000)
        expected = b"".join(bytes([i % 256]) * 10_000 for i in range(300))
        assert self.raw_get(store, "p/a.bin") == expected
        with store.open("p/a.bin") as file:
            assert file.read() == expected
            file.seek(10_000)
            assert file.read(3) == b"\1\1\1"

    def test_a_payload_is_not_visible_before_it_is_complete(self, store: Store) -> None:
        with store.create("p/a") as file:
            file.write(b"x" * 5_000_000)
            with pytest.raises(FileNotFoundError):
                store.open("p/a")
            assert list(store.list("p/")) == []

    def test_a_payload_whose_writer_fails_leaves_nothing(self, store: Store) -> None:
        mistake = OSError("the caller's own")

        def write() -> None:
            with store.create("p/a") as file:
                file.write(b"x" * 5_000_000)
                raise mistake

        with pytest.raises(OSError, match="own") as caught:
            write()
        assert caught.value is mistake
        assert list(store.list("")) == []

    def test_a_payload_can_be_written_only_once(self, store: Store) -> None:
        self.raw_put(store, "p/a", b"old")
        with pytest.raises(StoreError), store.create("p/a") as file:
            file.write(b"new")
        assert self.raw_get(store, "p/a") == b"old"

    def test_opening_a_missing_payload_is_a_file_not_found_error(self, store: Store) -> None:
        with pytest.raises(FileNotFoundError):
            store.open("p/a")

    def test_a_local_path_points_to_the_bytes(self, store: Store) -> None:
        with store.create("p/a") as file:
            file.write(b"here")
        path = store.local_path("p/a")
        assert path is None or Path(path).read_bytes() == b"here"

    # -- capabilities

    def test_appended_lines_stay_whole_and_in_order(self, store: Store) -> None:
        if not isinstance(store, AppendStore):
            pytest.skip("keeps no logs")
        threads, lines = 4, 100

        def write(mine: int) -> None:
            for i in range(lines):
                store.append("log/events", f"{mine} {i} {'x' * 200}\n".encode())

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(write, range(threads)))
        with store.open("log/events") as file:
            seen = file.read().decode().splitlines()
        for mine in range(threads):
            of_one = [line for line in seen if line.startswith(f"{mine} ")]
            assert of_one == [f"{mine} {i} {'x' * 200}" for i in range(lines)]

    def test_sweeping_removes_no_stored_name(self, store: Store) -> None:
        if not isinstance(store, SweepStore):
            pytest.skip("leaves nothing behind")
        store.put("a", b"1")
        with store.create("p") as file:
            file.write(b"2")
        assert store.sweep(older_than=0.0) == 0
        assert [file.name for file in store.list("")] == ["a", "p"]

    def test_the_reach_is_a_valid_one(self, store: Store) -> None:
        assert store.reach in get_args(Reach)

    def test_the_url_opens_the_same_store(self, store: Store) -> None:
        store.put("a", b"1")
        if store.url.rstrip("/").endswith(":"):
            pytest.skip("has no name to be opened by")
        assert open_store(store.url).get("a") == b"1"

    def test_a_pickled_copy_is_the_same_store_or_pickling_says_why_not(self, store: Store) -> None:
        store.put("a", b"1")
        if self.travels:
            assert pickle.loads(pickle.dumps(store)).get("a") == b"1"
        else:
            with pytest.raises((PenstockError, TypeError)):
                pickle.loads(pickle.dumps(store))
