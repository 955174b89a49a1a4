"""Generations in a folder and in a bucket of a real server: invalidated, refreshed, damaged and collected while readers
and writers are active.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from penstock import INPUTS, flow, task
from penstock.errors import DamagedResult
from penstock.storage import LocalStore, open_store
from penstock.storage.formats.plain import JsonSerializer
from penstock.storage.results import maintenance
from penstock.storage.results.generations import Absent, Found
from penstock.storage.results.store import Published, ResultStore
from penstock.testing.stores.faults import FlakyStore

pytestmark = pytest.mark.untraced

EACH = INPUTS.configure(isolation_level="READ_COMMITTED")
"""Generations matter for calls that no lock keeps apart."""

LONG = "x" * 10_000
"""Stored in its own file."""


@pytest.fixture(
    params=[
        "folder",
        pytest.param("bucket", marks=[pytest.mark.slow, pytest.mark.needs("s3fs", "boto3"), pytest.mark.timeout(300)]),
    ]
)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FlakyStore:
    if request.param == "folder":
        return FlakyStore(LocalStore(tmp_path / "store", durable=False))
    return FlakyStore(open_store(request.getfixturevalue("bucket").url))


@pytest.fixture
def results(store: FlakyStore) -> ResultStore:
    """The results as others see them, without interruptions."""
    return ResultStore(store.inner)


def publish(results: ResultStore, value: Any, attempt: str) -> Published:
    found = results.look_up("t", "k")
    done = results.publish("t", "k", value, after=found, attempt=attempt, digest="d")
    assert isinstance(done, Published)
    return done


def payloads(results: ResultStore) -> list[str]:
    return [file.name for file in results.store.list("results/") if not file.name.endswith(".record.json")]


def close_and_collect(results: ResultStore, part: str) -> None:
    """Invalidate the one result of a task and remove its bytes."""
    (found,) = [each for each in maintenance.ls(results) if part in each.task]
    assert results.invalidate(found.task, found.key)
    maintenance.gc(results, grace_seconds=0)


def test_a_late_writer_of_an_invalidated_generation_is_refused_and_runs_again(
    store: FlakyStore, results: ResultStore
) -> None:
    source, ran = ["old"], []
    began, may_end = threading.Event(), threading.Event()
    first = iter([True])

    @task(cache_policy=EACH, key_name="read", result_storage=store)
    def read(n: int) -> str:
        value = source[0]
        ran.append(value)
        if next(first, False):
            began.set()
            assert may_end.wait(60)
        return value * 4000

    reading = flow(lambda: read(1))
    with ThreadPoolExecutor(2) as pool:
        zombie = pool.submit(reading.run)
        assert began.wait(60)
        assert reading() == "old" * 4000  # another run publishes
        (old,) = maintenance.ls(results)
        results.invalidate(old.task, old.key)
        source[0] = "new"
        seen: list[str] = []

        def watch() -> None:
            while not zombie.done():
                found = results.look_up(old.task, old.key)
                if isinstance(found, Found):
                    seen.append(results.load(found.record)[:3])

        watching = pool.submit(watch)
        may_end.set()
        assert zombie.result(60).result() == "new" * 4000
        watching.result(60)
    assert ran == ["old", "old", "new"]
    assert set(seen) <= {"new"}
    (new,) = maintenance.ls(results)
    assert (new.key, new.generation) == (old.key, 1)


def test_a_result_refreshed_a_hundred_times_is_found_by_two_reads_and_keeps_one_payload(
    store: FlakyStore, results: ResultStore, request: pytest.FixtureRequest
) -> None:
    for i in range(101):
        publish(results, f"{i} {LONG}", f"attempt-{i}")
    assert len(payloads(results)) == 101
    if request.node.callspec.params["store"] == "bucket":
        proxy = request.getfixturevalue("proxy")
        reader = ResultStore(open_store(request.getfixturevalue("bucket").url))  # from here on through the proxy
        reader.look_up("t", "another")
        before = proxy.count("GET")
        assert isinstance(reader.look_up("t", "k"), Found)
        reads = proxy.count("GET") - before
    else:
        reader = ResultStore(store)
        reader.look_up("t", "another")
        before = len(store.calls)
        assert isinstance(reader.look_up("t", "k"), Found)
        reads = sum(len(names.split()) for _, names in store.calls[before:])
    assert reads == 2
    assert maintenance.gc(results).payloads == 100
    assert len(payloads(results)) == 1
    found = results.look_up("t", "k")
    assert isinstance(found, Found)
    assert results.load(found.record) == f"100 {LONG}"


ran: list[str] = []


@task(cache_policy=EACH)
def text(n: int) -> str:
    ran.append("text")
    return LONG * n


@task(cache_policy=EACH)
def length(words: str) -> int:
    ran.append("length")
    return len(words)


def texts(store: FlakyStore) -> Any:
    return flow(lambda: text.with_options(result_storage=store)(1))


def lengths(store: FlakyStore) -> Any:
    return flow(lambda: length.with_options(result_storage=store)(text.with_options(result_storage=store)(1)))


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


@pytest.mark.parametrize(("reader", "value"), [(texts, LONG), (lengths, len(LONG))])
def test_a_reader_whose_payload_disappears_after_the_record_is_read_recomputes_it(
    store: FlakyStore, results: ResultStore, reader: Any, value: Any
) -> None:
    """The flow itself and a task that needs it are both between lookup and read at that moment."""
    texts(store)()
    store.interrupt("open", lambda: close_and_collect(results, "text"))
    run = reader(store).run()
    assert run.result() == value
    assert ran.count("text") == 2
    (again,) = [each for each in maintenance.ls(results) if "text" in each.task]
    assert again.generation == 1
    assert maintenance.verify(results).problems == []


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[:-100],
    "a bit flipped": lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:],
    "replaced by a larger one": lambda data: b'"' + b"y" * 50_000 + b'"',
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_payload_is_never_decoded_and_is_replaced_in_a_new_generation(
    store: FlakyStore, results: ResultStore, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts(store)()
    (name,) = payloads(results)
    with results.store.open(name) as file:
        data = DAMAGE[damage](file.read())
    results.store.delete(name)
    with results.store.create(name) as file:
        file.write(data)
    decoded: list[bytes] = []
    read = JsonSerializer.read

    def noting(self: JsonSerializer, data: memoryview, *rest: Any, **more: Any) -> Any:
        decoded.append(bytes(data))
        return read(self, data, *rest, **more)

    monkeypatch.setattr(JsonSerializer, "read", noting)
    (summary,) = maintenance.ls(results)
    found = results.look_up(summary.task, summary.key)
    assert isinstance(found, Found)
    with pytest.raises(DamagedResult):
        results.load(found.record)
    assert decoded == []
    assert lengths(store)() == len(LONG)
    assert data not in decoded
    assert ran == ["text", "text", "length"]
    (healed,) = [each for each in maintenance.ls(results) if "text" in each.task]
    assert healed.generation == 1
    assert isinstance(results.look_up("never", "looked up"), Absent)
    assert texts(store)() == LONG


@pytest.mark.slow
def test_collecting_without_grace_beside_racing_and_killed_processes_loses_nothing(
    store: FlakyStore, results: ResultStore
) -> None:
    """Eight want the same 50 keys, and three of them are killed, while everything unpublished is removed at once."""
    store.put_if_absent("tried", b"")
    program = str(Path(__file__).with_name("programs_race.py"))
    racers = subprocess.Popen(
        [sys.executable, program, store.url, "8", "results", "3"], stdout=subprocess.PIPE, text=True
    )
    collected, published = 0, set()
    while racers.poll() is None:
        published |= {(each.key, each.generation) for each in maintenance.ls(results)}
        collected += maintenance.gc(results, grace_seconds=0).payloads
        threading.Event().wait(0.02)
    answers, _ = racers.communicate(timeout=60)
    assert racers.returncode == 0
    seen = [json.loads(answer)["values"] for answer in answers.splitlines()]
    assert len(seen) == 5
    assert [each for each in seen if each != seen[0]] == []
    assert len(set(seen[0])) == 50
    # What was seen as published at any moment is still published.
    assert published <= {(each.key, each.generation) for each in maintenance.ls(results)}
    values = []
    for n in range(50):
        found = results.look_up("noise", str(n))
        assert isinstance(found, Found)
        values.append(found.record.digest)
        results.load(found.record)
    assert values == seen[0]
    collected += maintenance.gc(results, grace_seconds=0).payloads
    assert collected >= 3  # at least of those that were killed
    verified = maintenance.verify(results)
    assert (verified.problems, verified.orphans) == ([], 0)
