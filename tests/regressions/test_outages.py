"""A store that does not answer is never taken for a miss, and loses nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from penstock import INPUTS, Task, flow, task
from penstock.errors import StoreUnreachable, TaskFailed
from penstock.storage import MemoryStore
from penstock.testing.stores.faults import FlakyStore

RAN: list[object] = []
_names = itertools.count()


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@pytest.fixture
def store() -> FlakyStore:
    return FlakyStore(MemoryStore.named(f"outages-{next(_names)}"))


@pytest.fixture
def work(store: FlakyStore) -> Callable[[int], object]:
    """Return a flow with one cached task whose results are in the flaky store."""

    @task(cache_policy=INPUTS, result_storage=store, key_name="work")
    def work(n: int) -> int:
        RAN.append(n)
        return n + 1

    return flow(name="outage")(lambda n: work(n))


def down(store: FlakyStore, method: str, *, times: int = 10**6, **how: str) -> None:
    store.fail(method, StoreUnreachable("no answer", hint="wait"), times=times, **how)


def test_an_outage_during_planning_fails_the_run_instead_of_running_everything(store: FlakyStore, work) -> None:
    assert work(1) == 2
    RAN.clear()
    down(store, "get_many", times=1)
    with pytest.raises(StoreUnreachable) as caught:
        work(1)
    assert "recompute" in caught.value.hint
    assert RAN == []
    assert work.run(1).counts["hit"] == 1


def test_on_unknown_recompute_runs_what_could_not_be_looked_up(
    store: FlakyStore, work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_ON_UNKNOWN", "recompute")
    assert work(1) == 2
    RAN.clear()
    down(store, "get_many", times=1)
    assert work(1) == 2


def test_a_plan_shows_what_is_unknown(store: FlakyStore, work) -> None:
    down(store, "get_many", times=1)
    plan = work.plan(1)
    assert plan.counts["unknown"] == 1
    assert plan.counts["miss"] == 0
    assert "no answer" in plan.nodes[0].reason


def test_an_answer_lost_while_publishing_is_settled_by_reading(store: FlakyStore, work) -> None:
    down(store, "put_if_absent", times=1, when="after", name="record.json")
    assert work(1) == 2
    assert RAN == [1]
    assert work.run(1).counts["executed"] == 0


def test_a_failed_write_while_publishing_is_repeated(store: FlakyStore, work) -> None:
    down(store, "put_if_absent", times=2, name="record.json")
    assert work(1) == 2
    assert RAN == [1]
    assert work.run(1).counts["executed"] == 0


def test_an_outage_of_the_recipes_costs_no_result(store: FlakyStore) -> None:
    @task(cache_policy=INPUTS, result_storage=store, key_name="one")
    def one(n: int) -> int:
        RAN.append("one")
        return n

    @task(cache_policy=INPUTS, result_storage=store, key_name="two")
    def two(n: int) -> int:
        RAN.append("two")
        return n * 2

    @flow
    def pipeline() -> int:
        return two(one(4))

    down(store, "put", times=3, name="recipes/")
    assert pipeline() == 8
    assert pipeline() == 8
    assert RAN == ["one", "two"]


def test_a_temporarily_unreadable_value_is_an_error_and_not_recomputed(store: FlakyStore) -> None:
    @task(cache_policy=INPUTS, result_storage=store, key_name="large")
    def large(n: int) -> bytes:
        RAN.append("large")
        return b"x" * n

    @flow
    def pipeline() -> bytes:
        return large(200_000)

    pipeline()
    down(store, "open", times=1)
    with pytest.raises(StoreUnreachable):
        pipeline()
    assert len(pipeline()) == 200_000
    assert RAN == ["large"]


class _Crash(BaseException):
    """End a worker's call at that point, as a crash does: nothing after it happens."""


def test_a_crash_between_payload_and_record_leaves_a_miss_and_then_a_result(store: FlakyStore) -> None:
    @task(cache_policy=INPUTS, result_storage=store, key_name="large")
    def large(n: int) -> bytes:
        RAN.append("large")
        return b"x" * n

    @flow
    def pipeline() -> int:
        return large(200_000)

    store.fail("put_if_absent", _Crash(), times=1, name="record.json")
    with pytest.raises(TaskFailed, match="_Crash"):
        pipeline()
    orphans = [entry.name for entry in store.inner.list("results/")]
    assert len(orphans) == 1
    assert pipeline.plan().counts["miss"] == 1
    assert len(pipeline()) == 200_000
    assert RAN == ["large", "large"]
    assert pipeline.run().counts["executed"] == 0


def test_a_loser_adopts_the_first_result(store: FlakyStore) -> None:
    draws = itertools.count()

    everyone = INPUTS.configure(isolation_level="READ_COMMITTED")

    @task(cache_policy=everyone, result_storage=store, key_name="draw")
    def draw(n: int) -> int:
        return next(draws)

    rival: Task[[int], int] = draw.with_options(result_storage=store.inner)
    store.interrupt("put_if_absent", lambda: RAN.append(rival(1)), name="record.json")
    assert draw(1) == RAN[0] == 1
    assert draw(1) == rival(1) == 1
