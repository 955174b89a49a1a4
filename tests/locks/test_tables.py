"""Files of claims: damaged, planted or abandoned ones block nobody, and tokens grow."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from penstock.errors import LockError, SessionLost
from penstock.locks import FileSystemLockManager, Holder, Lease
from penstock.locks.file_systems import is_local
from penstock.locks.tables import Table, gets, releases, wants
from penstock.process.identity import ProcessIdentity
from penstock.testing.clocks import FakeClock
from penstock.testing.locks.suite import ODD_KEYS

NAME = "0123456789abcdef" * 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "locks"


def table_of(data: bytes) -> Table:
    table = Table(NAME)
    table.absorb(0, data)
    return table


def a_whole_table(folder: Path) -> tuple[Path, bytes]:
    """Return the file of a session that holds k and l and released m."""
    session = FileSystemLockManager(folder).open_session()
    session.try_acquire(["k", "l"])
    (lease,) = session.try_acquire(["m"])
    assert isinstance(lease, Lease)
    session.release([lease], "failed")
    (path,) = (folder / "claims").iterdir()
    data = path.read_bytes()
    session.close()
    return path, data


def test_a_table_reads_the_same_in_any_chunks() -> None:
    lines = wants("b", 1.5, ODD_KEYS) + gets("b", 7, but=ODD_KEYS[:3]) + releases(7, ODD_KEYS[3:5], "published")
    whole = table_of(b"{}\n" + lines)
    assert list(whole.claims) == ODD_KEYS[5:]
    assert {claim.token for claim in whole.claims.values()} == {7}
    assert whole.ended == dict.fromkeys(ODD_KEYS[3:5], (7, "published"))
    by_bytes = Table(NAME)
    data = b"{}\n" + wants("b", 1.5, ["k", "l"]) + gets("b", 7, but=["k"])
    for end in range(1, len(data) + 1):
        by_bytes.absorb(max(0, end - 3), data[max(0, end - 3) : end])  # earlier bytes come again
    assert list(by_bytes.claims) == ["l"]


@pytest.mark.parametrize("end", ["killed", "damaged"])
def test_a_power_cut_after_any_byte_leaves_locks_that_can_be_acquired(end: str, folder: Path) -> None:
    """They are free at once if their process is certainly gone, otherwise when the lease ends."""
    path, data = a_whole_table(folder)
    for cut in range(0, len(data) + 1, 7):
        path.write_bytes(data[:cut] + (b"\0" * (len(data) - cut) if end == "damaged" else b""))
        clock = FakeClock()
        # Another boot of the machine, so nobody can tell whether its processes are gone.
        with mock.patch.object(ProcessIdentity, "is_gone", return_value=False):
            session = FileSystemLockManager(folder, clock=clock).open_session(lease_seconds=100)
            for answer in session.try_acquire(["k", "l", "m"]):
                if isinstance(answer, Holder):
                    clock.run_for(31)
                    (answer,) = session.try_acquire([answer.key])
                assert isinstance(answer, Lease)
            session.close()


@pytest.mark.parametrize(
    "planted",
    [
        b"",
        b"\0" * 4096,
        b"not json\n",
        b"[]\n",
        b'{"v": 1}\n',
        b'{"v": 1, "session_id": 3, "lease_seconds": -1, "info": [], "process": {}}\n',
        b"{}\n\nw b x k\n\nw b 1.0\n\nh b x\n\nh\n\np x k\n\nq b k\n\nw c 1.0 %ff%fe\n" + b"[" * 100_000,
    ],
)
def test_unreadable_files_block_nobody(planted: bytes, folder: Path) -> None:
    (folder / "claims").mkdir(parents=True)
    (folder / "claims" / NAME).write_bytes(planted)
    manager = FileSystemLockManager(folder)
    session = manager.open_session()
    assert isinstance(session.try_acquire(["k"])[0], Lease)
    assert [holder.key for holder in manager.ls()] == ["k"]
    session.close()


def test_unreadable_files_are_removed_after_an_hour(folder: Path) -> None:
    (folder / "claims").mkdir(parents=True)
    old, new = folder / "claims" / NAME, folder / "claims" / NAME[::-1]
    for path in (old, new):
        path.write_bytes(b"\0")
    os.utime(old, (0, 0))
    FileSystemLockManager(folder).open_session().close()
    assert list((folder / "claims").iterdir()) == [new]


def test_other_files_in_the_folder_are_left_alone(folder: Path, tmp_path: Path) -> None:
    claims = folder / "claims"
    claims.mkdir(parents=True)
    os.mkfifo(claims / NAME)
    (claims / "notes.txt").write_text("mine")
    (tmp_path / "elsewhere").write_text("precious")
    (claims / NAME[::-1]).symlink_to(tmp_path / "elsewhere")
    session = FileSystemLockManager(folder).open_session()
    assert isinstance(session.try_acquire(["k"])[0], Lease)
    session.close()
    assert (claims / "notes.txt").read_text() == "mine"
    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_a_link_in_place_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / NAME).write_bytes(b"")
    os.utime(tmp_path / "elsewhere" / NAME, (0, 0))
    folder.mkdir()
    (folder / "claims").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LockError):
        FileSystemLockManager(folder).open_session()
    assert os.listdir(tmp_path / "elsewhere") == [NAME]


def test_claims_of_another_version_are_a_clear_error(folder: Path) -> None:
    (folder / "claims").mkdir(parents=True)
    (folder / "claims" / NAME).write_bytes(b'{"v": 2}\n')
    with pytest.raises(LockError, match="another version"):
        FileSystemLockManager(folder).open_session()


def test_files_are_readable_by_this_user_only(folder: Path) -> None:
    session = FileSystemLockManager(folder).open_session()
    (path,) = (folder / "claims").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "claims").stat().st_mode) == 0o700
    session.close()


def test_tokens_grow_when_the_clock_is_set_back(folder: Path) -> None:
    clock = FakeClock()
    manager = FileSystemLockManager(folder, clock=clock)
    one, two = manager.open_session(), manager.open_session()
    tokens = []
    for session in (one, two, one, two):
        (lease,) = session.try_acquire(["k"])
        assert isinstance(lease, Lease)
        tokens.append(lease.fencing_token)
        session.release([lease], "failed")
        clock._now -= 3600.0
    assert tokens == sorted(set(tokens))
    one.close()
    two.close()


@pytest.mark.parametrize("removed", ["closed", "closed for a worker", "found dead", "swept"])
def test_tokens_grow_though_nobody_present_has_read_the_last_holders_file(removed: str, folder: Path) -> None:
    clock = FakeClock()
    behind, holder, other = (FileSystemLockManager(folder, clock=clock) for _ in range(3))  # as in three processes
    late, dying = behind.open_session(), holder.open_session(lease_seconds=10)
    worker = FileSystemLockManager(folder, clock=clock).join_session(dying.id)
    (lease,) = (worker if removed == "closed for a worker" else dying).try_acquire(["k"])
    assert isinstance(lease, Lease)
    if removed.startswith("closed"):
        dying.close()
    elif removed == "swept":
        path = folder / "claims" / dying.id
        path.write_bytes(path.read_bytes().replace(b'"pid": %d' % os.getpid(), b'"pid": 99999999'))
    watching = other.open_session()
    if removed == "found dead":
        watching.try_acquire(["k"])
        clock.advance(20.0)
        (found,) = watching.try_acquire(["k"])
        assert isinstance(found, Lease)
        watching.release([found], "failed")
    clock.set_now(clock.now() - 3600.0)
    (later,) = late.try_acquire(["k"])
    assert isinstance(later, Lease)
    assert later.fencing_token > lease.fencing_token


def test_a_session_whose_file_was_removed_is_lost(folder: Path) -> None:
    session = FileSystemLockManager(folder).open_session()
    (path,) = (folder / "claims").iterdir()
    path.unlink()
    with pytest.raises(SessionLost):
        session.try_acquire(["k"])
    session.close()


@pytest.mark.parametrize("when", ["want", "hold"])
def test_an_attempt_without_an_answer_takes_nothing_for_good(
    when: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at either line. Afterwards this session and others can get the keys."""
    manager = FileSystemLockManager(folder)
    one, two = manager.open_session(), manager.open_session()
    write, calls = os.write, 0

    def full(file: int, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls == (1 if when == "want" else 2):
            return write(file, data[: len(data) // 2])
        return write(file, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(LockError):
        one.try_acquire(["k", "l"])
    monkeypatch.setattr(os, "write", write)
    (lease,) = one.try_acquire(["k"])
    assert isinstance(lease, Lease)
    assert isinstance(two.try_acquire(["l"])[0], Lease)
    one.close()
    two.close()


# -- the two kinds of locks in a folder


@pytest.fixture
def kinds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], FileSystemLockManager]:
    """Return a manager that treats the folder as local to this machine, or as one of a network."""

    def make(local: bool) -> FileSystemLockManager:
        monkeypatch.setattr("penstock.locks.folders.is_local", lambda folder: local)
        manager = FileSystemLockManager(folder, lease_seconds=1.0)
        assert manager.batched is local
        return manager

    return make


@pytest.mark.slow
@pytest.mark.parametrize("local", [True, False])
def test_the_two_kinds_of_locks_refuse_each_other(local: bool, kinds: Callable[[bool], FileSystemLockManager]) -> None:
    first = kinds(local).open_session()
    with pytest.raises(LockError, match="over a network at the same time"):
        kinds(not local).open_session()
    assert not first.lost
    first.close()
    kinds(not local).open_session().close()


def test_only_a_folder_on_this_machines_disk_is_local(tmp_path: Path) -> None:
    assert is_local(str(tmp_path / "not" / "there" / "yet"))
    assert not is_local("/proc")
