"""Any value planted in any document of a store causes a clear refusal or a miss, and nothing else.

It never causes a foreign exception, a hang, a path out of the store, or (if results are signed) another value.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.errors import SignatureRefused
from penstock.storage.records.signing_keys import write_new_file
from penstock.storage.stores.indexing import LookupIndex
from tests.amounts import amount
from tests.storage.planted import (
    EPOCHS,
    ODD,
    VALUES,
    PlantedIndex,
    build,
    changed,
    changed_in,
    documents,
    is_right,
    places_in,
    read_everything,
    value_in,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.untraced]
EXAMPLES = settings(
    max_examples=amount(here=30, in_ci=80),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class Scene:
    """The store as it was created, to be copied."""

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
        self.every = [(name, at) for name, data in self.documents.items() for at in places_in(name, data)]
        self.locks = [(name, at) for name, at in self.every if "locks/" in name or name.startswith(EPOCHS)]

    def read(self, planted: dict[str, bytes], index: LookupIndex | None = None) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            copied = Path(folder) / "copied"
            shutil.copytree(self.folder, copied)
            for name, data in planted.items():
                (copied / name).write_bytes(data)
                # Not now: what was written within the last minute may be half of a write under way.
                os.utime(copied / name, (time.time() - 120.0,) * 2)
            seen = read_everything(copied, self.keys, index)
        assert [path.name for path in self.outside.iterdir()] == ["secret"]
        assert (self.outside / "secret").read_text() == "secret"
        return seen


@pytest.fixture(scope="module", params=[True, False], ids=["signed", "unsigned"])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("planted"), signed=request.param)


def test_the_store_has_one_of_everything_and_it_is_read(scene: Scene) -> None:
    kinds = {name.split("/")[1] for name in scene.documents}
    assert {"results", "recipes", "runs", "limits", "penstock.json", "locks", "sessions"} <= kinds
    assert len({name for name, at in scene.locks}) == 4  # claims; a session, a held lock and a free one
    seen = scene.read({})
    assert {name for name in VALUES if not is_right(name, seen[f"value {name}"])} == set()
    assert not any(isinstance(each, Exception) for each in seen.values()), seen


def test_the_checksum_of_a_changed_record_is_adapted(scene: Scene) -> None:
    """Otherwise the tests below would only test the checksum."""
    name = "store/results/t/json/000000.record.json"
    seen = scene.read({name: changed(scene.documents[name], ("digest",), "other")})
    wrong = seen["value json"]
    assert wrong == VALUES["json"] if scene.keys is None else isinstance(wrong, SignatureRefused)


def check(scene: Scene, seen: dict[str, Any]) -> None:
    if scene.keys is not None:
        assert [name for name in VALUES if not is_right(name, seen[f"value {name}"])] == []


@EXAMPLES
@given(data=st.data())
def test_any_value_of_any_document_can_be_replaced(scene: Scene, data: st.DataObject) -> None:
    name, at = data.draw(st.sampled_from(scene.every), label="where")
    anything = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=3)
    to = data.draw(st.sampled_from(ODD) | anything, label="to")
    check(scene, scene.read({name: changed_in(name, scene.documents[name], at, to)}))


@EXAMPLES
@given(data=st.data())
def test_any_value_of_any_lock_can_be_replaced(scene: Scene, data: st.DataObject) -> None:
    name, at = data.draw(st.sampled_from(scene.locks), label="where")
    to = data.draw(st.sampled_from(ODD), label="to")
    check(scene, scene.read({name: changed_in(name, scene.documents[name], at, to)}))


@EXAMPLES
@given(data=st.data())
def test_any_value_can_come_from_another_document(scene: Scene, data: st.DataObject) -> None:
    """From another key, run or version."""
    name, at = data.draw(st.sampled_from(scene.every), label="where")
    other, there = data.draw(st.sampled_from(scene.every), label="from")
    value = value_in(other, scene.documents[other], there)
    check(scene, scene.read({name: changed_in(name, scene.documents[name], at, value)}))


@EXAMPLES
@given(data=st.data())
def test_a_lookup_index_can_hold_anything(scene: Scene, data: st.DataObject) -> None:
    """An attacker writes to the Redis of the index: any value of a record there, or another record in its place."""
    names = [name for name in scene.documents if name.startswith("store/recipes/") or name.endswith(".record.json")]
    name, at = data.draw(st.sampled_from([each for each in scene.every if each[0] in names]), label="where")
    other = st.sampled_from([scene.documents[each] for each in names])
    value = st.sampled_from(ODD).map(lambda to: changed_in(name, scene.documents[name], at, to))
    planted = data.draw(value | other | other.map(lambda whole: whole[: len(whole) // 2]) | st.binary(max_size=300))
    index = PlantedIndex({name.removeprefix("store/"): planted})
    check(scene, scene.read({}, index))
    assert index.asked


@EXAMPLES
@given(data=st.data())
def test_any_document_can_be_replaced_by_another_or_by_garbage(scene: Scene, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(scene.documents)), label="where")
    other = st.sampled_from(sorted(scene.documents.values()))
    planted = data.draw(other | st.binary(max_size=300) | other.map(lambda whole: whole[: len(whole) // 2]))
    check(scene, scene.read({name: planted}))
