"""The owners of a folder: pickles are read only where nobody else can have put them."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from penstock import ownership
from penstock.errors import CodecRefused, ConfigurationError, StoreError
from penstock.storage import LocalStore, open_store
from penstock.storage.formats.parts.manifests import payload_file
from penstock.storage.results.generations import Absent
from penstock.storage.results.store import ResultStore

STRANGER = 54_321


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> LocalStore:
    store = LocalStore(root)
    store.put("results/a", b"1")
    return store


@pytest.fixture
def give_away(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Give a file or folder to another user; without the right to, become another user."""

    def give(path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, STRANGER, -1, follow_symlinks=False)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: STRANGER)

    return give


def test_the_users_own_folder_is_trusted(store: LocalStore) -> None:
    assert store.trusted
    assert store.open_to == ""


@pytest.mark.parametrize("mode", [0o777, 0o2775, 0o2770, 0o703, 0o1777])
@pytest.mark.parametrize("place", [".", "results"])
def test_a_folder_that_others_can_write_is_not_trusted(store: LocalStore, root: Path, mode: int, place: str) -> None:
    (root / place).chmod(mode)
    assert not store.trusted
    assert f"{mode:04o}" in store.open_to


@pytest.mark.parametrize("mode", [0o777, 0o2775])
def test_a_folder_below_one_that_others_can_write_is_not_trusted(store: LocalStore, root: Path, mode: int) -> None:
    """They could put another folder in its place."""
    root.parent.chmod(mode)
    assert not store.trusted
    assert str(root.parent) in store.open_to


def test_a_sticky_parent_folder_is_accepted(store: LocalStore, root: Path) -> None:
    root.parent.chmod(0o1777)
    assert store.trusted


@pytest.mark.parametrize("place", [".", "results", ".."])
def test_a_folder_of_another_user_is_not_trusted(
    store: LocalStore, root: Path, give_away: Callable[[Path], None], place: str
) -> None:
    give_away((root / place).resolve())
    assert not store.trusted
    assert "belongs to" in store.open_to


def test_every_folder_and_link_on_the_path_counts(tmp_path: Path, give_away: Callable[[Path], None]) -> None:
    open_folder, own = tmp_path / "open", tmp_path / "own"
    open_folder.mkdir()
    own.mkdir(mode=0o700)
    (open_folder / "link").symlink_to(own)
    LocalStore(own / "store").put("results/a", b"1")
    through = LocalStore(open_folder / "link" / "store")
    assert through.trusted
    open_folder.chmod(0o777)
    assert not through.trusted  # the link could point elsewhere tomorrow
    open_folder.chmod(0o1777)
    assert through.trusted
    give_away(open_folder / "link")
    assert not through.trusted


def test_a_link_to_a_folder_that_everyone_can_write_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o1777)
    (tmp_path / "link").symlink_to(tmp_path / "open")
    assert not LocalStore(tmp_path / "link").trusted


def test_the_users_private_group_can_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many systems create a group for each user, with no other members, and let it write."""
    me = pwd.struct_passwd(("me", "x", STRANGER, STRANGER, "", "/", ""))
    users = [me]
    members: list[str] = []
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: me)
    monkeypatch.setattr(pwd, "getpwall", lambda: users)
    monkeypatch.setattr(grp, "getgrgid", lambda gid: grp.struct_group(("me", "x", gid, members)))

    def judged(mode: int) -> str:
        ownership._is_private_group.cache_clear()
        found = os.stat_result((stat.S_IFDIR | mode, 1, 1, 1, STRANGER, STRANGER, 0, 0, 0, 0))
        return ownership.others_can_change(found)

    assert judged(0o775) == ""
    assert judged(0o2775)
    members.append("you")
    assert judged(0o775)
    members.clear()
    users.append(pwd.struct_passwd(("you", "x", 1, STRANGER, "", "/", "")))
    assert judged(0o775)
    ownership._is_private_group.cache_clear()


class Thing:
    def __init__(self) -> None:
        self.of = "the user's own"


def publish(results: ResultStore) -> Any:
    return results.publish("t", "k", Thing(), after=Absent(0, "never"), attempt="a", digest="d")


def test_a_pickle_in_the_folder_of_a_team_is_refused_with_a_fix(store: LocalStore, root: Path) -> None:
    record = publish(ResultStore(store)).record
    assert isinstance(ResultStore(store).load(record), Thing)
    root.chmod(0o2775)
    with pytest.raises(CodecRefused) as caught:
        ResultStore(store).load(record)
    assert "?trusted=true" in caught.value.hint
    with pytest.raises(CodecRefused) as caught:
        publish(ResultStore(store))
    assert str(root) in caught.value.because
    assert "?trusted=true" in caught.value.hint


@pytest.mark.parametrize("address", ["{}?trusted=true", "file://{}?trusted=true"])
def test_the_address_of_a_folder_can_state_that_it_is_trusted(store: LocalStore, root: Path, address: str) -> None:
    root.chmod(0o777)
    trusting = open_store(address.format(root))
    assert trusting.trusted
    assert trusting.get("results/a") == b"1"
    again = open_store(trusting.url)  # as workers open it
    assert again.trusted
    assert again.url == trusting.url


def test_a_file_address_with_another_option_is_refused(root: Path) -> None:
    with pytest.raises(ConfigurationError, match="trusted=true"):
        open_store(f"file://{root}?mode=1")


def test_a_payload_that_others_can_change_is_refused_in_the_users_own_folder(store: LocalStore, root: Path) -> None:
    record = publish(ResultStore(store)).record
    (root / record.payload_name).chmod(0o666)
    with pytest.raises(StoreError, match="other users can change"):
        ResultStore(store).load(record)


def test_the_bytes_that_are_parsed_are_those_that_were_verified(store: LocalStore, root: Path) -> None:
    """Bytes that others can change are copied before they are verified, because a mapped file would change, too."""
    value = pa.table({"a": range(300_000)})
    published = ResultStore(store).publish("t", "k", value, after=Absent(0, "never"), attempt="a", digest="d")
    root.chmod(0o777)
    contents = payload_file(store, published.record).contents()
    before = bytes(contents)
    with open(root / published.record.payload_name, "r+b") as opened:
        opened.write(b"\xff" * len(before))
    assert bytes(contents) == before
