"""Small promises of comparing a worker's code with the driver's: all that a key counts has a place and parts."""

from __future__ import annotations

import enum
import importlib
import os.path
import sys
import types
from typing import Any

import pytest

from penstock.objects.named import MISSING
from penstock.worker.shipping import code_places
from penstock.worker.shipping.code_places import parts_at, places_of


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module of the project, as a worker imports it."""
    made = types.ModuleType("penstock_placed")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    monkeypatch.setattr(code_places, "is_project_module", lambda name: name == made.__name__)
    return made


def defined(module: types.ModuleType, text: str) -> dict[str, Any]:
    exec(text, module.__dict__)
    return module.__dict__


def names(place: tuple[str, str], value: Any) -> set[str]:
    return {name for name, _ in parts_at(place, value)}


def test_a_module_that_counts_as_a_whole_counts_with_all_it_defines(module: types.ModuleType) -> None:
    defined(
        module, "import os\nfrom os.path import join\nRATE = 2\ndef f(): ...\nclass C:\n    n = 1\n    def m(self): ..."
    )
    found = names((module.__name__, ""), module)
    assert {"RATE", "f", "C", "C.n", "C.m"} <= found
    assert not found & {"os", "join", "__name__", "__builtins__"}  # others' code counts where it is defined


def test_what_a_worker_does_not_have_has_no_parts() -> None:
    assert names(("penstock_placed", "absent"), MISSING) == set()


def test_a_submodule_is_no_constant_of_its_package(module: types.ModuleType) -> None:
    scope = defined(module, "def f(): ...")
    inner = types.ModuleType("penstock_placed.inner")
    other = types.ModuleType("penstock_other")
    listed = [("penstock_placed", "inner", inner), ("penstock_placed", "path", os.path), ("nowhere", "other", other)]
    found = [place for place, _ in places_of([(scope["f"], listed)])]
    assert found == [("penstock_placed", "f")]


def test_the_members_and_the_behaviour_of_an_enum_count(module: types.ModuleType) -> None:
    module.__dict__["enum"] = enum
    text = (
        "class Colour(enum.Enum):\n    RED = 1\n    GREEN = 2\n    def shown(self):\n        return self.name.lower()\n"
    )
    scope = defined(module, text)
    parts = dict(parts_at(("penstock_placed", "Colour"), scope["Colour"]))
    assert parts["<members>"] == [("RED", 1), ("GREEN", 2)]
    assert parts["shown"] is scope["Colour"].shown


@pytest.mark.parametrize("package", ["pydantic", "msgspec", "attrs"])
def test_the_fields_of_a_model_count(module: types.ModuleType, package: str) -> None:
    pytest.importorskip(package)
    module.__dict__["package"] = importlib.import_module(package)
    head = {
        "pydantic": "class Point(package.BaseModel):",
        "msgspec": "class Point(package.Struct):",
        "attrs": "@package.define\nclass Point:",
    }[package]

    def parts(default: int) -> dict[str, Any]:
        scope = defined(module, f"{head}\n    x: int = {default}\n")
        return dict(parts_at(("penstock_placed", "Point"), scope["Point"]))

    one, two = parts(1), parts(2)
    assert "<annotations>" in one
    name = "<defaults>" if package == "msgspec" else "<default of x>"
    assert (one[name], two[name]) == (((1,), (2,)) if package == "msgspec" else (1, 2))
