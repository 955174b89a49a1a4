"""Stores that are full, read-only, damaged or newer raise a clear error and lose nothing."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock import INPUTS, flow, task
from penstock.errors import (
    CodecRefused,
    ConfigurationError,
    SerializationError,
    StoreFull,
    StoreNotWritable,
    StoreUnreachable,
    StoreVersionError,
)
from penstock.storage import MemoryStore
from penstock.testing.stores.faults import FlakyStore
from tests.opaque import Opaque

RAN: list[object] = []
_names = itertools.count()


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


@task(cache_policy=INPUTS)
def early(n: int) -> bytes:
    RAN.append("early")
    return b"x" * n


@task(cache_policy=INPUTS)
def late(data: bytes) -> int:
    RAN.append("late")
    return len(data)


@flow
def pipeline(n: int) -> int:
    return late(early(n))


def payloads(store: Path) -> list[Path]:
    files = (path for path in store.rglob("*") if path.is_file() and "results" in path.parts)
    return [path for path in files if not path.name.endswith(".record.json")]


def records(store: Path, task_name: str) -> list[Path]:
    return [path for path in store.rglob("*.record.json") if task_name in path.parent.parent.name]


# -- not writable, full -----------------------------------------------------------------------------------------------


def test_a_store_below_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: str, sound) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "file" / "store"))
    with pytest.raises(StoreNotWritable) as caught:
        pipeline(10)
    sound(caught.value, StoreNotWritable, "store.not-writable")
    assert (tmp_path / "file").read_text() == "not a folder"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_in_a_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sound) -> None:
    tmp_path.chmod(0o500)
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    with pytest.raises(StoreNotWritable) as caught:
        pipeline(10)
    sound(caught.value, StoreNotWritable, "store.not-writable")


@pytest.fixture
def flaky() -> FlakyStore:
    return FlakyStore(MemoryStore.named(f"errors-{next(_names)}"))


@pytest.mark.parametrize(
    ("method", "where"), [("write", "late"), ("create", "late"), ("put_if_absent", "late")], ids=lambda text: text
)
def test_a_full_store_loses_no_stored_result(flaky: FlakyStore, method: str, where: str, sound) -> None:
    @task(cache_policy=INPUTS, result_storage=flaky, key_name="first")
    def first(n: int) -> bytes:
        RAN.append("first")
        return b"x" * n

    @task(cache_policy=INPUTS, result_storage=flaky, key_name="late")
    def second(data: bytes) -> bytes:
        RAN.append("second")
        return data * 2

    @flow
    def filling() -> int:
        return len(second(first(200_000)).result())

    flaky.fail(method, StoreFull("no space left"), name=where)
    with pytest.raises(StoreFull) as caught:
        filling()
    sound(caught.value, StoreFull, "store.full")
    assert RAN == ["first", "second"]
    assert filling() == 400_000
    assert RAN == ["first", "second", "second"]


def test_writing_to_a_full_store_is_retried_if_the_task_has_retries(flaky: FlakyStore) -> None:
    @task(cache_policy=INPUTS, result_storage=flaky, key_name="late", retries=1)
    def work(n: int) -> bytes:
        RAN.append("work")
        return b"x" * n

    flaky.fail("create", StoreFull("no space left"))
    assert len(work(200_000)) == 200_000
    assert RAN == ["work", "work"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("mounting needs rights that are not there")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs rights that are not there")
def test_a_full_disk_loses_no_stored_result(small_disk: Path, monkeypatch: pytest.MonkeyPatch, sound) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", str(small_disk / "store"))
    assert pipeline(50_000) == 50_000
    with pytest.raises(StoreFull) as caught:
        pipeline(1_000_000)
    sound(caught.value, StoreFull, "store.full")
    RAN.clear()
    assert pipeline(50_000) == 50_000
    assert RAN == []


# -- damaged ----------------------------------------------------------------------------------------------------------


def test_a_damaged_payload_is_recomputed_in_the_same_run(store: Path) -> None:
    pipeline(200_000)
    RAN.clear()
    (payload,) = payloads(store)
    payload.write_bytes(b"y" + payload.read_bytes()[1:])

    @task(cache_policy=INPUTS)
    def other(data: bytes) -> int:
        return data.count(b"x")

    @flow
    def counting() -> int:
        return other(early(200_000))

    assert counting() == 200_000
    assert RAN == ["early"]
    assert pipeline.run(200_000).counts["executed"] == 0


def test_a_truncated_payload_is_recomputed_when_the_flow_asks_for_it(store: Path) -> None:
    fetch = flow(name="fetch")(lambda n: early(n))
    fetch(200_000)
    (payload,) = payloads(store)
    payload.write_bytes(payload.read_bytes()[:-1])
    assert len(fetch(200_000)) == 200_000
    assert RAN == ["early", "early"]
    assert fetch.run(200_000).counts["executed"] == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b'"digest"', b'"dijest"'),
        lambda data: b"",
        lambda data: b"\xff" * 100,
    ],
    ids=["cut", "changed", "empty", "rubbish"],
)
def test_a_damaged_record_is_a_miss_and_is_recomputed_with_what_was_pruned(
    store: Path, damage: Callable[[bytes], bytes]
) -> None:
    pipeline(10)
    for name in ("early", "late"):
        (record,) = records(store, name)
        record.write_bytes(damage(record.read_bytes()))
    RAN.clear()
    plan = pipeline.plan(10)
    assert plan.counts["miss"] == 2
    assert pipeline(10) == 10
    assert RAN == ["early", "late"]
    assert pipeline.run(10).counts["executed"] == 0


def test_a_damaged_recipe_costs_one_more_lookup_and_no_execution(store: Path) -> None:
    pipeline(10)
    recipes = [path for path in (store / "recipes").rglob("*.json") if path.is_file()]
    assert recipes
    for path in recipes:
        path.write_bytes(b"rubbish")
    run = pipeline.run(10)
    assert run.result() == 10
    assert run.counts["executed"] == 0


def test_a_record_stored_under_another_name_is_ignored(store: Path) -> None:
    pipeline(10)
    pipeline(20)
    one, other = sorted(records(store, "late"))
    other.write_bytes(one.read_bytes())
    assert [pipeline(10), pipeline(20)] == [10, 20]


# -- newer ------------------------------------------------------------------------------------------------------------


def test_a_store_of_a_newer_version_is_left_alone(store: Path, runner: str, sound) -> None:
    store.mkdir()
    (store / "penstock.json").write_text('{"format": 999}')
    with pytest.raises(StoreVersionError) as caught:
        pipeline(10)
    sound(caught.value, StoreVersionError, "store.version")
    assert RAN == []
    assert not (store / "results").exists()
    assert (store / "penstock.json").read_text() == '{"format": 999}'


def test_a_record_of_a_newer_version_is_unknown_and_kept(store: Path, sound) -> None:
    pipeline(10)
    (record,) = records(store, "late")
    newer = b'{"v":999,"kind":"hologram"}'
    record.write_bytes(newer)
    (store / "recipes").rename(store / "no-recipes")
    RAN.clear()
    with pytest.raises((StoreVersionError, StoreUnreachable)) as caught:
        pipeline(10)
    assert caught.value.hint
    assert RAN == []
    assert record.read_bytes() == newer


# -- values that cannot be stored or sent -----------------------------------------------------------------------------


def test_a_cached_result_that_cannot_be_stored(store: Path, runner: str, sound) -> None:
    @task(cache_policy=INPUTS)
    def make(kind: str) -> object:
        import socket
        import threading

        if kind == "lock":
            return threading.Lock()
        if kind == "iterator":
            return map(str, range(3))
        with socket.socket() as closed:
            return closed

    @task(cache_policy=INPUTS)
    def fine(x: int) -> int:
        return x

    @flow
    def making(kind: str) -> list[object]:
        return [fine(1), make(kind)]

    for kind in ("lock", "iterator", "socket"):
        with pytest.raises(SerializationError) as caught:
            making(kind)
        sound(caught.value, SerializationError, "result.serialization")
    assert making.run("lock").by_task()["fine"]["hit"] == 1


def test_a_result_that_its_serializer_does_not_restore(sound) -> None:
    @task(cache_policy=INPUTS, result_serializer="json")
    def make(x: int) -> Opaque:
        return Opaque({x})

    with pytest.raises(SerializationError) as caught:
        make(1)
    sound(caught.value, SerializationError, "result.serialization")
    assert "json" in str(caught.value)


@pytest.mark.slow
def test_an_argument_that_cannot_be_sent_to_a_process(sound) -> None:
    import threading

    from penstock.runners import ProcessRunner

    @task
    def use(lock: object, x: int) -> int:
        return x

    @task(cache_policy=INPUTS)
    def fine(x: int) -> int:
        return x

    @flow(runner=ProcessRunner(1))
    def sending() -> list[int]:
        kept = fine(1)
        assert kept.result() == 1
        return [kept, use(threading.Lock(), 1)]

    with pytest.raises(SerializationError) as caught:
        sending()
    sound(caught.value, SerializationError, "result.serialization")
    assert "lock is of type lock" in str(caught.value)
    assert sending.run().by_task()["fine"]["hit"] == 1


@pytest.mark.slow
def test_a_task_that_cannot_be_sent_to_a_process_names_the_variable_alone() -> None:
    import threading

    from penstock.runners import ProcessRunner

    guard = threading.Lock()

    @task
    def guarded() -> None:
        with guard:
            pass

    with pytest.raises(SerializationError) as caught:
        flow(runner=ProcessRunner(1))(lambda: guarded())()
    assert caught.value.where == "guarded: closure variable guard is of type lock"
    assert "functools.cache" in caught.value.hint
    assert caught.value.__cause__ is None


@pytest.mark.slow
@pytest.mark.parametrize("why", ["a lock", "its class"])
def test_all_arguments_that_cannot_be_sent_raise_the_same_error(why: str) -> None:
    import threading

    from penstock.runners import ProcessRunner

    class Hidden:
        def __reduce__(self) -> str:
            raise TypeError("not this one")

    value = threading.Lock() if why == "a lock" else Hidden()
    with pytest.raises(SerializationError, match="cannot be sent to a worker process"):
        flow(runner=ProcessRunner(1))(lambda: task(lambda one: 1)(value))()


@pytest.mark.slow
def test_an_uncached_result_that_cannot_leave_its_process() -> None:
    from penstock.runners import ProcessRunner

    @task
    def make() -> object:
        import threading

        return threading.Lock()

    @task
    def use(lock: object) -> int:
        return 1

    @flow(runner=ProcessRunner(1))
    def sending() -> object:
        lock = make()
        return [use(lock), lock]

    run = sending.run()
    assert run.state == "failed"
    with pytest.raises(SerializationError, match="it is a lock of its process"):
        run.result()


@pytest.mark.slow
def test_a_store_in_memory_with_processes(monkeypatch: pytest.MonkeyPatch, sound) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", "memory://errors")
    monkeypatch.setenv("PENSTOCK_RUNNER", "processes?workers=1")
    with pytest.raises(ConfigurationError) as caught:
        pipeline(1)
    sound(caught.value, ConfigurationError, "usage.configuration")


@pytest.mark.parametrize("trusted_when_written", [True, False])
def test_an_untrusted_store_neither_gets_nor_gives_a_pickle(sound, trusted_when_written: bool) -> None:
    class Shared(FlakyStore):
        trusted = trusted_when_written  # type: ignore[assignment]

    store = Shared(MemoryStore.named(f"errors-{next(_names)}"))

    @task(cache_policy=INPUTS, result_storage=store)
    def make(x: int) -> Opaque:
        return Opaque({x})

    @flow
    def reading() -> Opaque:
        return make(1)

    if trusted_when_written:
        flow(lambda: make.submit(1).wait())()
    Shared.trusted = False  # type: ignore[assignment]
    with pytest.raises(CodecRefused) as caught:
        reading()
    sound(caught.value, CodecRefused, "result.codec-refused")
