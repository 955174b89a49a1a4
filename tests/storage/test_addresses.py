"""Addresses and the stores they open."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from penstock.errors import ConfigurationError
from penstock.settings import load_settings
from penstock.storage import LocalStore, MemoryStore, open_store
from penstock.storage.stores import objects


@pytest.mark.parametrize("address", [str, Path, lambda path: path.as_uri()])
def test_a_folder_can_be_opened_by_path_and_by_file_url(tmp_path: Path, address) -> None:
    folder = tmp_path / "a folder with ü"
    LocalStore(folder).put("a", b"1")
    assert open_store(address(folder)).get("a") == b"1"


def test_a_relative_path_is_fixed_when_the_store_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("store")
    monkeypatch.chdir("/")
    store.put("a", b"1")
    assert (tmp_path / "store" / "a").exists()


def test_a_named_memory_store_is_one_store() -> None:
    open_store("memory://one").put("a", b"1")
    assert open_store("memory://one").get("a") == b"1"
    assert open_store("memory://two").get("a") is None
    assert MemoryStore().get("a") is None


def test_an_unknown_scheme_is_refused_without_showing_its_password() -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store("ftp://user:hunter2@host/path")
    assert "ftp://" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "file://" in caught.value.because


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("s3:/bucket/x", "s3://bucket/x"),
        ("s3:bucket", "s3://bucket"),
        ("gs//bucket/x", "gs://bucket/x"),
        ("file:/data/store", "file://data/store"),
        ("memory:mine", "memory://mine"),
        ("S3:bucket", "S3://bucket"),
        ("minio:/bucket", "minio://bucket"),
    ],
)
def test_a_misspelt_url_is_no_folder(address: str, meant: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store(address)
    assert f"did you mean {meant}?" in caught.value.hint
    with pytest.raises(ConfigurationError) as caught:
        load_settings(overrides={"store": address})
    assert f"did you mean {meant}?" in str(caught.value)


@pytest.mark.parametrize("name", ["./s3:/bucket", "a:b", "C:", "s3", "10:30/x", "results/s3:/x"])
def test_a_folder_may_have_a_colon_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    open_store(name).put("a", b"1")
    assert load_settings(overrides={"store": name}).store == str(tmp_path / name)


@pytest.mark.parametrize("address", ["file://host/path", "file://path"])
def test_a_file_url_that_names_a_host_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="absolute"):
        open_store(address)


@pytest.mark.parametrize(("scheme", "extra"), [("s3", "s3"), ("gs", "gcs"), ("az", "azure")])
def test_the_error_for_a_bucket_without_its_packages_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, scheme: str, extra: str
) -> None:
    for package in ("fsspec", "fsspec.asyn", "fsspec.config", "s3fs", "gcsfs", "adlfs"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(objects, "_filesystems", {})
    store = open_store(f"{scheme}://bucket/folder")
    with pytest.raises(ConfigurationError, match="not installed") as caught:
        store.get("name")
    assert f"penstock[{extra}]" in caught.value.hint


@pytest.mark.parametrize(
    "address",
    [
        "/data/store?trsted=true",
        "file:///data/store?trsted=true",
        "/data/store?trusted=maybe",
        "memory://one?trusted=true",
        "s3://bucket/x?regoin=eu",
        "s3://bucket/x?trusted=maybe",
    ],
)
def test_an_option_that_an_address_does_not_have_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_store(address)
    if "regoin" in address:
        assert refused.value.hint == "did you mean region?"
    if address.startswith("/") and "trsted" in address:
        assert refused.value.hint == "did you mean trusted?"


def test_a_question_mark_in_a_folder_name_starts_no_options(tmp_path: Path) -> None:
    for name in ("what?", "a?b=c/store", "what?trusted"):
        store = open_store(str(tmp_path / name))
        assert store.local_path("x") == str(tmp_path / name / "x")
