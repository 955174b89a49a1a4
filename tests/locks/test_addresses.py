"""Settings and the lock managers they open."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from penstock.errors import ConfigurationError
from penstock.locks import FileSystemLockManager, MemoryLockManager, lock_manager_from


def test_memory_opens_a_memory_manager() -> None:
    assert isinstance(lock_manager_from("memory"), MemoryLockManager)


def test_a_folder_opens_a_file_system_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folder = str(tmp_path / "with space")
    for setting in (folder, f"file://{folder.replace(' ', '%20')}", "~/with space", "./with space"):
        manager = lock_manager_from(setting)
        assert isinstance(manager, FileSystemLockManager)
        assert manager.lock_files_directory == folder
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("setting", ["reddis", "", "nfs://server/x", "file://relative/x", "Memory"])
def test_the_error_for_an_invalid_manager_lists_the_valid_ones(setting: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        lock_manager_from(setting)
    assert "folder" in str(caught.value) or "path" in str(caught.value)


def test_the_manager_has_the_lease_of_the_setting(tmp_path: Path) -> None:
    for setting in ("memory", str(tmp_path)):
        with pytest.raises(ConfigurationError):
            lock_manager_from(setting, lease_seconds=-1)


def test_the_error_for_a_mistyped_setting_shows_no_secret() -> None:
    with pytest.raises(ConfigurationError) as caught:
        lock_manager_from("redsi://user:secret@host/0")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "setting", ["/locks?lease=3", "file:///locks?lease=3", "redis://host?prefx=a", "redis://host:6379/0?lease=3"]
)
def test_an_option_that_an_address_does_not_have_is_refused(setting: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        lock_manager_from(setting)
    if "prefx" in setting:
        assert refused.value.hint == "did you mean prefix?"
