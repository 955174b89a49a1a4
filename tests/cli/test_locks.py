"""`locks ls` and `locks break`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from penstock.locks import FileSystemLockManager, Lease, Session


@pytest.fixture
def held(folder: Path) -> Session:
    """A session that holds two keys of the folder `locks`."""
    session = FileSystemLockManager(folder / "locks").open_session(info={"run": "blue-otter", "flow": "weekly"})
    session.try_acquire(["key-one", "key-two"])
    return session


def test_ls_shows_who_holds_what(held: Session, call) -> None:
    done = call("locks", "ls", "--locks", "./locks")
    assert done.exit_code == 0
    assert "blue-otter" in done.stdout
    assert "weekly" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("2 held, in FileSystemLockManager(")
    document = json.loads(call("locks", "ls", "--locks", "./locks", "--json").stdout)
    assert document["schema"] == "penstock/locks-ls/1"
    assert [(lock["key"], lock["info"]["run"]) for lock in document["locks"]] == [
        ("key-one", "blue-otter"),
        ("key-two", "blue-otter"),
    ]
    assert all(lock["fencing_token"] > 0 for lock in document["locks"])
    held.close()
    assert call("locks", "ls", "--locks", "./locks").stdout.startswith("0 held")


def test_break_takes_a_lock_away(held: Session, call, folder: Path) -> None:
    assert call("locks", "break", "key-o", "--locks", "./locks", "--yes").stdout == "taken away\n"
    other = FileSystemLockManager(folder / "locks").open_session()
    assert isinstance(other.try_acquire(["key-one"])[0], Lease)
    assert not isinstance(other.try_acquire(["key-two"])[0], Lease)
    other.close()
    held.close()


def test_break_asks_first(held: Session, call) -> None:
    done = call("locks", "break", "key-one", "--locks", "./locks", input="n\n")
    assert "away from run blue-otter" in done.output
    assert done.exit_code != 0
    assert call("locks", "ls", "--locks", "./locks").stdout.splitlines()[-1].startswith("2 held")
    held.close()


def test_break_does_nothing_to_a_lock_that_is_another_by_now(held: Session, call) -> None:
    done = call("locks", "break", "key-one", "--token", "9", "--locks", "./locks", "--yes")
    assert (done.exit_code, "nothing was done" in done.stdout) == (1, True)
    held.close()


@pytest.mark.parametrize("key", ["key", "nothing"])
def test_break_needs_one_lock_that_is_held(held: Session, call, key: str) -> None:
    done = call("locks", "break", key, "--locks", "./locks", "--yes")
    assert done.exit_code == 2
    assert "locks ls --json" in done.output
    held.close()
