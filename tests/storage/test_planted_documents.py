"""Whatever somebody makes of any value in any document of a store: a clear refusal or a miss, and nothing else.

Never an exception that is not Penstock's, a hang, a path out of the store, or (where results are signed) another value.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.errors import SignatureRefused
from penstock.storage.signing_keys import write_new_file
from tests.storage.planted import ODD, VALUES, build, changed, documents, is_right, places, read_everything

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
EXAMPLES = settings(
    max_examples=80, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


class Scene:
    """The store as it was built, for copies of it."""

    def __init__(self, folder: Path, *, signed: bool) -> None:
        self.folder = folder / "whole"
        self.folder.mkdir(mode=0o700)
        self.outside = folder / "outside"
        self.outside.mkdir()
        (self.outside / "secret").write_text("secret")
        self.keys = str(folder / "keys") if signed else None
        if self.keys is not None:
            write_new_file(self.keys)
        build(self.folder, self.keys)
        self.documents = documents(self.folder)
        self.documents = {n: d for n, d in self.documents.items() if "/locks/" not in n}
        self.every = [(name, at) for name, data in self.documents.items() for at in places(json.loads(data))]

    def read(self, planted: dict[str, bytes]) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            copied = Path(folder) / "copied"
            shutil.copytree(self.folder, copied)
            for name, data in planted.items():
                (copied / name).write_bytes(data)
            seen = read_everything(copied, self.keys)
        assert [path.name for path in self.outside.iterdir()] == ["secret"]
        assert (self.outside / "secret").read_text() == "secret"
        return seen


@pytest.fixture(scope="module", params=[True, False], ids=["signed", "unsigned"])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("planted"), signed=request.param)


def test_there_is_one_of_everything_and_it_is_read(scene: Scene) -> None:
    kinds = {name.split("/")[1] for name in scene.documents}
    assert {"results", "recipes", "runs", "limits", "penstock.json"} <= kinds
    seen = scene.read({})
    assert {name for name in VALUES if not is_right(name, seen[f"value {name}"])} == set()
    assert not any(isinstance(each, Exception) for each in seen.values()), seen


def test_the_check_of_a_changed_record_fits_again(scene: Scene) -> None:
    """Else nothing but the check would be tried below."""
    name = "store/results/t/json/000000.record.json"
    seen = scene.read({name: changed(scene.documents[name], ("digest",), "other")})
    wrong = seen["value json"]
    assert wrong == VALUES["json"] if scene.keys is None else isinstance(wrong, SignatureRefused)


def check(scene: Scene, seen: dict[str, Any]) -> None:
    if scene.keys is not None:
        assert [name for name in VALUES if not is_right(name, seen[f"value {name}"])] == []


@EXAMPLES
@given(data=st.data())
def test_any_value_of_any_document_may_be_replaced(scene: Scene, data: st.DataObject) -> None:
    name, at = data.draw(st.sampled_from(scene.every), label="where")
    anything = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=3)
    to = data.draw(st.sampled_from(ODD) | anything, label="to")
    check(scene, scene.read({name: changed(scene.documents[name], at, to)}))


@EXAMPLES
@given(data=st.data())
def test_any_value_may_be_that_of_another_document(scene: Scene, data: st.DataObject) -> None:
    """Another key's, another run's, another version's."""
    name, at = data.draw(st.sampled_from(scene.every), label="where")
    other, there = data.draw(st.sampled_from(scene.every), label="from")
    value: Any = json.loads(scene.documents[other])
    for step in there:
        value = value[step]
    check(scene, scene.read({name: changed(scene.documents[name], at, value)}))


@EXAMPLES
@given(data=st.data())
def test_any_document_may_be_another_one_or_no_document(scene: Scene, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(scene.documents)), label="where")
    other = st.sampled_from(sorted(scene.documents.values()))
    planted = data.draw(other | st.binary(max_size=300) | other.map(lambda whole: whole[: len(whole) // 2]))
    check(scene, scene.read({name: planted}))
