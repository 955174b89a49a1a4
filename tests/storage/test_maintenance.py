"""Listing, removing, collecting, verifying and measuring, beside live, slow and dead writers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from penstock.clocks import SystemClock
from penstock.errors import DamagedResult
from penstock.storage import LocalStore, MemoryStore
from penstock.storage.records.records import RecipeEntry, RedirectRecord, ResultRecord
from penstock.storage.results import maintenance, purging
from penstock.storage.results.code_notes import put_code_note
from penstock.storage.results.generations import Absent, Found
from penstock.storage.results.store import Published, Restart, ResultStore
from penstock.storage.stores.local_upkeep import prune
from penstock.testing.stores.faults import FlakyStore, HastyClock

NEVER = Absent(0, "never")
BIG = b"x" * 10_000


@pytest.fixture
def results() -> ResultStore:
    return ResultStore(MemoryStore())


def publish(
    results: ResultStore, key: str, value: Any = BIG, *, task: str = "t", attempt: str = "a", **more: Any
) -> Any:
    after = more.pop("after", None) or results.look_up(task, key)
    return results.publish(task, key, value, after=after, attempt=attempt, digest="d", **more)


def stage(results: ResultStore, key: str, attempt: str, value: Any = BIG) -> Any:
    return results.stage("t", key, value, after=NEVER, attempt=attempt, digest="d")


def collecting(results: ResultStore, then: Callable[[], object] = lambda: None) -> Callable[[], str]:
    """A digest requested after a payload is written: the first request collects that payload."""
    once = [lambda: maintenance.gc(results, grace_seconds=0), then]

    def digest() -> str:
        while once:
            once.pop(0)()
        return "d"

    return digest


def names(results: ResultStore) -> list[str]:
    return [file.name.removeprefix("results/") for file in results.store.list("results/")]


# -- listing


def test_ls_lists_the_current_result_of_every_key(results: ResultStore) -> None:
    for key in ("b", "a"):
        publish(results, key)
    publish(results, "a", 1, attempt="b", expires=5e9)
    publish(results, "A", task="Other Task")
    publish(results, "gone")
    results.invalidate("t", "gone")
    listed = [
        (each.task, each.key, each.generation, each.codec, each.size, each.expires) for each in maintenance.ls(results)
    ]
    size = results.look_up("t", "b").record.size  # type: ignore[union-attr]
    assert listed == [
        ("Other Task", "A", 0, "json/typed", size, None),
        ("t", "a", 1, "json", 1, 5e9),
        ("t", "b", 0, "json/typed", size, None),
    ]
    assert [each.key for each in maintenance.ls(results, task="t")] == ["a", "b"]
    assert list(maintenance.ls(results, task="none")) == []


def test_ls_reads_in_batches(results: ResultStore) -> None:
    for i in range(300):
        publish(results, f"{i:03}", i)
    store = FlakyStore(results.store)
    assert [each.key for each in maintenance.ls(ResultStore(store))] == [f"{i:03}" for i in range(300)]
    assert store.count("get_many") == 2


def test_show_lists_every_generation(results: ResultStore) -> None:
    publish(results, "k", 1)
    publish(results, "k", 2, attempt="b")
    first, second = maintenance.show(results, "t", "k")
    assert isinstance(first, RedirectRecord)
    assert isinstance(second, ResultRecord)
    assert maintenance.show(results, "t", "none") == []


def test_du_is_totalled_by_task(results: ResultStore) -> None:
    publish(results, "a")
    publish(results, "b")
    publish(results, "a", task="Other Task")
    used = maintenance.du(results)
    assert {task: usage.results for task, usage in used.items()} == {"t": 2, "Other Task": 1}
    assert sum(usage.bytes for usage in used.values()) == sum(file.size for file in results.store.list("results/"))


# -- removing


def test_rm_invalidates_and_deletes_the_payload(results: ResultStore) -> None:
    publish(results, "a")
    publish(results, "b")
    assert maintenance.rm(results, "t", "a") == 1
    assert names(results) == ["t/a/000000.record.json", "t/b/000000.a.json", "t/b/000000.record.json"]
    assert isinstance(results.look_up("t", "a"), Absent)
    assert maintenance.rm(results, "t", "a") == 0


def test_rm_of_a_task_removes_all_its_results_and_nothing_else(results: ResultStore) -> None:
    for key in ("a", "b"):
        publish(results, key)
    publish(results, "a", task="other")
    assert maintenance.rm(results, "t") == 2
    assert [(each.task, each.key) for each in maintenance.ls(results)] == [("other", "a")]


# -- collecting


def test_gc_keeps_what_is_published(results: ResultStore) -> None:
    publish(results, "a")
    publish(results, "b", 1)
    before = names(results)
    assert maintenance.gc(results, grace_seconds=0) == maintenance.Collected()
    assert names(results) == before


def test_gc_leaves_one_payload_of_a_result_refreshed_a_hundred_times(results: ResultStore) -> None:
    for i in range(100):
        publish(results, "k", attempt=f"a{i}")
    collected = maintenance.gc(results)
    assert collected.payloads == 99
    assert [name for name in names(results) if not name.endswith("record.json")] == ["t/k/000099.a99.json"]
    assert maintenance.gc(results).payloads == 0


def test_gc_removes_notes_of_code_that_no_result_uses(results: ResultStore) -> None:
    used, unused = "a" * 40, "b" * 40
    publish(results, "k", key_parts={"task_code": used})
    publish(results, "gone", key_parts={"task_source": unused})
    for digest in (used, unused):
        put_code_note(results.store, digest, b"{}")
    assert maintenance.gc(results, grace_seconds=0).notes == 0
    results.invalidate("t", "gone")
    assert maintenance.gc(results).notes == 0
    assert maintenance.gc(results, grace_seconds=0, dry_run=True).notes == 1
    assert [file.name for file in results.store.list("code/")] == [f"code/{d[:2]}/{d}.json" for d in (used, unused)]
    assert maintenance.gc(results, grace_seconds=0).notes == 1
    assert [file.name for file in results.store.list("code/")] == [f"code/{used[:2]}/{used}.json"]


def test_gc_removes_the_payloads_of_losers_at_once(results: ResultStore) -> None:
    stage(results, "k", "dead")
    publish(results, "k", after=NEVER)
    assert maintenance.gc(results).payloads == 1
    assert names(results) == ["t/k/000000.a.json", "t/k/000000.record.json"]


def test_gc_respects_the_grace_period_of_unpublished_payloads(results: ResultStore) -> None:
    stage(results, "k", "slow")
    before = names(results)
    assert maintenance.gc(results, grace_seconds=3600) == maintenance.Collected()
    assert names(results) == before


def test_gc_closes_a_generation_before_it_deletes_the_payloads(results: ResultStore) -> None:
    stage(results, "k", "dead")
    store = FlakyStore(results.store)
    collected = maintenance.gc(ResultStore(store), grace_seconds=0)
    assert (collected.payloads, collected.closed) == (1, 1)
    assert collected.bytes > 10_000
    deeds = [method for method, _ in store.calls if method in ("put_if_absent", "delete")]
    assert deeds == ["put_if_absent", "delete"]
    found = results.look_up("t", "k")
    assert isinstance(found, Absent)
    assert (found.generation, found.redirect and found.redirect.reason) == (1, "gc")


def test_gc_closes_odd_unpublished_keys(results: ResultStore) -> None:
    results.stage("Odd Task", "../k", BIG, after=NEVER, attempt="dead", digest="d")
    assert maintenance.gc(results, grace_seconds=0).closed == 1
    found = results.look_up("Odd Task", "../k")
    assert isinstance(found, Absent)
    assert found.generation == 1


def test_a_slow_writer_publishes_after_its_payload_was_collected(results: ResultStore) -> None:
    published = results.publish("t", "k", BIG, after=NEVER, attempt="slow", digest=collecting(results))
    assert isinstance(published, Published)
    assert (published.won, published.record.generation) == (True, 1)
    assert results.load(published.record) == BIG
    assert maintenance.verify(results) == maintenance.Verified(records=2)


def test_a_writer_that_commits_between_listing_and_closing_keeps_its_payload(results: ResultStore) -> None:
    staged = stage(results, "k", "slow")
    store = FlakyStore(results.store)
    store.interrupt("put_if_absent", lambda: results.commit(staged) and None, name="record")
    assert maintenance.gc(ResultStore(store), grace_seconds=0).payloads == 0
    found = results.look_up("t", "k")
    assert isinstance(found, Found)
    assert results.load(found.record) == BIG


def test_a_refresh_in_flight_survives_a_collection(results: ResultStore) -> None:
    publish(results, "k", b"old")
    seen = results.look_up("t", "k")

    def read() -> None:
        found = results.look_up("t", "k")
        assert isinstance(found, Found)
        assert results.load(found.record) == b"old"

    outcome = results.publish("t", "k", BIG, after=seen, attempt="b", digest=collecting(results, read))
    assert isinstance(outcome, Published)
    found = results.look_up("t", "k")
    assert isinstance(found, Found)
    assert results.load(found.record) == BIG


def test_a_late_writer_is_still_refused_after_a_collection(results: ResultStore) -> None:
    zombie = stage(results, "k", "zombie")
    publish(results, "k", after=NEVER)
    results.invalidate("t", "k")
    maintenance.gc(results, grace_seconds=0)
    assert results.commit(zombie) == Restart(1, "invalidated")


def test_gc_removes_expired_results_after_the_grace_period() -> None:
    clock = HastyClock()
    results = ResultStore(MemoryStore(), clock=clock)
    publish(results, "k", expires=clock.now() + 10)
    clock.advance(50)
    assert maintenance.gc(results, grace_seconds=60).payloads == 0
    clock.advance(50)
    assert maintenance.gc(results, grace_seconds=60).payloads == 1
    assert names(results) == ["t/k/000000.record.json"]
    assert publish(results, "k", attempt="b").record.generation == 1


def test_a_dry_run_reports_and_does_nothing(results: ResultStore) -> None:
    stage(results, "k", "dead")
    publish(results, "a")
    publish(results, "a", attempt="b")
    before = names(results)
    told = maintenance.gc(results, grace_seconds=0, dry_run=True)
    assert names(results) == before
    assert maintenance.gc(results, grace_seconds=0) == told


def test_gc_leaves_damaged_records_and_their_payloads_alone(results: ResultStore) -> None:
    publish(results, "k")
    results.store.put("results/t/k/000000.record.json", b"torn")
    before = names(results)
    maintenance.gc(results, grace_seconds=0)
    assert names(results) == before


def test_gc_continues_behind_a_damaged_generation(results: ResultStore) -> None:
    for attempt in "abc":
        publish(results, "k", attempt=attempt)
        results.invalidate("t", "k")
    results.store.put("results/t/k/000001.record.json", b"{")
    maintenance.gc(results, grace_seconds=0)
    # The payload of the damaged one is unknown; those of the generations before and after it are garbage.
    payloads = [name for name in names(results) if ".record." not in name]
    assert [name.removeprefix("t/k/")[:6] for name in payloads] == ["000001"]


def test_gc_sweeps_old_unfinished_files_and_no_new_ones(tmp_path: Path) -> None:
    results = ResultStore(LocalStore(tmp_path))
    publish(results, "k")
    for name, age in (("old", 10 * 24 * 3600), ("new", 60)):
        (tmp_path / ".tmp" / name).write_bytes(b"x")
        then = results.clock.now() - age
        os.utime(tmp_path / ".tmp" / name, (then, then))
    assert maintenance.gc(results, grace_seconds=0).leftovers == 1
    assert os.listdir(tmp_path / ".tmp") == ["new"]


def test_a_reader_between_record_and_payload_learns_that_the_generation_was_closed(results: ResultStore) -> None:
    record = publish(results, "k").record
    results.invalidate("t", "k")
    maintenance.gc(results, grace_seconds=0)
    with pytest.raises(DamagedResult) as caught:
        results.load(record)
    assert caught.value.data["closed"] is True


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda folder: MemoryStore(), lambda folder: LocalStore(folder, durable=False)])
def test_collecting_without_grace_beside_writers_loses_no_result(tmp_path: Path, make: Any) -> None:
    results = ResultStore(make(tmp_path))
    done = threading.Event()
    closed: list[bool] = []
    """For results that were gone when loaded: whether the slot said that another writer had replaced them."""

    def collect() -> int:
        rounds = 0
        while not done.is_set():
            maintenance.gc(results, grace_seconds=0)
            rounds += 1
        return rounds

    def write(mine: int) -> int:
        wins = 0
        for i in range(40):
            key, value = str(i % 10), bytes([mine]) * 9000
            after = results.look_up("t", key)
            outcome = results.publish("t", key, value, after=after, attempt=f"w{mine}-{i}", digest="d")
            if isinstance(outcome, Published):
                wins += outcome.won
                try:
                    assert len(results.load(outcome.record)) == 9000
                except DamagedResult as error:
                    closed.append(error.data["closed"])
        return wins

    with ThreadPoolExecutor(4) as pool:
        collector = pool.submit(collect)
        writers = [pool.submit(write, mine) for mine in range(3)]
        wins = sum(writer.result() for writer in writers)
        done.set()
        assert collector.result() > 0
    assert wins >= 10
    assert all(closed)
    seen = maintenance.verify(results)
    assert seen.problems == []
    for found in results.look_up_many([("t", str(i)) for i in range(10)]):
        assert isinstance(found, Found)
        assert len(results.load(found.record)) == 9000
    maintenance.gc(results, grace_seconds=0)
    payloads = [name for name in names(results) if not name.endswith("record.json")]
    assert len(payloads) == 10


# -- verifying


def test_verify_finds_no_problem_in_a_sound_store(results: ResultStore) -> None:
    for i in range(3):
        publish(results, str(i))
    publish(results, "1", 5, attempt="b")
    results.invalidate("t", "2")
    assert maintenance.verify(results).problems == []
    assert maintenance.verify(results).records == 4


def test_verify_counts_orphans_separately(results: ResultStore) -> None:
    stage(results, "k", "dead")
    publish(results, "a")
    assert maintenance.verify(results) == maintenance.Verified(records=1, orphans=1)


def test_verify_names_every_kind_of_damage(results: ResultStore) -> None:
    for key in ("cut", "gone", "torn", "moved", "fine"):
        publish(results, key)
    store = results.store
    for key in ("cut", "gone"):
        name = f"results/t/{key}/000000.a.json"
        with store.open(name) as file:
            data = file.read()
        store.delete(name)
        if key == "cut":
            with store.create(name) as file:
                file.write(data[:-1])
    store.put("results/t/torn/000000.record.json", b"{")
    store.put("results/t/moved/000000.record.json", store.get("results/t/fine/000000.record.json") or b"")
    seen = maintenance.verify(results)
    assert {problem.name.split("/")[2] for problem in seen.problems} == {"cut", "gone", "torn", "moved"}
    assert all(problem.what for problem in seen.problems)
    assert seen.records == 5


def test_verify_beside_a_collection_reports_no_damage(results: ResultStore) -> None:
    publish(results, "k")
    store = FlakyStore(results.store)

    def collect() -> None:
        results.invalidate("t", "k")
        maintenance.gc(results, grace_seconds=0)

    store.interrupt("open", collect)
    assert maintenance.verify(ResultStore(store)).problems == []


# -- killed processes

PUBLISHER = """
import sys, uuid
from penstock.storage import LocalStore
from penstock.storage.results.store import Absent, ResultStore
results, i = ResultStore(LocalStore(sys.argv[1])), 0
while True:
    key, value = str(i % 7), ([i] if i % 2 else b"x" * (20_000 + i))
    results.publish("t", key, value, after=results.look_up("t", key), attempt=uuid.uuid4().hex, digest=str(i))
    i += 1
    if i == 3:
        print("ready", flush=True)
"""


@pytest.mark.slow
def test_publishers_killed_at_any_time_leave_nothing_broken(tmp_path: Path) -> None:
    results = ResultStore(LocalStore(tmp_path))
    for n in range(4):
        publishers = [
            subprocess.Popen([sys.executable, "-c", PUBLISHER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        for publisher in publishers:
            assert publisher.stdout
            assert publisher.stdout.readline() == "ready\n"
        threading.Event().wait(0.01 * n)
        for publisher in publishers:
            publisher.send_signal(signal.SIGKILL)
            publisher.communicate()
        seen = maintenance.verify(results)
        assert seen.problems == []
        assert seen.records > 0
    maintenance.gc(results, grace_seconds=0)
    assert maintenance.verify(results).orphans == 0
    for each in maintenance.ls(results):
        found = results.look_up(each.task, each.key)
        assert isinstance(found, Found)
        results.load(found.record)


RACER = """
import sys
from penstock.storage import LocalStore
from penstock.storage.results.store import Absent, ResultStore
results, mine = ResultStore(LocalStore(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for i in range(20):
    value = mine if i % 2 else mine.encode() * 20_000
    published = results.publish("t", str(i), value, after=Absent(0, "never"), attempt=f"a{mine}", digest=mine)
    again = results.load(published.record)
    print(i, published.won, published.record.digest, (again if i % 2 else again[:1].decode()))
"""


@pytest.mark.slow
def test_one_of_many_processes_publishes_each_result_and_all_get_it(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path), str(mine)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for mine in range(4)
    ]
    for racer in racers:
        assert racer.stdout
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    lines = [line.split() for racer in racers for line in racer.communicate()[0].splitlines()]
    assert len(lines) == 80
    for i in range(20):
        told = [line for line in lines if line[0] == str(i)]
        assert [line[1] for line in told].count("True") == 1
        assert len({(line[2], line[3]) for line in told}) == 1
        assert told[0][2] == told[0][3]
    results = ResultStore(LocalStore(tmp_path))
    assert maintenance.verify(results) == maintenance.Verified(records=20)


# -- growth ----------------------------


def test_a_result_is_found_by_the_prefix_of_its_key_from_names_alone() -> None:
    store = FlakyStore(MemoryStore())
    results = ResultStore(store)
    for i in range(300):
        publish(results, f"{i:040x}")
    publish(results, "ab" * 20)
    store.calls.clear()
    (found,) = maintenance.find(results, "abab")
    assert found.key == "ab" * 20
    assert maintenance.find(results, "cd") == []
    assert [name for method, name in store.calls if method in ("get", "get_many")] == [found_slot("ab" * 20)]


def found_slot(key: str) -> str:
    return f"results/t/{key}/000000.record.json"


def test_the_tasks_of_a_store_are_known_from_one_record_each() -> None:
    store = FlakyStore(MemoryStore())
    results = ResultStore(store)
    for task in ("t", "Module:Task"):
        for key in ("a", "b", "c"):
            publish(results, key, task=task)
    store.calls.clear()
    assert maintenance.tasks(results) == ["Module:Task", "t"]
    assert store.count("get_many") == 2


def test_du_agrees_with_the_disk(tmp_path: Path) -> None:
    results = ResultStore(LocalStore(tmp_path))
    for key in "abc":
        publish(results, key, 1)
    used = maintenance.du(results)["t"]
    files = [*(tmp_path / "results" / "t").rglob("*"), tmp_path / "results" / "t"]
    assert used.disk == sum(path.stat().st_blocks * 512 for path in files)
    assert used.disk > used.bytes
    assert LocalStore(tmp_path).disk_bytes("") > used.disk
    assert LocalStore(tmp_path / "none").disk_bytes("") == 0


def aged(results: ResultStore) -> ResultStore:
    """Make the same store a month older."""
    later = ResultStore(results.store)
    later.clock = _Later()
    return later


class _Later(SystemClock):
    def now(self) -> float:
        return super().now() + 2 * purging.PURGE_SECONDS


def test_a_purge_leaves_one_small_record_of_a_removed_result(results: ResultStore) -> None:
    for attempt in "abcd":
        publish(results, "k", attempt=attempt)
        results.invalidate("t", "k")
    publish(results, "other")
    results.put_recipe(RecipeEntry(recipe="11" * 20, key="k", task="t", digest="d"))
    results.put_recipe(RecipeEntry(recipe="22" * 20, key="other", task="t", digest="d"))
    maintenance.gc(results, grace_seconds=0)
    assert purging.purge(results).records == 0  # nothing is old enough
    before = names(results)
    assert purging.purge(aged(results), dry_run=True).records == 3
    assert names(results) == before
    done = purging.purge(aged(results))
    assert (done.records, done.recipes) == (3, 1)
    assert [name for name in names(results) if name.startswith("t/k/")] == ["t/k/000000.record.json"]
    assert results.get_recipes(["11" * 20, "22" * 20])[0] is None
    assert results.get_recipes(["22" * 20])[0] is not None
    assert isinstance(results.look_up("t", "other"), Found)


def test_a_purge_skips_what_it_cannot_read(results: ResultStore) -> None:
    results.put_recipe(RecipeEntry(recipe="11" * 20, key="gone", task="t", digest="d"))
    results.put_recipe(RecipeEntry(recipe="33" * 20, key="gone", task="t", digest="d"))
    (damaged,) = [file.name for file in results.store.list("recipes/") if "11" * 20 in file.name]
    results.store.put(damaged, b"{")
    assert purging.purge(aged(results)).recipes == 1
    assert [file.name for file in results.store.list("recipes/")] == [damaged]


def test_a_purge_limits_what_refreshes_leave(results: ResultStore) -> None:
    for i in range(20):
        publish(results, "k", attempt=f"a{i}")
    maintenance.gc(results, grace_seconds=0)
    purging.purge(aged(results))
    assert len(names(results)) == 3  # slot 0, the current record and its payload
    found = results.look_up("t", "k")
    assert isinstance(found, Found)
    assert (found.generation, results.load(found.record)) == (19, BIG)
    publish(results, "k", 7, attempt="next")
    assert results.load(results.look_up("t", "k").record) == 7  # type: ignore[union-attr]


def test_a_writer_that_was_away_during_a_purge_publishes_nothing_stale(results: ResultStore) -> None:
    publish(results, "k", attempt="first")
    results.invalidate("t", "k")
    after = results.look_up("t", "k")
    away = results.stage("t", "k", b"old", after=after, attempt="away", digest="d")  # for generation 1
    for attempt in ("second", "third"):
        publish(results, "k", attempt=attempt)
        results.invalidate("t", "k")
    maintenance.gc(results, grace_seconds=0)
    purging.purge(aged(results))
    results.commit(away)
    assert isinstance(results.look_up("t", "k"), Absent)
    publish(results, "k", 3, attempt="new")
    assert results.load(results.look_up("t", "k").record) == 3  # type: ignore[union-attr]
    purging.purge(aged(results))
    assert [name for name in names(results) if "away" in name] == []


def test_emptied_folders_are_removed_and_created_again_by_writers(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, durable=False)
    results = ResultStore(store)
    publish(results, "k")
    old = tmp_path / "runs" / "old"
    old.mkdir(parents=True)
    os.utime(old, (0, 0))
    store.sweep(older_than=3600)
    assert not old.exists()
    assert isinstance(results.look_up("t", "k"), Found)
    stop = threading.Event()

    def go_on() -> int:
        rounds = 0
        while not stop.is_set() or not rounds:
            prune(str(tmp_path), older_than=0)
            rounds += 1
        return rounds

    with ThreadPoolExecutor(1) as pool:
        pruning = pool.submit(go_on)
        try:
            for i in range(200):
                name = f"runs/{i % 3}/file"
                store.put(name, b"x")
                store.delete(name)
        finally:
            stop.set()
        assert pruning.result(60) > 0
