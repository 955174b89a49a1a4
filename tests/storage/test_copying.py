"""Copying results from one store into another."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from penstock import INPUTS, flow, task
from penstock.storage import MemoryStore, open_store
from penstock.storage.results.code_notes import get_code_note, put_code_note
from penstock.storage.results.copying import copy
from penstock.storage.results.generations import Absent, Found
from penstock.storage.results.maintenance import verify
from penstock.storage.results.store import Published, ResultStore

TABLE = pa.table({"a": list(range(1000))})


@pytest.fixture
def source() -> ResultStore:
    return ResultStore(MemoryStore())


@pytest.fixture
def target(tmp_path: Path) -> ResultStore:
    return ResultStore(open_store(tmp_path / "target"))


def publish(results: ResultStore, value: object, key: str, *, task: str = "task", expires: float | None = None) -> None:
    found = results.look_up(task, key)
    done = results.publish(
        task, key, value, after=found, attempt=f"attempt-{key}-{id(value)}", digest="d", expires=expires
    )
    assert isinstance(done, Published)


def value_of(results: ResultStore, key: str) -> object:
    found = results.look_up("task", key)
    assert isinstance(found, Found)
    return results.load(found.record)


def test_tables_and_small_values_are_hits_in_the_other_store(source: ResultStore, target: ResultStore) -> None:
    publish(source, 1, "small")
    publish(source, TABLE, "large")
    done = copy(source, target)
    assert (done.results, done.kept, done.damaged) == (2, 0, 0)
    assert value_of(target, "small") == 1
    assert value_of(target, "large").equals(TABLE)  # type: ignore[attr-defined]
    assert verify(target).problems == []
    assert verify(target).orphans == 0


def test_notes_of_code_are_copied_with_its_results(source: ResultStore, target: ResultStore) -> None:
    copied, other = "a" * 40, "b" * 40
    for digest in (copied, other):
        put_code_note(source.store, digest, b"{}")
    source.publish(
        "task", "k", 1, after=Absent(0, "never"), attempt="a", digest="d", key_parts={"task_code": copied, "x": [1]}
    )
    copy(source, target)
    assert get_code_note(target.store, copied) == b"{}"
    assert get_code_note(target.store, other) is None


def test_existing_results_are_kept(source: ResultStore, target: ResultStore) -> None:
    publish(source, 1, "key")
    publish(target, 2, "key")
    assert copy(source, target).kept == 1
    assert value_of(target, "key") == 2


def test_the_latest_generation_is_copied_after_those_closed_there(source: ResultStore, target: ResultStore) -> None:
    publish(source, 1, "key")
    publish(source, 2, "key")
    publish(target, 3, "key")
    target.invalidate("task", "key")
    assert copy(source, target).results == 1
    found = target.look_up("task", "key")
    assert isinstance(found, Found)
    assert (found.generation, target.load(found.record)) == (1, 2)


def test_expired_results_are_not_copied(source: ResultStore, target: ResultStore) -> None:
    publish(source, 1, "key", expires=1.0)
    assert copy(source, target).results == 0
    assert isinstance(target.look_up("task", "key"), Absent)


def test_a_damaged_result_is_not_copied(source: ResultStore, target: ResultStore) -> None:
    publish(source, TABLE, "key")
    store = source.store
    assert isinstance(store, MemoryStore)
    (name,) = [file.name for file in store.list("") if file.name.endswith(".parquet")]
    data, modified = store._files[name]
    store._files[name] = (data[:100] + b"?" + data[101:], modified)
    assert copy(source, target).damaged == 1
    assert [file.name for file in target.store.list("results/")] == []


def test_one_task_can_be_copied_alone(source: ResultStore, target: ResultStore) -> None:
    publish(source, 1, "key", task="one")
    publish(source, 2, "key", task="other")
    assert copy(source, target, task="one").results == 1
    assert isinstance(target.look_up("other", "key"), Absent)


@task(cache_policy=INPUTS)
def first(n: int) -> int:
    return n + 1


@task(cache_policy=INPUTS)
def second(n: int) -> int:
    return n * 2


def test_a_flow_finds_everything_in_the_copy_with_one_lookup(tmp_path: Path) -> None:
    @flow
    def both(n: int) -> int:
        return second(first(n))

    here, there = (both.with_options(result_storage=tmp_path / name) for name in ("here", "there"))
    assert here(1) == 4
    copy(ResultStore(open_store(tmp_path / "here")), ResultStore(open_store(tmp_path / "there")))
    run = there.run(1)
    assert run.result() == 4
    assert (run.counts["executed"], run.counts["hit"], run.counts["pruned"]) == (0, 1, 1)


def test_copying_a_store_without_results_copies_and_reports_nothing(source: ResultStore, target: ResultStore) -> None:
    done = copy(source, target)
    assert (done.results, done.bytes, done.kept, done.damaged, done.refused, done.recipes) == (0,) * 6


def test_the_start_time_of_a_result_is_kept_if_known(source: ResultStore) -> None:
    publish(source, 1, "k")
    found = source.look_up("task", "k")
    assert isinstance(found, Found)
    assert found.record.started == 0.0
