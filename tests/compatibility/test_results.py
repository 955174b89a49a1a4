"""Published snippets about results, with only their imports changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock import INPUTS, flow, task

RAN: list[object] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@task
def answer() -> int:
    RAN.append("answer")
    return 42


@flow(persist_result=True)
def persisting() -> int:
    return answer()


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "results" in path.parts]


def test_a_flow_that_persists_results_does_so_for_its_tasks(tmp_path: Path) -> None:
    kept = persisting.with_options(result_storage=tmp_path / "kept")
    assert kept() == 42
    assert files_below(tmp_path / "kept")


def test_a_task_can_opt_out_of_persistence(tmp_path: Path) -> None:
    unpersisted = answer.with_options(persist_result=False)

    @flow(persist_result=True, result_storage=tmp_path / "store")
    def outer() -> int:
        return unpersisted()

    assert outer() == 42
    assert not files_below(tmp_path / "store")


def test_tasks_can_have_their_own_storage(tmp_path: Path) -> None:
    elsewhere = answer.with_options(cache_policy=INPUTS, result_storage=tmp_path / "elsewhere")

    @flow(result_storage=tmp_path / "store")
    def outer() -> int:
        return elsewhere()

    assert [outer(), outer()] == [42, 42]
    assert files_below(tmp_path / "elsewhere")
    assert not files_below(tmp_path / "store")
    assert RAN == ["answer"]


def test_a_subflow_can_have_its_own_storage(tmp_path: Path) -> None:
    @flow(result_storage=tmp_path / "inner", persist_result=True)
    def inner() -> int:
        return answer()

    @flow(result_storage=tmp_path / "outer")
    def outer() -> int:
        return inner()

    assert outer() == 42
    assert files_below(tmp_path / "inner")
    assert not files_below(tmp_path / "outer")


@pytest.mark.parametrize("serializer", ["pickle", "json", "compressed/pickle", "compressed/json"])
def test_serializers_have_their_published_names(serializer: str) -> None:
    @task(cache_policy=INPUTS, result_serializer=serializer)
    def table(rows: int) -> list[int]:
        RAN.append(rows)
        return list(range(rows))

    assert table(3) == table(3) == [0, 1, 2]
    assert RAN == [3]


def test_fn_is_the_original_function() -> None:
    assert answer.fn() == 42


def test_with_options_changes_a_copy() -> None:
    renamed = answer.with_options(name="another", cache_policy=INPUTS, retries=2, tags=["slow"])
    assert (answer.name, renamed.name) == ("answer", "another")
    assert renamed.fn is answer.fn


def test_options_without_effect_are_accepted() -> None:
    @task(description="adds", version="2", cache_result_in_memory=False, tags={"a"})
    def add(x: int, y: int) -> int:
        return x + y

    @flow(description="sums", version="git-1", tags={"b"})
    def total() -> int:
        return add(1, 2)

    assert total() == 3
