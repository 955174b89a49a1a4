"""Small promises of stored formats: what is refused, and what is said of values that need pickle."""

from __future__ import annotations

import abc
import datetime
import pathlib
import pickle
import sys
import types
from collections.abc import Iterator
from typing import Annotated, Any, Protocol

import msgspec
import pytest

from penstock.errors import DamagedResult, SerializationError, StoreError, StoreVersionError
from penstock.storage.formats import containers, pickles
from penstock.storage.formats.pickled import annotated_pickle, pickled_parts
from penstock.storage.records.encoding import check_format, decode_recipe, decode_recipe_at, decode_slot, encode
from penstock.storage.records.names import recipe_name
from penstock.storage.records.records import (
    FORMAT_VERSION,
    RECORD_VERSION,
    About,
    RecipeEntry,
    ResultRecord,
    StoreFormat,
)
from penstock.storage.results.generations import Absent, Found
from penstock.storage.results.store import ResultStore
from penstock.storage.stores.base import MAX_RECORD_BYTES
from penstock.storage.stores.memory import MemoryStore
from tests.opaque import Opaque

# -- records


def entry(**changes: Any) -> RecipeEntry:
    return RecipeEntry(**({"recipe": "r1", "key": "k", "task": "m:t", "digest": "d"} | changes))


def record(**changes: Any) -> ResultRecord:
    fields: dict[str, Any] = {"v": 1, "key": "k", "task": "m:t", "generation": 0, "attempt": "a", "codec": "json"}
    return ResultRecord(**(fields | {"digest": "d", "inline": msgspec.Raw(b"1")} | changes))


def test_a_recipe_entry_copied_to_another_name_is_not_believed() -> None:
    data = encode(entry())
    assert decode_recipe(data, recipe="r1") == decode_recipe_at(data, recipe_name("r1")) == entry()
    with pytest.raises(DamagedResult, match="another recipe"):
        decode_recipe(data, recipe="r2")
    with pytest.raises(DamagedResult, match="another recipe"):
        decode_recipe_at(data, recipe_name("r2"))


def test_a_record_that_is_too_large_without_its_descriptions_is_refused() -> None:
    with pytest.raises(StoreError, match=f"the limit is {MAX_RECORD_BYTES}"):
        encode(record(inline=msgspec.Raw(b'"' + b"x" * MAX_RECORD_BYTES + b'"')))
    with pytest.raises(StoreError, match=f"the limit is {MAX_RECORD_BYTES}"):
        encode(entry(inputs=["x" * MAX_RECORD_BYTES]))


def test_a_name_that_is_no_text_is_refused_not_altered() -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        encode(entry(task="\ud800"))


def test_a_description_that_is_no_text_is_left_out_of_the_record() -> None:
    data = encode(record(about=About(type="T", columns={"\ud800": "int64"})))
    (read,) = [decode_slot(data, task="m:t", key="k", generation=0)]
    assert isinstance(read, ResultRecord)
    assert read.about == About(type="T")


def test_an_intact_record_or_store_of_a_newer_version_asks_for_an_upgrade() -> None:
    with pytest.raises(StoreVersionError, match="upgrade Penstock") as newer:
        decode_slot(encode(record(v=RECORD_VERSION + 1)), task="m:t", key="k", generation=0)
    assert f"version {RECORD_VERSION + 1}" in str(newer.value)
    with pytest.raises(StoreVersionError, match="upgrade Penstock") as newer:
        check_format(encode(StoreFormat(FORMAT_VERSION + 1)))
    assert f"version {FORMAT_VERSION + 1}" in str(newer.value)
    check_format(encode(StoreFormat(FORMAT_VERSION)))


# -- fitness


def looked_up(value: Any, **details: str) -> Found | Absent:
    results = ResultStore(MemoryStore())
    made = results.publish("t", "k", value, after=Absent(0, "never"), attempt="a", digest="d").record  # type: ignore[union-attr]
    about = msgspec.structs.replace(made.about, details=made.about.details | details)
    results.store.put(made.slot_name, encode(msgspec.structs.replace(made, about=about)))
    return results.look_up("t", "k")


def test_a_result_whose_note_of_files_is_garbage_is_computed_again() -> None:
    for note in ("{", "[1]", "nonsense"):
        found = looked_up(Opaque({1}), files=note)
        assert isinstance(found, Absent), note
        assert "files cannot be read" in found.because


def test_a_plain_result_fits_every_python_and_a_pickle_with_code_only_its_own() -> None:
    assert isinstance(looked_up({"a": 1}), Found)
    assert isinstance(looked_up(Opaque({1}), python="3.9"), Found)
    other = looked_up(Opaque({1}), python="3.9", code="by value")
    assert isinstance(other, Absent)
    assert "Python 3.9" in other.because
    polars = looked_up(Opaque({1}), packages="polars 0.1")
    assert isinstance(polars, Absent)
    assert "polars 0.1" in polars.because


# -- what needs pickle


class Model:
    """An arbitrary object."""


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self) -> float: ...


class HasArea(Protocol):
    def area(self) -> float: ...


class Rows(Iterator[int]):
    def __next__(self) -> int:
        raise StopIteration


class Kind(type):
    """A metaclass."""


def annotated(annotation: Any) -> str:
    def function() -> None: ...

    function.__annotations__ = {"return": annotation}
    return annotated_pickle(function)


def test_the_annotation_that_needs_pickle_is_named_with_its_place() -> None:
    told = f"{__name__}.Model"
    assert annotated(Model) == f"result: {told}"
    assert annotated(Annotated[Model, "fitted"]) == f"result: {told}"
    assert annotated(tuple[int, Annotated[Model, "fitted"]]) == f"result[1]: {told}"


@pytest.mark.parametrize(
    "annotation",
    [tuple[Model, ...], Model | None, Shape, HasArea, Rows, int, datetime.date, type, Kind, Any, "NoSuchName"],
)
def test_a_task_runs_if_its_annotation_allows_a_value_without_pickle(annotation: Any) -> None:
    assert annotated(annotation) == ""


def test_the_same_object_in_two_places_is_named_once_and_many_are_cut() -> None:
    one = Model()
    assert pickled_parts([one, one]) == f"result[0]: {__name__}.Model"
    many = pickled_parts([Model() for _ in range(9)])
    assert many.endswith(f"result[2]: {__name__}.Model, and more")
    assert pickled_parts([1, "a"]) == ""


# -- pickles


def test_a_class_of_the_script_is_pickled_under_the_name_its_module_can_be_imported_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = types.ModuleType("penstock_pickled_home")
    exec("class Outer:\n    class Inner:\n        n = 1\n", home.__dict__)
    monkeypatch.setitem(sys.modules, home.__name__, home)
    monkeypatch.setattr(pickles, "class_name", lambda cls: f"{home.__name__}:{cls.__qualname__}")
    inner = home.Outer.Inner  # type: ignore[attr-defined]
    monkeypatch.setattr(inner, "__module__", "__main__")
    monkeypatch.setattr(home.Outer, "__module__", "__main__")  # type: ignore[attr-defined]
    found = ResultStore(MemoryStore())
    published = found.publish("t", "k", Opaque({inner}), after=Absent(0, "never"), attempt="a", digest="d")
    assert b"__main__" not in b"".join(
        found.store.get(name.name) or b"" for name in found.store.list("") if name.name.endswith(".pickle")
    )
    assert found.load(published.record) == {inner}  # type: ignore[union-attr]


def test_a_name_that_a_living_module_lacks_is_imported() -> None:
    names = pickles._Names({"here": 1}, "json")
    import json

    assert (names.here, names.dumps) == (1, json.dumps)
    with pytest.raises(AttributeError):
        _ = names.absent


def test_a_text_pickle_is_read_line_by_line() -> None:
    value = {"a": [1, "text"]}
    source = pickles._Source(pickle.dumps(value, protocol=0))
    assert pickle.Unpickler(source).load() == value  # type: ignore[arg-type]


# -- containers


def test_a_container_is_never_written_or_read_as_one_file(tmp_path: pathlib.Path) -> None:
    serializer = containers.ContainerSerializer(lambda leaf: None, lambda name, pickle: None, safe=True)  # type: ignore[arg-type, return-value]
    encoded = containers.EncodedContainer(serializer.name, True, [])
    for each in (serializer, encoded):
        with (tmp_path / "file").open("wb") as file, pytest.raises(SerializationError, match="written in parts"):
            each.write([], file)  # type: ignore[attr-defined]
        with pytest.raises(SerializationError, match="written in parts"):
            each.read(memoryview(b""), About(), limit=1)  # type: ignore[attr-defined]
