"""`locks ls`, `locks break` and `locks repair`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from penstock.locks import FileSystemLockManager, Lease, Session


@pytest.fixture
def held(folder: Path) -> Session:
    """A session that holds two keys in the folder `locks`."""
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


def test_break_names_the_option_without_which_it_needs_a_terminal(held: Session, folder: Path) -> None:
    command = [sys.executable, "-m", "penstock", "locks", "break", "key-one", "--locks", "./locks"]
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, "hint: add --yes" in done.stderr) == (2, True)


def test_break_spares_a_lock_that_has_changed_hands(held: Session, call) -> None:
    done = call("locks", "break", "key-one", "--token", "9", "--locks", "./locks", "--yes")
    assert (done.exit_code, "nothing was done" in done.stdout) == (1, True)
    held.close()


@pytest.mark.parametrize("key", ["key", "nothing"])
def test_break_requires_one_lock_that_is_held(held: Session, call, key: str) -> None:
    done = call("locks", "break", key, "--locks", "./locks", "--yes")
    assert done.exit_code == 2
    assert "locks ls --json" in done.output
    held.close()


def test_repair_lists_and_removes_unreadable_entries(folder: Path, call) -> None:
    claims = folder / "locks" / "claims"
    claims.mkdir(parents=True)
    damaged = claims / ("0123456789abcdef" * 2)
    damaged.write_bytes(b"\0" * 64)
    os.utime(damaged, (time.time() - 120,) * 2)
    checks = json.loads(call("doctor", "--locks", "./locks", "--json").stdout)["checks"]
    (check,) = [check for check in checks if check["name"] == "lock files"]
    assert check["state"] == "warn"
    assert str(damaged) in check["said"]
    assert "locks repair" in check["hint"]
    tried = call("locks", "repair", "--dry-run", "--locks", "./locks")
    assert (tried.exit_code, damaged.exists()) == (1, True)
    assert "can be mended" in tried.stdout
    done = call("locks", "repair", "--locks", "./locks", "--json")
    assert (done.exit_code, damaged.exists()) == (0, False)
    document = json.loads(done.stdout)
    assert [damage["name"] for damage in document["damages"]] == [str(damaged)]
    assert call("locks", "repair", "--locks", "./locks").stdout.startswith("0 damaged")


def test_repair_reports_and_leaves_what_it_cannot_mend(folder: Path, call) -> None:
    claims = folder / "locks" / "claims"
    claims.mkdir(parents=True)
    (claims / ("0123456789abcdef" * 2)).write_bytes(b'{"v": 2}\n')
    done = call("locks", "repair", "--locks", "./locks")
    assert done.exit_code == 1
    assert "format 2" in done.stdout
    assert "left" in done.stdout
    assert call("locks", "repair", "--locks", "memory").stdout.startswith("0 damaged")


def test_doctor_names_unreadable_limits(folder: Path, call) -> None:
    assert call("limits", "set", "db", "3", "--store", "store").exit_code == 0
    (record,) = (folder / "store" / "limits").iterdir()
    record.write_bytes(b"")
    done = call("doctor", "--store", "store", "--locks", "memory", "--json")
    (check,) = [check for check in json.loads(done.stdout)["checks"] if check["name"] == "limits"]
    assert (done.exit_code, check["state"]) == (3, "fail")
    assert "penstock limits" in check["hint"]
