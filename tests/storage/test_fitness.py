"""A result that cannot be used here is a miss that says why: another Python or package, or a missing file."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import msgspec
import pytest

from penstock import INPUTS, flow, task
from penstock.errors import SerializationError
from penstock.storage.formats import pickles
from penstock.storage.records.encoding import encode
from penstock.storage.results.generations import Absent, Found
from penstock.storage.results.store import ResultStore
from penstock.storage.stores.memory import MemoryStore
from tests.opaque import Opaque
from tests.roundtrip import classes


@pytest.fixture
def results() -> ResultStore:
    return ResultStore(MemoryStore())


def stored(results: ResultStore, value: Any, **details: str) -> Found | Absent:
    """Return what a lookup finds for a value whose record has these extra details."""
    record = results.publish("t", "k", value, after=Absent(0, "never"), attempt="a", digest="d").record  # type: ignore[union-attr]
    about = msgspec.structs.replace(record.about, details=record.about.details | details)
    results.store.put(record.slot_name, encode(msgspec.structs.replace(record, about=about)))
    return results.look_up("t", "k")


def test_the_record_of_a_pickle_names_its_python_and_packages(results: ResultStore) -> None:
    details = stored(results, Opaque({msgspec.Struct})).record.about.details  # type: ignore[union-attr]
    assert details == {"python": pickles.PYTHON, "packages": f"msgspec {msgspec.__version__}"}
    results = ResultStore(MemoryStore())
    details = stored(results, Opaque({lambda: 1})).record.about.details  # type: ignore[union-attr]
    assert details["code"] == "by value"


def test_only_pickles_with_code_by_value_are_a_miss_in_another_python(results: ResultStore) -> None:
    found = stored(results, Opaque({lambda: 1}), python="3.9")
    assert isinstance(found, Absent)
    assert found.because == f"it contains code of Python 3.9, and this is Python {pickles.PYTHON}"
    published = results.publish("t", "k", Opaque({1}), after=found, attempt="b", digest="d")
    assert published.record.generation == 1  # type: ignore[union-attr]
    assert isinstance(stored(ResultStore(MemoryStore()), Opaque({1}), python="3.9"), Found)


def test_a_pickle_of_an_unstable_package_is_a_miss_in_another_version(results: ResultStore) -> None:
    found = stored(results, Opaque({1}), packages="polars 0.1")
    assert isinstance(found, Absent)
    assert found.because.startswith("it is a pickle of polars 0.1, and ")


def test_the_error_for_a_failed_unpickling_names_the_versions_that_differ(results: ResultStore) -> None:
    found = stored(results, classes.Plain(1), python="3.9", packages="msgspec 0.1")
    assert isinstance(found, Found)
    broken = msgspec.structs.replace(found.record)
    before, classes.Plain = classes.Plain, None  # type: ignore[misc]
    del classes.Plain
    try:
        with pytest.raises(SerializationError) as caught:
            results.load(broken)
    finally:
        classes.Plain = before  # type: ignore[misc]
    assert f"msgspec 0.1 (here {msgspec.__version__}), Python 3.9 (here {pickles.PYTHON})" in caught.value.hint


@pytest.mark.parametrize(
    "hold",
    [
        lambda path: path,
        lambda path: {"a": [path]},
        lambda path: classes.Point(path),
        lambda path: classes.Plain(path),
    ],
)
def test_a_result_that_holds_a_path_is_a_miss_once_the_file_is_gone_or_changed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, hold: Any
) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    file = tmp_path / "made"
    ran: list[int] = []

    @task(cache_policy=INPUTS, key_name="make")
    def make() -> Any:
        ran.append(1)
        file.write_text("content")
        return hold(file)

    @flow
    def run() -> Any:
        return make()

    run()
    run()
    assert len(ran) == 1
    os.utime(file, (1, 1))  # touched, with the same content
    run()
    assert len(ran) == 1
    file.unlink()
    assert "no longer exists" in str(run.plan())
    run()
    assert (len(ran), file.read_text()) == (2, "content")
    file.write_text("changed")
    assert "has changed" in str(run.plan())
    run()
    assert (len(ran), file.read_text()) == (3, "content")


def test_a_folder_must_exist_and_a_large_file_must_be_untouched(tmp_path: pathlib.Path, results: ResultStore) -> None:
    folder, large = tmp_path / "folder", tmp_path / "large"
    folder.mkdir()
    large.write_bytes(b"x" * (1 << 21))
    assert isinstance(stored(results, (folder, large)), Found)
    folder.rmdir()
    found = results.look_up("t", "k")
    assert isinstance(found, Absent)
    assert found.because == f"{folder} no longer exists"
    folder.mkdir()
    os.utime(large, (1, 1))
    found = results.look_up("t", "k")
    assert isinstance(found, Absent)
    assert found.because == f"{large} has changed"


def test_a_path_to_nothing_and_a_text_are_not_checked(tmp_path: pathlib.Path, results: ResultStore) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    assert isinstance(stored(results, (tmp_path / "not there", str(file))), Found)
    file.unlink()
    assert isinstance(results.look_up("t", "k"), Found)


def test_a_container_in_parts_is_checked_for_its_pickles_and_paths(tmp_path: pathlib.Path) -> None:
    np = pytest.importorskip("numpy")
    file = tmp_path / "file"
    file.write_text("x")
    results = ResultStore(MemoryStore())
    found = stored(results, {"a": np.arange(10_000), "p": file, "o": Opaque({lambda: 1})})
    assert isinstance(found, Found)
    assert found.record.about.details["code"] == "by value"
    file.unlink()
    assert isinstance(results.look_up("t", "k"), Absent)


@pytest.mark.parametrize("files", ["", "[]", "{", '{"/":1}', '{"\\u0000":["file",1,1,""]}'])
def test_a_record_with_invalid_file_checks_is_a_miss(results: ResultStore, files: str) -> None:
    assert isinstance(stored(results, (1,), files=files), Absent)
