"""A power cut after any step of publishing into a folder: what is found afterwards is whole, and nothing reported as
published is missing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import PenstockError
from penstock.storage import LocalStore
from penstock.storage.records.records import RecipeEntry
from penstock.storage.results import maintenance
from penstock.storage.results.generations import Found
from penstock.storage.results.store import Published, ResultStore
from tests.storage.disks import Disk, Recorder, Step, write_out

pytestmark = pytest.mark.slow

LONG = "x" * 9_000
"""Stored in its own file."""
NOTHING = "nothing"


def publish(results: ResultStore, value: Any, attempt: str) -> None:
    found = results.look_up("t", "k")
    done = results.publish("t", "k", value, after=found, attempt=attempt, digest="d")
    assert isinstance(done, Published)


def publish_in_turn(results: ResultStore, note: Callable[..., None]) -> None:
    """Publish a small result, then a large one, invalidate it, and publish another large one; report each."""
    deeds: list[tuple[str, Callable[[], object]]] = [
        ("first", lambda: publish(results, "first", "a")),
        ("first", lambda: results.put_recipe(RecipeEntry(recipe="r", key="k", task="t", digest="d"))),
        (f"second {LONG}", lambda: publish(results, f"second {LONG}", "b")),
        (NOTHING, lambda: results.invalidate("t", "k")),
        (f"third {LONG}", lambda: publish(results, f"third {LONG}", "c")),
    ]
    for value, deed in deeds:
        note("begins", value)
        deed()
        note("returned", value)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[Step]:
    """Return the steps of a writer in order, with a mark where a call starts and where it has returned."""
    root = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(root, patch)
        publish_in_turn(ResultStore(LocalStore(root)), recorder.note)
    return recorder.steps


def replay(steps: list[Step], into: Path) -> int:
    """Cut the power after each step in turn, and check each state that this can leave. Return the number of states."""
    disk, allowed = Disk(), {NOTHING}
    checked: set[str] = set()
    for step in steps:
        disk.do(step)
        if step[0] == "begins":
            # The old result, the new one, or nothing in between, because the old one is closed first.
            allowed |= {step[1]} if step[1] in allowed else {step[1], NOTHING}
        elif step[0] == "returned":
            allowed = {step[1]}
        for content in disk.left_behind():
            state = f"{sorted(allowed)} {content}"
            if state not in checked:
                checked.add(state)
                folder = into / str(len(checked))
                write_out(content, folder)
                check_state(folder, allowed)
                shutil.rmtree(folder)
    return len(checked)


def check_state(folder: Path, allowed: set[str]) -> None:
    results = ResultStore(LocalStore(folder, durable=False))
    value = seen(results)
    assert value in allowed, (value[:10], {each[:10] for each in allowed})
    assert results.get_recipes(["r"]) is not None
    assert maintenance.verify(results).problems == []
    publish(results, "afterwards", "z")
    assert seen(results) == "afterwards"


def seen(results: ResultStore) -> str:
    """Return what a reader finds. Raise for anything that a reader must never see."""
    found = results.look_up("t", "k")
    if isinstance(found, Found):
        value = results.load(found.record)
        assert isinstance(value, str)
        return value
    assert found.reason in ("never", "redirected"), found
    return NOTHING


def test_after_a_power_cut_at_any_step_a_result_is_absent_or_whole(steps: list[Step], tmp_path: Path) -> None:
    kinds = {step[0] for step in steps} - {"begins", "returned"}
    assert kinds == {"create", "write", "sync", "sync folder", "link", "rename", "unlink", "mkdir"}
    assert replay(steps, tmp_path) > 50


# -- testing the test ----


@pytest.mark.parametrize("forgotten", ["sync", "sync folder"])
def test_a_writer_that_forgets_to_sync_is_caught(steps: list[Step], tmp_path: Path, forgotten: str) -> None:
    with pytest.raises((AssertionError, PenstockError)):
        replay([step for step in steps if step[0] != forgotten], tmp_path)


def test_a_payload_named_after_its_record_is_caught(steps: list[Step], tmp_path: Path) -> None:
    def linked(name: str) -> int:
        return next(i for i, step in enumerate(steps) if step[0] == "link" and step[2].endswith(name))

    payload, record = linked("000001.b.json"), linked("000001.record.json")
    assert payload < record
    late = [*steps[:payload], *steps[payload + 1 : record + 1], steps[payload], *steps[record + 1 :]]
    with pytest.raises((AssertionError, PenstockError)):
        replay([step for step in late if step[0] != "unlink"], tmp_path)
