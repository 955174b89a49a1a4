"""Links and other odd files planted in a store: nothing outside it is read, written or deleted."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock.errors import LockError, StoreError
from penstock.locks import FileSystemLockManager
from penstock.storage import LocalStore
from penstock.storage.records.names import slot_name
from penstock.storage.results.generations import Unknown
from penstock.storage.results.store import ResultStore

OLD = 1_000_000_000
TRIES = 2_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> LocalStore:
    store = LocalStore(root)
    store.put("results/t/k/a", b"mine")
    return store


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the store with an old file in it, of the kind that a sweep removes."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "kept").write_bytes(b"theirs")
    os.utime(folder / "kept", (OLD, OLD))
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def in_place_of(path: Path, target: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def create(store: LocalStore, name: str) -> None:
    with store.create(name) as file:
        file.write(b"x")


EVERY_CALL: dict[str, Callable[[LocalStore, str], object]] = {
    "get": lambda store, folder: store.get(f"{folder}/kept"),
    "get_many": lambda store, folder: store.get_many([f"{folder}/kept", "results/t/k/a"]),
    "open": lambda store, folder: store.open(f"{folder}/kept"),
    "list": lambda store, folder: list(store.list(f"{folder}/")),
    "put": lambda store, folder: store.put(f"{folder}/kept", b"x"),
    "put_if_absent": lambda store, folder: store.put_if_absent(f"{folder}/new", b"x"),
    "create": lambda store, folder: create(store, f"{folder}/new"),
    "append": lambda store, folder: store.append(f"{folder}/kept", b"x"),
    "delete": lambda store, folder: store.delete(f"{folder}/kept"),
}


@pytest.mark.parametrize("call", EVERY_CALL)
@pytest.mark.parametrize("folder", ["results", "results/t", "results/t/k"])
def test_no_call_follows_a_linked_folder(store: LocalStore, root: Path, outside: Path, call: str, folder: str) -> None:
    for inner in ("t/k", "k", ""):
        (outside / inner).mkdir(parents=True, exist_ok=True)
        (outside / inner / "kept").write_bytes(b"theirs")
    before = content(outside)
    in_place_of(root / folder, outside)
    with pytest.raises(StoreError, match="symbolic link"):
        EVERY_CALL[call](store, "results/t/k")
    assert content(outside) == before


def test_a_linked_folder_of_temporary_files_is_neither_swept_nor_written(
    store: LocalStore, root: Path, outside: Path
) -> None:
    in_place_of(root / ".tmp", outside)
    for call in (
        lambda: store.sweep(older_than=3600),
        lambda: store.put("a", b"x"),
        lambda: store.put_if_absent("b", b"x"),
        lambda: create(store, "c"),
    ):
        with pytest.raises(StoreError, match="symbolic link"):
            call()
    assert content(outside) == {"kept": b"theirs"}


def test_a_linked_folder_of_temporary_lock_files_is_not_swept(
    root: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.locks.folders.is_local", lambda folder: False)  # where a key has a file
    in_place_of(root / "locks" / ".tmp", outside)
    with pytest.raises(LockError, match="symbolic link"):
        FileSystemLockManager(root / "locks").open_session()
    assert content(outside) == {"kept": b"theirs"}


def test_a_sweep_skips_what_no_writer_can_have_left(store: LocalStore, root: Path) -> None:
    (root / ".tmp" / "folder").mkdir()
    (root / ".tmp" / "old").write_bytes(b"x")
    for name in ("folder", "old"):
        os.utime(root / ".tmp" / name, (OLD, OLD))
    assert store.sweep(older_than=3600) == 1
    assert (root / ".tmp" / "folder").is_dir()


@contextlib.contextmanager
def swapping(folder: Path, target: Path) -> Iterator[None]:
    """Replace the folder by a link and back, as fast as possible."""
    aside, over = folder.with_name(f"{folder.name}-aside"), threading.Event()

    def swap() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                os.rename(folder, aside)
                os.symlink(target, folder)
            with contextlib.suppress(OSError):
                os.unlink(folder)
            with contextlib.suppress(OSError):
                os.rename(aside, folder)

    attacker = threading.Thread(target=swap)
    attacker.start()
    try:
        yield
    finally:
        over.set()
        attacker.join()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["results/t", ".tmp"])
def test_nothing_outside_is_touched_however_fast_a_link_comes_and_goes(root: Path, outside: Path, place: str) -> None:
    store = LocalStore(root, durable=False)
    store.put("results/t/kept", b"mine")
    seen = set()
    with swapping(root / place, outside):
        for i in range(TRIES):
            name = f"results/t/{i % 7}"
            for call in (
                lambda name=name: store.put_if_absent(name, b"x"),
                lambda name=name: store.put(name, b"y"),
                lambda name=name: store.delete(name),
                lambda: store.delete("results/t/kept"),
                lambda: store.sweep(older_than=3600),
                lambda: seen.add(store.get("results/t/kept")),
            ):
                with contextlib.suppress(StoreError):
                    call()
    assert content(outside) == {"kept": b"theirs"}
    assert seen <= {b"mine", None}


# -- what is not a file ------------------------------------------------------------------------------------------------


def plant(path: Path, kind: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        # The name of a socket must be short: it is created in the working folder, then moved.
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind("s")
            os.rename("s", path.name)
        finally:
            os.chdir(here)


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder"])
def test_what_is_not_a_file_is_refused_without_waiting(store: LocalStore, root: Path, kind: str) -> None:
    plant(root / "results" / "t" / "odd", kind)
    for call in (
        lambda: store.get("results/t/odd"),
        lambda: store.get_many(["results/t/k/a", "results/t/odd"]),
        lambda: store.open("results/t/odd"),
        lambda: store.append("results/t/odd", b"x"),
    ):
        with pytest.raises(StoreError, match="not a regular file"):
            call()
    # The name is taken: a writer that tries the next free name must see that, or get an error.
    if kind == "folder":
        with pytest.raises(StoreError, match="not a regular file"):
            store.put_if_absent("results/t/odd", b"x")
    else:
        assert store.put_if_absent("results/t/odd", b"x") is False
        assert [file.name for file in store.list("results/")] == ["results/t/k/a", "results/t/odd"]


def test_a_pipe_with_a_writer_is_not_waited_for(store: LocalStore, root: Path) -> None:
    os.mkfifo(root / "pipe")
    writer = os.open(root / "pipe", os.O_RDWR)  # holds it open and writes nothing
    try:
        with pytest.raises(StoreError, match="not a regular file"):
            store.get("pipe")
    finally:
        os.close(writer)


def test_a_lookup_that_finds_a_pipe_is_unknown_and_says_so(store: LocalStore, root: Path) -> None:
    plant(root / slot_name("t", "k", 0), "pipe")
    (found,) = ResultStore(store).look_up_many([("t", "k")])
    assert isinstance(found, Unknown)
    assert "not a regular file" in str(found.error)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_lock_files_that_are_not_files_are_never_waited_for(root: Path, kind: str) -> None:
    manager = FileSystemLockManager(root)
    session = manager.open_session()
    try:
        session.try_acquire(["k"])
    finally:
        session.close()
    for path in [path for path in root.rglob("*") if path.is_file()]:
        path.unlink()
        plant(path, kind)
    again = FileSystemLockManager(root).open_session()
    try:
        with contextlib.suppress(LockError):
            again.try_acquire(["k"])
        with contextlib.suppress(LockError):
            manager.ls()
    finally:
        again.close()


@pytest.mark.timeout(60)
def test_foreign_files_among_locks_block_nobody_forever(root: Path) -> None:
    manager = FileSystemLockManager(root)
    session = manager.open_session(info={"run": "r"})
    try:
        session.try_acquire(["k"])
        foreign = [path.parent / "NOTES.txt" for path in root.rglob("*") if path.is_file()]
        foreign += [path.parent / "9" for path in root.rglob("*") if path.is_file() and path.name.isdecimal()]
        foreign += [root / "NOTES.txt", root / ".hidden"]
        for path in foreign:
            path.write_bytes(b"not ours")
        with contextlib.suppress(LockError):
            other = FileSystemLockManager(root).open_session()
            try:
                assert other.try_acquire(["k2"])
                assert [holder.key for holder in manager.ls() if holder.key == "k"] == ["k"]
            finally:
                other.close()
    finally:
        session.close()
