"""Small promises of stores and their values that larger tests miss: addresses, owners, paths and texts."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from penstock import ownership
from penstock.errors import ConfigurationError
from penstock.objects.texts import MAX_TEXT, all_encodable, package_of, text_of, traceback_of
from penstock.storage import open_store
from penstock.storage.formats import path_results
from penstock.storage.formats.path_results import facts_of_paths, lost_path, merged_facts

# -- addresses and owners ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["file:///data/a#b", "file:///data/store?trusted"])
def test_a_file_address_with_a_bare_question_mark_or_hash_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="only option") as refused:
        open_store(address)
    assert "%3F" in refused.value.hint
    assert open_store(f"file://{tmp_path}/what%3F").local_path("x") == f"{tmp_path}/what?/x"


def test_a_circle_of_links_is_an_error_not_an_endless_walk(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match=str(tmp_path)) as caught:
        ownership.others_can_lead_elsewhere(str(tmp_path / "a" / "store"))
    assert caught.value.errno == errno.ELOOP


def test_a_user_or_group_without_a_name_is_told_by_number() -> None:
    nobody = 987_654_321

    def judged(mode: int, uid: int) -> str:
        return ownership.others_can_change(os.stat_result((stat.S_IFDIR | mode, 1, 1, 1, uid, nobody, 0, 0, 0, 0)))

    assert judged(0o755, nobody) == f"it belongs to the user {nobody}"
    assert judged(0o775, os.geteuid()) == f"the group {nobody} may write to it (its mode is 0775)"
    assert judged(0o755, os.geteuid()) == ""


# -- paths ------------------------------------------------------------------------------------------------------------


def test_a_file_that_was_only_touched_is_unchanged_and_any_other_change_is_one(tmp_path: Path) -> None:
    file = tmp_path / "result"
    file.write_bytes(b"one")
    noted = facts_of_paths([file])["files"]
    os.utime(file, ns=(1, 1))
    assert lost_path(noted) is None
    file.write_bytes(b"two")
    assert lost_path(noted) == f"{file} has changed"
    file.unlink()
    assert lost_path(noted) == f"{file} no longer exists"
    file.mkdir()
    assert lost_path(noted) == f"{file} is no longer a file"


def test_a_large_file_counts_as_changed_as_soon_as_it_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(path_results, "_SMALL", 2)
    file = tmp_path / "result"
    file.write_bytes(b"one")
    noted = facts_of_paths([file])["files"]
    assert lost_path(noted) is None
    os.utime(file, ns=(1, 1))
    assert lost_path(noted) == f"{file} has changed"


def test_only_files_and_folders_are_noted(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert facts_of_paths([tmp_path / "pipe", tmp_path / "missing", Path("a\0b")]) == {}
    noted = facts_of_paths([tmp_path / "pipe", tmp_path])["files"]
    (tmp_path / "more").touch()
    assert lost_path(noted) is None  # a folder is only there or not


def test_the_files_of_all_parts_of_a_value_are_checked(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a", "b\udcff", "c")]
    for file in files:
        file.write_bytes(b"x")
    merged = merged_facts(facts_of_paths([file]) | {"of": file.name} for file in files)
    assert merged["of"] == "c"
    files[1].write_bytes(b"y")
    assert lost_path(merged["files"]) == f"{files[1]} has changed"
    assert merged_facts([{}, {"k": "v"}]) == {"k": "v"}


# -- texts ------------------------------------------------------------------------------------------------------------


class Hostile(type):
    @property
    def __module__(cls) -> str:  # type: ignore[override]
        raise SystemExit


def test_a_class_whose_metaclass_raises_belongs_to_no_package() -> None:
    assert package_of(Hostile("Thing", (), {})) == ""
    assert package_of(dict) == "builtins"


def test_a_very_long_text_is_cut_in_the_middle_and_says_so() -> None:
    text = text_of("a" * MAX_TEXT + "b" * MAX_TEXT)
    assert text.startswith("aaa")
    assert text.endswith("bbb")
    assert f"{MAX_TEXT:,} characters left out" in text
    assert len(text) < MAX_TEXT + 100
    assert text_of("a" * MAX_TEXT) == "a" * MAX_TEXT


def test_an_event_with_text_that_no_file_can_hold_is_still_written() -> None:
    told: Any = all_encodable({"a\udcff": ["\ud800", ("x", 1, None)], "n": 1.5})
    assert told == {"a\\udcff": ["\\ud800", ["x", 1, None]], "n": 1.5}


def test_an_error_that_cannot_be_formatted_is_told_with_its_place() -> None:
    class Sly(Exception):
        def __str__(self) -> str:
            raise SystemExit

        @property
        def __notes__(self) -> list[str]:
            raise SystemExit

    try:
        raise Sly
    except Sly as error:
        told = traceback_of(error)
    assert "raise Sly" in told
    assert "Sly" in told.splitlines()[-1]
