"""Where signing keys come from, and that they stay there."""

from __future__ import annotations

import os
import stat
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.environments import Environment
from penstock.errors import ConfigurationError
from penstock.settings import load_settings
from penstock.storage.records.signing import Signatures
from penstock.storage.records.signing_keys import SigningKeys, rotate_file, write_new_file

KEY = bytes(range(32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], str]:
    """Make a function importable, and return its name."""

    def importable(function: Callable[[], Any]) -> str:
        module = types.ModuleType("company_secrets")
        module.keys = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "company_secrets", module)
        return "company_secrets:keys"

    return importable


def refused(source: str | Path) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        SigningKeys(str(source)).ids()
    assert KEY.hex() not in f"{caught.value}{caught.value.data}"
    assert caught.value.hint
    return caught.value


def private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_a_new_file_is_private_whatever_the_umask_and_holds_one_key(path: Path) -> None:
    old = os.umask(0)
    try:
        id = write_new_file(str(path))
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    keys = SigningKeys(str(path))
    assert keys.ids() == [id]
    assert len(keys.current()[1]) == 32


def test_no_two_keys_are_equal(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_new_file(str(tmp_path / name))
    first, second = (SigningKeys(str(tmp_path / name)).current() for name in ("a", "b"))
    assert (first[0] != second[0], first[1] != second[1]) == (True, True)


def test_an_existing_file_is_never_overwritten(path: Path) -> None:
    write_new_file(str(path))
    before = path.read_bytes()
    with pytest.raises(ConfigurationError) as caught:
        write_new_file(str(path))
    assert "rotate" in caught.value.hint
    assert path.read_bytes() == before


def test_a_rotated_file_signs_with_the_new_key_and_accepts_the_old_ones(path: Path) -> None:
    first = write_new_file(str(path))
    second = rotate_file(str(path))
    assert SigningKeys(str(path)).ids() == [second, first]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["keys"]


def test_a_file_behind_a_link_is_rotated_in_place(path: Path, tmp_path: Path) -> None:
    write_new_file(str(path))
    (tmp_path / "link").symlink_to(path)
    rotate_file(str(tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    assert len(SigningKeys(str(path)).ids()) == 2


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620])
def test_a_file_that_others_can_open_is_refused(path: Path, mode: int) -> None:
    private(path, f"k {KEY.hex()}\n")
    assert SigningKeys(str(path)).ids() == ["k"]
    path.chmod(mode)
    error = refused(path)
    assert f"{mode:04o}" in error.because
    assert f"chmod 600 {path}" in error.hint


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("", "no key"),
        ("# nothing but a comment\n", "no key"),
        (KEY.hex(), "line 1"),
        (f"# first\nk {KEY.hex()} {KEY.hex()}\n", "line 2"),
        (f"k {KEY.hex()[:-1]}\n", "line 1"),
        (f"k {KEY.hex()[:-2]}\n", "31 bytes"),
        (f"../k {KEY.hex()}\n", "line 1"),
        (f"k {KEY.hex()}\nk {KEY.hex()}\n", "line 2"),
        (f"k {KEY.hex()}\n" + "#" * 70_000, "too large"),
    ],
)
def test_the_error_for_an_invalid_key_file_names_the_line_without_showing_it(
    path: Path, text: str, because: str
) -> None:
    assert because in refused(private(path, text)).because


def test_a_missing_key_file_and_one_that_is_not_a_file_are_reported(path: Path) -> None:
    assert "penstock keys new" in refused(path).hint
    refused(path.parent)
    os.mkfifo(path, 0o600)
    assert "not a regular file" in refused(path).because


def test_a_function_can_return_keys_and_the_first_one_signs(module: Callable[[Callable[[], Any]], str]) -> None:
    keys = SigningKeys(module(lambda: {"b": KEY, "a": KEY[::-1]}))
    assert (keys.ids(), keys.current()) == (["b", "a"], ("b", KEY))


@pytest.mark.parametrize("said", [None, {}, KEY, {"k": KEY.hex()}, {1: KEY}, {"k": KEY[:31]}, {"": KEY}])
def test_the_result_of_a_key_function_is_checked(module: Callable[[Callable[[], Any]], str], said: Any) -> None:
    assert refused(module(lambda: said)).where == "company_secrets:keys"


def test_a_key_function_that_is_missing_or_raises_is_reported(module: Callable[[Callable[[], Any]], str]) -> None:
    def broken() -> None:
        raise PermissionError("the vault is closed")

    assert "the vault is closed" in refused(module(broken)).because
    assert "ModuleNotFoundError" in refused("no_such_module_here:keys").because
    assert "AttributeError" in refused("os:no_such_function").because


def test_missing_keys_stop_a_run_before_anything_runs(path: Path) -> None:
    for said in ({"signing_keys": str(path)}, {"require_signatures": True}):
        with pytest.raises(ConfigurationError) as caught:
            Environment(load_settings(overrides={"store": "memory://keys", **said})).results()
        assert "penstock keys new" in caught.value.hint


def test_without_keys_nothing_is_signed() -> None:
    assert Signatures.of(None) is None
    assert Environment(load_settings(overrides={"store": "memory://keys"})).results().trust.signatures is None
