"""`keys new`, `rotate` and `ls`, and what other commands report about signatures."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import msgspec
import pytest

from penstock.storage import LocalStore
from penstock.storage.records.encoding import encode
from penstock.storage.results.maintenance import current_records
from penstock.storage.results.store import ResultStore


def test_a_new_key_file_is_private_and_no_key_is_printed(call, folder: Path) -> None:
    made = call("keys", "new", "keys")
    assert made.exit_code == 0, made.output
    assert stat.S_IMODE((folder / "keys").stat().st_mode) == 0o600
    assert call("keys", "new", "keys").exit_code == 2
    turned = call("keys", "rotate", "keys")
    listed = call("keys", "ls", "keys")
    assert [line.split()[1] for line in listed.stdout.splitlines()[1:]] == ["signs", "accepted"]
    for line in (folder / "keys").read_text().splitlines()[1:]:
        id, key = line.split()
        assert id in listed.stdout
        assert key not in made.output + turned.output + listed.output


def test_ls_reads_the_file_that_the_setting_names(call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not signed" in call("keys", "ls").stdout
    call("keys", "new", "keys")
    monkeypatch.setenv("PENSTOCK_SIGNING_KEYS", "keys")
    said = json.loads(call("keys", "ls", "--json").stdout)
    assert said["source"] == str(folder / "keys")
    assert said["accepted"] == [said["signs"]]


def test_doctor_reports_how_results_are_signed(call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = folder / "store"
    store.mkdir()
    store.chmod(0o777)

    def checks() -> dict[str, dict[str, str]]:
        found = json.loads(call("doctor", "--store", "store", "--locks", "memory", "--json").stdout)["checks"]
        return {check["name"]: check for check in found}

    assert "sign results" in checks()["store access"]["hint"]
    call("keys", "new", "keys")
    monkeypatch.setenv("PENSTOCK_SIGNING_KEYS", "keys")
    assert checks()["store access"]["state"] == "ok"
    assert "required for pickles" in checks()["signatures"]["said"]
    monkeypatch.setenv("PENSTOCK_REQUIRE_SIGNATURES", "true")
    call("keys", "rotate", "keys")
    assert "1 more accepted; unsigned results are refused" in checks()["signatures"]["said"]
    (folder / "keys").chmod(0o644)
    assert checks()["store"]["state"] == "fail"
    assert "chmod 600" in checks()["store"]["hint"]


def test_show_reports_whether_a_signature_is_valid_and_verify_what_is_wrong(
    call, folder: Path, flows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("keys", "new", "keys")
    monkeypatch.setenv("PENSTOCK_SIGNING_KEYS", "keys")
    monkeypatch.setenv("PENSTOCK_STORE", "store")
    assert call("run", "pipelines.py:shaky", "--quiet").exit_code == 0
    store = LocalStore(folder / "store")
    changed, *_ = current_records(ResultStore(store))
    assert ": valid" in call("cache", "show", changed.key).stdout
    assert call("cache", "verify").exit_code == 0
    store.put(changed.slot_name, encode(msgspec.structs.replace(changed, digest="other")))
    assert ": wrong" in call("cache", "show", changed.key).stdout
    verified = call("cache", "verify")
    assert (verified.exit_code, changed.slot_name in verified.stdout) == (1, True)
    again = call("run", "pipelines.py:shaky")
    assert again.exit_code != 0
    assert "result.signature-refused" in again.output
    copied = call("cache", "copy", "copy")
    assert (copied.exit_code, "skipped 1 that have no valid signature" in copied.output) == (1, True)
    assert call("run", "pipelines.py:shaky", "--refresh", "--quiet").exit_code == 0
    assert call("cache", "verify").exit_code == 0
