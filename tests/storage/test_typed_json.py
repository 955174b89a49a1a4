"""Typed JSON restores values exactly, never changes its form, and runs no code that the data names."""

from __future__ import annotations

import json
import math
import pathlib
import sys
import types
from typing import Any

import pytest

from penstock.errors import CodecRefused, SerializationError
from penstock.storage.formats.classes import class_name, find_class, reading
from penstock.storage.formats.typed.json import Unkept, decode, encode, unkept
from penstock.storage.formats.typed.sameness import difference, same
from tests.roundtrip import classes, values_python

GOLDEN = pathlib.Path(__file__).parent / "golden_values"


def _cases() -> list[Any]:
    found = []
    for group, (_, needs) in values_python.NEEDS.items():
        marks = [pytest.mark.needs(needs)] if needs else []
        found.append(pytest.param(group, marks=marks, id=group))
    return found


@pytest.mark.parametrize("group", _cases())
def test_typed_json_keeps_everyday_values_exactly(group: str) -> None:
    for name, value in values_python.NEEDS[group][0]().items():
        if values_python.codec_of(group, name) == "pickle":
            assert unkept(value) is not None, name
        elif name not in ("deep list", "long list"):
            assert difference(value, decode(encode(value))) is None, name


@pytest.mark.parametrize("group", _cases())
def test_stored_documents_stay_readable_and_are_written_identically(group: str) -> None:
    golden: dict[str, Any] = json.loads((GOLDEN / f"{group}.json").read_text())
    values = values_python.NEEDS[group][0]()
    kept = {name for name in values if values_python.codec_of(group, name) == "json/typed"}
    assert golden.keys() == kept
    for name, text in golden.items():
        assert encode(values[name]).decode() == text, name
        assert same(values[name], decode(text.encode())), name


def test_leaves_without_a_form_become_parts_and_a_repeated_leaf_one_part() -> None:
    table, other = classes.Plain(1), classes.Plain(2)
    held: list[Any] = []

    def part(leaf: Any) -> int | None:
        if type(leaf) is not classes.Plain:
            return None
        if not any(each is leaf for each in held):
            held.append(leaf)
        return next(number for number, each in enumerate(held) if each is leaf)

    value = {"train": (table, [other]), "test": classes.Point(table)}
    data = encode(value, part)
    assert json.loads(data)["train"] == {"$tuple": [{"$part": 0}, [{"$part": 1}]]}
    again = decode(data, held)
    assert same(value, again)
    assert decode(data, lambda number: held[number])["test"].x is table
    with pytest.raises(Unkept) as caught:
        encode([table, {"f": print}], part)
    assert (caught.value.leaf, caught.value.where) == (print, "[1]['f']")


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"model": [1, classes.Plain(1)]}, "['model'][1]"),
        (classes.Point(1, {"a": (print,)}), ".y['a'][0]"),
        (classes.Pair(1, print), ".b"),
        (classes.Plain(1), ""),
        ({(1, 2): {print}}, "[(1, 2)].<element>"),
    ],
)
def test_the_error_for_a_value_that_is_not_restored_gives_its_place(value: Any, where: str) -> None:
    found = unkept(value)
    assert found is not None
    assert found.where == where


def test_shared_objects_are_shared_again() -> None:
    cell = {"x": [1]}
    again = decode(encode({"a/b": cell, "c": (cell["x"], classes.Point(cell))}))
    assert again["c"][0] is again["a/b"]["x"]
    assert again["c"][1].x is again["a/b"]


def test_cyclic_and_very_deep_values_cause_no_crash() -> None:
    circle: dict[str, Any] = {}
    circle["self"] = circle
    deep: Any = ()
    for _ in range(100_000):
        deep = [deep]
    for value in (circle, deep):
        assert unkept(value) is not None
    while type(deep) is list:
        deep = deep.pop()


class _Looking:
    """Raises on every attribute access."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("no")


def test_an_object_that_raises_on_inspection_is_only_not_restored() -> None:
    assert unkept([_Looking()]) is not None


# -- what a planted document can do


def _document(**node: Any) -> bytes:
    return json.dumps({f"${key}" if i == 0 else key: item for i, (key, item) in enumerate(node.items())}).encode()


@pytest.mark.parametrize("tag", ["dataclass", "attrs", "struct", "pydantic", "enum", "flag", "namedtuple", "type"])
@pytest.mark.parametrize(
    "name",
    ["subprocess:Popen", "this:d", "os:system", "builtins:eval", "penstock.errors:UsageError", "tests.__main__:X",
     "tests.roundtrip.classes:Plain", "tests.roundtrip.classes:Point.__init__", "tests.roundtrip.classes:c.d"],
)  # fmt: skip
def test_a_document_can_only_name_classes_made_for_data(tag: str, name: str) -> None:
    assert classes.Plain
    known = set(sys.modules)
    with pytest.raises((CodecRefused, SerializationError)):
        decode(_document(**{tag: name}, fields={}, set=[], name="X", value=1))
    assert "this" not in set(sys.modules) - known


def test_a_name_in_a_record_never_imports(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "planted_module.py").write_text("import enum\nclass E(enum.Enum):\n    A = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    data = b'{"$enum":"planted_module:E","name":"A"}'
    with pytest.raises(CodecRefused, match="planted_module") as caught:
        decode(data)
    assert "import planted_module" in caught.value.hint
    assert "planted_module" not in sys.modules
    with reading("planted_module:task", believed=lambda: True):
        assert decode(data).value == 1


def test_modules_imported_anywhere_in_the_tasks_own_module_are_imported_for_its_results(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_models.py").write_text("import enum\nclass E(enum.Enum):\n    A = 1\n")
    (tmp_path / "their_flows.py").write_text("def make():\n    from their_models import E\n    return E.A\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("their_flows")
    assert "their_models" not in sys.modules
    with reading("their_flows:make", believed=lambda: False):
        assert decode(b'{"$enum":"their_models:E","name":"A"}').name == "A"


def test_a_modules_own_getattr_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("asks_back")
    module.__getattr__ = lambda name: pytest.fail(name)  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "asks_back", module)
    with pytest.raises(CodecRefused):
        find_class("asks_back:Anything")


def test_a_class_with_changed_fields_is_reported() -> None:
    with pytest.raises(SerializationError, match="have changed") as caught:
        decode(b'{"$dataclass":"tests.roundtrip.classes:Point","fields":{"x":1,"z":2}}')
    assert "refresh" in caught.value.hint


@pytest.mark.parametrize(
    "data",
    [b'{"$unheard":1}', b'{"$part":0}', b'{"$same":"/9"}', b'{"$tuple":3}', b'{"$decimal":"x"}', b'{"$dict":[[[],1]]}'],
)
def test_an_invalid_document_is_an_error(data: bytes) -> None:
    with pytest.raises(SerializationError):
        decode(data)


def test_a_class_is_named_only_if_its_name_resolves_to_it() -> None:
    class Local:
        pass

    assert class_name(Local) == ""
    assert class_name(classes.Outer.Inner) == "tests.roundtrip.classes:Outer.Inner"


# -- sameness


@pytest.mark.parametrize("group", _cases())
def test_values_are_the_same_only_as_themselves(group: str) -> None:
    make = values_python.NEEDS[group][0]
    ones, others = make(), make()
    for name, one in ones.items():
        if name not in ("set of nan", "dataclass of an object*"):
            assert same(one, others[name]), name
        assert [key for key, other in others.items() if key != name and same(one, other) and not _twin(name, key)] == []


def _twin(name: str, key: str) -> bool:
    return {name, key} in ({"Enum", "Enum by another name"}, {"dict of Enums", "x"})


def test_sameness_sees_what_equality_hides() -> None:
    row = [1]
    for one, other in [
        (1, True), (1, 1.0), (0.0, -0.0), ((1,), [1]), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), (range(0), range(1, 1)),
        ([row, row], [[1], [1]]), ([[1], [1]], [row, row]), (classes.Hidden(1, 2), classes.Hidden(1, 3)),
        (classes.Level.LOW, 1), (math.nan, 1.0), ({1}, frozenset({1})), (bytearray(b"a"), b"a"),
    ]:  # fmt: skip
        assert not same(one, other), (one, other)
    assert difference({"a": [1, (2, 3)]}, {"a": [1, (2, 4)]}) == "['a'][1][1]"
