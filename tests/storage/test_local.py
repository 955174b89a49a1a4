"""Promises of the folder store beyond the suite: what is on disk, and what each failure of the disk means."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.errors import StoreError, StoreFull, StoreNotWritable, StoreUnreachable
from penstock.storage import LocalStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> LocalStore:
    return LocalStore(root)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def failing(code: int):
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def test_opening_and_reading_create_nothing(store: LocalStore, root: Path) -> None:
    assert store.get("a") is None
    assert list(store.list("")) == []
    assert store.sweep(older_than=0) == 0
    assert not root.exists()


def test_only_the_user_can_read_and_write(store: LocalStore, root: Path) -> None:
    old = os.umask(0)
    try:
        store.put_if_absent("a/b", b"1")
        store.put("a/c", b"1")
        store.append("logs/d", b"1")
        with store.create("p/q") as file:
            file.write(b"1")
    finally:
        os.umask(old)
    for path in [root, *root.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_a_folder_writable_by_everyone_is_not_trusted(store: LocalStore, root: Path) -> None:
    assert store.trusted
    store.put("a", b"")
    assert store.trusted
    root.chmod(0o777)
    assert not store.trusted


def test_a_home_in_the_path_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    LocalStore("~/store").put("a", b"1")
    assert (tmp_path / "store" / "a").read_bytes() == b"1"


def test_only_the_stored_files_remain_after_writing(store: LocalStore, root: Path) -> None:
    store.put_if_absent("a", b"1")
    store.put_if_absent("a", b"2")
    store.put("b", b"1")
    with store.create("c") as file:
        file.write(b"1")
    assert files(root) == ["a", "b", "c"]


def test_a_store_under_a_linked_root_works(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    store = LocalStore(tmp_path / "link")
    assert store.put_if_absent("a/b", b"1")
    assert (tmp_path / "disk" / "a" / "b").read_bytes() == b"1"


def test_a_record_that_is_a_link_is_refused(store: LocalStore, root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    store.put("a/b", b"")
    (root / "a" / "link").symlink_to(tmp_path / "secret")
    for read in (store.get, store.open):
        with pytest.raises(StoreError, match="symbolic link"):
            read("a/link")
    assert not store.put_if_absent("a/link", b"x")
    with pytest.raises(StoreError):
        store.append("a/link", b"x")
    store.put("a/link", b"mine")
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert store.get("a/link") == b"mine"


def test_nothing_is_written_deleted_or_listed_through_a_linked_folder(
    store: LocalStore, root: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "b").write_bytes(b"theirs")
    store.put("x", b"")
    (root / "a").symlink_to(elsewhere)

    def create() -> None:
        with store.create("a/c") as file:
            file.write(b"x")

    for call in (
        lambda: store.put("a/b", b"x"),
        lambda: store.put_if_absent("a/c", b"x"),
        lambda: store.put_if_absent("a/d/e", b"x"),
        lambda: store.append("a/b", b"x"),
        lambda: store.delete("a/b"),
        create,
    ):
        with pytest.raises(StoreError, match="symbolic link"):
            call()
    assert [file.name for file in store.list("")] == ["x"]
    assert files(elsewhere) == ["b"]
    assert (elsewhere / "b").read_bytes() == b"theirs"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["fsync", "link", "open"])
def test_no_space_raises_store_full_and_leaves_nothing(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch, code: int, call: str
) -> None:
    store.put("before", b"1")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(code))
        with pytest.raises(StoreFull) as caught:
            store.put_if_absent("a/b", b"x")
    assert str(root) in caught.value.where
    assert files(root) == ["before"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_system_without_hard_links_is_named_in_the_error(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", failing(code))
        with pytest.raises(StoreNotWritable, match="hard links"):
            store.put_if_absent("a", b"x")
    assert files(root) == []


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_an_unwritable_folder_is_reported(store: LocalStore, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    store.put("a/b", b"1")
    for call in ("open", "mkdir"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing(code))
            for write in (store.put, store.put_if_absent, store.append):
                with pytest.raises(StoreNotWritable):
                    write("c/d", b"x")
    assert store.get("a/b") == b"1"


def test_a_root_below_a_file_is_not_writable_and_not_a_miss(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = LocalStore(tmp_path / "file" / "store")
    with pytest.raises(StoreNotWritable):
        store.put_if_absent("a", b"x")
    for read in (store.get, store.open, lambda name: list(store.list(""))):
        with pytest.raises(StoreNotWritable):
            read("a")


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ESTALE, errno.ETIMEDOUT])
def test_a_failed_read_is_unknown_and_never_a_miss(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    store.put("a", b"1")
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing(code))
        for read in (store.get, store.open):
            with pytest.raises(StoreUnreachable):
                read("a")
    with monkeypatch.context() as patch:
        patch.setattr(os, "read", failing(code))
        with pytest.raises(StoreUnreachable):
            store.get("a")
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", failing(code))
        with pytest.raises(StoreUnreachable):
            list(store.list(""))


def test_a_link_whose_answer_was_lost_is_recognised_as_our_own(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over NFS the first answer may be lost. The kernel repeats the call, and gets EEXIST."""
    real = os.link

    def twice(*args: object, **kwargs: object) -> None:
        real(*args, **kwargs)  # type: ignore[arg-type]
        real(*args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", twice)
        assert store.put_if_absent("a", b"x") is True
    assert store.put_if_absent("a", b"x") is False


def test_only_durable_writes_are_synced(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(os.readlink(f"/proc/self/fd/{file}")), real(file)))
    LocalStore(root, durable=False).put_if_absent("k/a", b"1")
    store = LocalStore(root)
    store.put("k/b", b"1", durable=False)
    assert synced == []
    store.put_if_absent("k/c", b"1")
    temporary, *folders = synced
    assert temporary.startswith(str(root / ".tmp"))
    assert folders == [str(root / "k"), str(root)]


def test_bytes_are_synced_before_they_have_a_name(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []

    def noting(name: str, real: Callable[..., None]) -> Callable[..., None]:
        return lambda *args, **kwargs: (steps.append(name), real(*args, **kwargs))[1]

    for name in ("fsync", "link", "rename"):
        monkeypatch.setattr(os, name, noting(name, getattr(os, name)))
    store.put_if_absent("a", b"1")
    assert steps == ["fsync", "link", "fsync"]
    steps.clear()
    store.put("a", b"1")
    assert steps == ["fsync", "rename", "fsync"]
    steps.clear()
    with store.create("b") as file:
        file.write(b"x")
    assert steps == ["fsync", "link", "fsync"]


def test_old_leftovers_are_swept(store: LocalStore, root: Path) -> None:
    store.put("a", b"1")
    old, new = root / ".tmp" / "old", root / ".tmp" / "new"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (1_000_000_000, 1_000_000_000))
    assert store.sweep(older_than=3600) == 1
    assert files(root) == [".tmp/new", "a"]


RACE = """
import sys
from penstock.storage import LocalStore
store, mine = LocalStore(sys.argv[1], durable=False), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for i in range(200):
    if store.put_if_absent(f"race/{i}", mine.encode() * 300):
        print(i)
"""


@pytest.mark.slow
def test_one_of_many_processes_wins_each_slot(root: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(root), str(mine)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for mine in range(4)
    ]
    for racer in racers:
        assert racer.stdout
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = [racer.communicate()[0].split() for racer in racers]
    assert sorted(int(slot) for slots in won for slot in slots) == list(range(200))
    for mine, slots in enumerate(won):
        assert {(root / "race" / slot).read_bytes() for slot in slots} <= {f"{mine}".encode() * 300}


KILLED = """
import sys
from penstock.storage import LocalStore
store, i = LocalStore(sys.argv[1]), 0
while True:
    store.put_if_absent(f"r/{i}", b"x" * 50_000)
    with store.create(f"p/{i}") as file:
        for _ in range(10):
            file.write(b"y" * 50_000)
    i += 1
    if i == 5:
        print("ready", flush=True)
"""


@pytest.mark.slow
def test_a_writer_killed_at_any_time_leaves_only_whole_files(root: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", KILLED, str(root)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout
    assert writer.stdout.readline() == "ready\n"
    writer.kill()
    writer.communicate()
    sizes = {file.name[0]: file.size for file in LocalStore(root).list("")}
    assert sizes == {"r": 50_000, "p": 500_000}
    for file in LocalStore(root).list(""):
        assert file.size == sizes[file.name[0]], file.name


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.EROFS])
def test_a_failed_removal_is_reported(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    store.put("a/b", b"1")
    old = root / ".tmp" / "old"
    old.write_bytes(b"x")
    os.utime(old, (1_000_000_000, 1_000_000_000))

    def create() -> None:
        with store.create("a/c") as file:
            file.write(b"x")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", failing(code))
        for call in (lambda: store.delete("a/b"), lambda: store.sweep(older_than=3600), create):
            with pytest.raises(StoreError) as caught:
                call()
            assert str(root) in caught.value.where
    assert store.get("a/b") == b"1"
    assert store.sweep(older_than=3600) == 1


def path_of(descriptor: str) -> str:
    """Return the path of an open file; empty if it has none, or is closed meanwhile."""
    with contextlib.suppress(OSError):
        if sys.platform == "darwin":
            return fcntl.fcntl(int(descriptor), fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0").decode()
        return os.readlink(f"/proc/self/fd/{descriptor}")
    return ""


def test_no_descriptor_is_left_open(store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened() -> list[str]:
        """Return which files of the store are open; other tests in this process may close and open some of theirs."""
        return sorted(path for path in map(path_of, os.listdir("/dev/fd")) if path.startswith(str(root)))

    store.put("a/b/c", b"1")
    os.symlink(root, root / "a" / "link")
    os.mkfifo(root / "a" / "pipe")
    before = opened()
    for _ in range(20):
        store.get_many(["a/b/c", "a/x/y", "x/y/z", "c"])
        list(store.list(""))
        next(iter(store.list("a/")))
        store.open("a/b/c").close()
        store.put("a/b/d", b"1")
        store.put_if_absent("a/b/d", b"1")
        store.delete("a/b/d")
        store.sweep(older_than=0)
        for odd in ("a/link/x", "a/pipe", "a/b"):
            with pytest.raises(StoreError):
                store.get(odd)
            with pytest.raises(StoreError):
                store.append(odd, b"")
        for call in ("link", "rename", "fsync", "mkdir", "write", "unlink"):
            with monkeypatch.context() as patch:
                patch.setattr(os, call, failing(errno.EIO))
                for write in (store.put, store.put_if_absent, store.append):
                    with contextlib.suppress(StoreError):
                        write(f"{call}/x", b"x")
    assert opened() == before


def full_disk(folder: Path) -> Path | None:
    """A file system of one megabyte, if we have the right to mount one."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    return folder if done.returncode == 0 else None


def test_a_real_full_disk_raises_store_full_and_loses_nothing(tmp_path: Path) -> None:
    disk = full_disk(tmp_path / "disk") if os.geteuid() == 0 else None
    if disk is None:
        pytest.skip("may not mount a small disk here")
    try:
        store = LocalStore(disk / "store")
        store.put("kept", b"1")

        def fill() -> None:
            with store.create("big") as file:
                for _ in range(100):
                    file.write(b"x" * 50_000)

        with pytest.raises(StoreFull):
            fill()
        assert files(disk / "store") == ["kept"]
        assert store.put_if_absent("after", b"1")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
