"""What `result_storage=` accepts, and how runners are made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from penstock import INPUTS, flow, task
from penstock.errors import ConfigurationError
from penstock.runners import ProcessRunner, ThreadRunner
from penstock.storage import LocalStore, MemoryStore
from penstock.storage.results.store import ResultStore

RUNNERS = ["threads", pytest.param("processes", marks=pytest.mark.slow)]


@dataclass
class LocalFileSystem:
    """A stand-in for Prefect's block of that name."""

    basepath: str


def storages(folder: Path) -> dict[str, Any]:
    return {
        "path": folder / "path",
        "text": str(folder / "text"),
        "store": LocalStore(str(folder / "store")),
        "results": ResultStore(LocalStore(str(folder / "results"))),
        "block": LocalFileSystem(str(folder / "block")),
    }


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("kind", ["path", "text", "store", "results", "block"])
def test_the_results_of_a_task_are_stored_in_its_storage(kind: str, runner: str, tmp_path: Path) -> None:
    storage = storages(tmp_path)[kind]

    @task(cache_policy=INPUTS, result_storage=storage)
    def kept(x: int) -> int:
        return x + 1

    @task(cache_policy=INPUTS, result_storage=storage)
    def further(x: int) -> int:
        return x * 2

    @flow(runner=runner)
    def both(x: int) -> int:
        return further(kept(x))

    assert both(1) == 4
    assert len(list((tmp_path / kind).rglob("*.record.json"))) == 2
    assert both.plan(1).counts["hit"] == 1


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("kind", ["path", "text", "store", "results", "block"])
def test_the_results_of_a_flow_are_stored_in_its_storage(kind: str, runner: str, tmp_path: Path) -> None:
    @task(cache_policy=INPUTS)
    def kept(x: int) -> int:
        return x + 1

    @flow(runner=runner, result_storage=storages(tmp_path)[kind])
    def one(x: int) -> int:
        return kept(x)

    run = one.run(1)
    assert run.result() == 2
    assert len(list((tmp_path / kind).rglob("*.record.json"))) == 1
    assert one.resume(run.id).counts["hit"] == 1


def test_stores_in_memory_are_distinct() -> None:
    ran: list[int] = []

    @task(cache_policy=INPUTS, key_name="kept")
    def kept(x: int) -> int:
        ran.append(x)
        return x

    first, second = (kept.with_options(result_storage=MemoryStore()) for _ in range(2))
    for _ in range(2):
        assert [flow(lambda: first(1))(), flow(lambda: second(1))()] == [1, 1]
        assert ran == [1, 1]
    assert flow(result_storage=MemoryStore())(lambda: kept(2))() == 2


@pytest.mark.parametrize("slug", ["s3-bucket/dev", "local-file-system/results", "gcs-bucket/a-b"])
@pytest.mark.parametrize("make", [task, flow])
def test_the_name_of_a_block_is_refused(make: Any, slug: str) -> None:
    with pytest.raises(ConfigurationError, match="s3://bucket/folder"):
        make(result_storage=slug)


@pytest.mark.parametrize("what", [5, object(), [1]])
@pytest.mark.parametrize("make", [task, flow])
def test_an_invalid_storage_is_refused(make: Any, what: Any) -> None:
    with pytest.raises(ConfigurationError, match="result_storage"):
        make(result_storage=what)


@pytest.mark.parametrize("make", [ThreadRunner, ProcessRunner])
def test_a_runner_accepts_the_usual_options(make: Any) -> None:
    assert make(max_workers=3) == make(3) == make(workers=3)
    assert make(resources={"memory": "8GiB", "gpu": 2}).resources == {"memory": 8 * 2**30, "gpu": 2}
    with make(2) as runner:
        assert runner == make(2)
    with pytest.raises(ConfigurationError):
        make(max_workers=0)
    with pytest.raises(ConfigurationError):
        make(resources={"memory": "much"})


def test_a_runner_has_the_given_resources() -> None:
    @task(resources={"memory": "2GiB", "gpu": 1})
    def large() -> str:
        return "fits"

    assert ThreadRunner(1, resources={"memory": "4GiB", "gpu": 1})(flow(lambda: large()))() == "fits"
    with pytest.raises(Exception, match="memory"):
        ThreadRunner(1, resources={"memory": "1GiB", "gpu": 1})(flow(lambda: large()))()
