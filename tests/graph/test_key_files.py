"""Files in keys: when they are read again, and when nothing needs to be read."""

from __future__ import annotations

import os
import time
from fnmatch import fnmatch
from pathlib import Path

import pytest

from penstock.errors import ParameterError
from penstock.graph.key_files import FileWitness, _folder, read_files
from penstock.input_files import file_digest, file_stamp, matching_files


class Disk:
    """Files in memory that count how often they are read and listed."""

    def __init__(self, **files: str) -> None:
        self.files = {name.replace("_", "/"): text for name, text in files.items()}
        self.read: list[str] = []
        self.listed = 0

    def file_digest(self, path: str) -> str:
        self.read.append(path)
        return self.files[path].encode().hex()

    def expand(self, pattern: str) -> list[str]:
        self.listed += 1
        return [path for path in self.files if fnmatch(path, pattern)]

    def stamp(self, path: str) -> object:
        inside = tuple(name for name in self.files if os.path.dirname(name) == path)
        return self.files.get(path, inside or None)


def witness(disk: Disk, *patterns: str) -> FileWitness:
    made = FileWitness(disk, disk.stamp)
    for pattern in patterns:
        read_files(pattern, made)
    disk.read.clear()
    disk.listed = 0
    return made


def test_unchanged_files_are_neither_read_nor_listed_between_sync_points() -> None:
    disk = Disk(data_a="1", data_b="2", other="3")
    made = witness(disk, "data/*", "other")
    assert not made.changed(0)
    disk.listed = 0
    assert not any(made.changed(0) for _ in range(10))
    assert (disk.read, disk.listed) == ([], 0)
    assert not made.changed(1)
    assert (disk.read, disk.listed) == ([], 1)


@pytest.mark.parametrize("change", [{"data/a": "9"}, {"data/c": "3"}, {"other": "4"}])
def test_each_change_is_noticed_at_the_next_call(change: dict[str, str]) -> None:
    disk = Disk(data_a="1", data_b="2", other="3")
    made = witness(disk, "data/*", "other")
    assert not made.changed(0)
    disk.files |= change
    assert made.changed(0)


@pytest.mark.parametrize("gone", ["data/a", "other"])
def test_a_file_that_vanished_is_a_change(gone: str) -> None:
    disk = Disk(data_a="1", data_b="2", other="3")
    made = witness(disk, "data/*", "other")
    assert not made.changed(0)
    del disk.files[gone]
    assert made.changed(0)


def test_new_files_in_several_folders_are_noticed_after_a_sync_point() -> None:
    disk = Disk(data_a_x="1", data_b_x="2")
    made = witness(disk, "data/*/x")
    assert not made.changed(0)
    disk.files["data/c/x"] = "3"
    assert not made.changed(0)
    assert made.changed(1)


def test_many_files_are_compared_after_a_sync_point() -> None:
    disk = Disk(**{f"data_{number}": "1" for number in range(600)})
    made = witness(disk, "data/*")
    assert not made.changed(0)
    disk.files["data/300"] = "2"
    assert not made.changed(0)
    assert made.changed(1)


def test_a_file_with_another_stamp_and_equal_content_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("1")
    disk = Disk()
    disk.files[str(path)] = "1"
    stamps = iter([1, 2, 2, 2])
    made = FileWitness(disk, lambda _: next(stamps))
    read_files(str(path), made)
    assert not any(made.changed(0) for _ in range(2))
    assert disk.read == [str(path)] * 2


def test_a_stamp_shows_changes_that_keep_size_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data"
    path.write_text("1")
    os.utime(path, (1e9, 1e9))
    monkeypatch.setattr(time, "time_ns", lambda now=time.time_ns: now() + 10**10)
    before = file_stamp(str(path))
    assert before == file_stamp(str(path))
    assert before is not None
    other = tmp_path / "other"
    other.write_text("2")
    os.utime(other, (1e9, 1e9))
    other.replace(path)
    assert file_stamp(str(path)) != before


def test_a_stamp_of_a_file_that_was_just_changed_equals_no_other(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("1")
    frozen = os.stat(path).st_ctime_ns
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: frozen + 1000)
        assert file_stamp(str(path)) != file_stamp(str(path))
    assert file_stamp(str(tmp_path / "missing")) is None


def test_a_real_folder_is_compared_by_its_stamp(tmp_path: Path) -> None:
    class Access:
        file_digest = staticmethod(file_digest)
        expand = staticmethod(matching_files)

    (tmp_path / "a.csv").write_text("1")
    made = FileWitness(Access(), file_stamp)
    read_files(str(tmp_path / "*.csv"), made)
    assert not made.changed(0)
    (tmp_path / "b.csv").write_text("2")
    assert made.changed(0)


def test_a_folder_is_no_input_file(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="is a folder"):
        file_digest(str(tmp_path))


@pytest.mark.parametrize(
    ("pattern", "folder"),
    [("a/b.csv", "a"), ("a/*.csv", "a"), ("b.csv", os.curdir), ("a*/b.csv", None), ("a/**", None)],
)
def test_only_patterns_without_wildcards_in_folders_have_one_folder(pattern: str, folder: str | None) -> None:
    assert _folder(pattern) == folder
