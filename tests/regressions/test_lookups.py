"""Lookups come before submission, and read no value."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass, field

import pytest

from penstock import INPUTS, TASK_SOURCE, flow, task
from penstock.errors import DigestError, PolicyError, TracingError
from penstock.locks import Lease, MemoryLockManager
from penstock.runners import ThreadRunner
from penstock.runners.base import Engine
from penstock.storage import MemoryStore
from penstock.testing.stores.faults import FlakyStore
from penstock.transactions import IsolationLevel
from penstock.worker.messages import Bundle, Report, WorkerContext

RAN: list[object] = []
_names = itertools.count()


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@dataclass(frozen=True)
class CountingRunner(ThreadRunner):
    """A thread runner that records what it was asked to run."""

    asked: list[object] = field(default_factory=list)

    def open(self, context: WorkerContext, report: Report) -> Engine:
        self.asked.append("open")
        engine = super().open(context, report)
        submit = engine.submit

        def counted(bundle: Bundle) -> None:
            self.asked.append(len(bundle.calls))
            submit(bundle)

        engine.submit = counted  # type: ignore[method-assign]
        return engine


@task(cache_policy=INPUTS)
def step(x: int) -> int:
    RAN.append(x)
    return x + 1


@task(cache_policy=INPUTS)
def gather(parts: list[int]) -> int:
    return sum(parts)


@flow
def fan(n: int) -> int:
    return gather([step(step(i)) for i in range(n)])


def test_nothing_is_submitted_when_all_targets_hit() -> None:
    fan(4)
    runner = CountingRunner()
    run = runner(fan).run(4)
    assert run.counts["executed"] == 0
    assert runner.asked == []


def test_a_warm_graph_costs_one_lookup_per_output() -> None:
    fan(4)
    run = fan.run(4)
    assert run.stats["lookups"] == 1
    assert run.counts["pruned"] == len(run.graph) - 1


def test_planning_runs_nothing_and_lists_what_would_run() -> None:
    plan = fan.plan(3)
    assert plan.work
    assert RAN == []
    fan(3)
    assert not fan.plan(3).work


def test_lookups_and_pruning_read_no_value() -> None:
    store = FlakyStore(MemoryStore.named(f"lookups-{next(_names)}"))

    @task(cache_policy=INPUTS, result_storage=store)
    def large(n: int) -> bytes:
        return b"x" * n

    @task(cache_policy=INPUTS, result_storage=store)
    def length(data: bytes) -> int:
        return len(data)

    @flow
    def pipeline() -> int:
        return length(large(200_000))

    pipeline()
    before = store.count("open")
    assert not pipeline.plan().work
    assert pipeline() == 200_000
    assert store.count("open") == before


def test_unused_results_stay_out_of_the_driver() -> None:
    store = FlakyStore(MemoryStore.named(f"lookups-{next(_names)}"))

    @task(cache_policy=INPUTS, result_storage=store)
    def large(n: int) -> bytes:
        return b"x" * n

    @flow
    def waits() -> None:
        large.submit(200_000).wait()

    waits()
    waits()
    assert store.count("open") == 0


# -- what would weaken keys is an error --------------------------------------------------------------------------------


class Opaque:
    __slots__ = ("handle",)

    def __init__(self) -> None:
        self.handle = object()


@task(cache_policy=INPUTS)
def use(value: object) -> int:
    RAN.append("use")
    return 1


def test_an_input_without_a_digest_is_an_error_and_not_an_uncached_call() -> None:
    with pytest.raises(DigestError) as caught:
        use(Opaque())
    assert "value" in str(caught.value)
    assert RAN == []


def test_a_generator_is_refused_and_not_consumed() -> None:
    numbers = iter([1, 2, 3])
    with pytest.raises(TracingError):
        use(numbers)
    assert list(numbers) == [1, 2, 3]


def test_the_error_for_subtracting_an_unknown_parameter_suggests_the_nearest_name() -> None:
    @task(cache_policy=INPUTS - "debgu")
    def run(x: int, debug: bool = False) -> int:
        return x

    with pytest.raises(PolicyError) as caught:
        run(1)
    assert "'debug'" in caught.value.hint


def test_two_tasks_with_equal_inputs_do_not_collide() -> None:
    @task(cache_policy=INPUTS)
    def plus(x: int) -> int:
        return x + 1

    @task(cache_policy=INPUTS)
    def minus(x: int) -> int:
        return x - 1

    assert (plus(5), minus(5)) == (6, 4)


def test_equal_containers_are_hits_whatever_their_order() -> None:
    @task(cache_policy=INPUTS + TASK_SOURCE)
    def size(items: set[str], options: dict[str, int]) -> int:
        RAN.append("size")
        return len(items) + len(options)

    assert size({"a", "b", "c"}, {"x": 1, "y": 2}) == 5
    assert size({"c", "b", "a"}, {"y": 2, "x": 1}) == 5
    assert RAN == ["size"]


# -- locks -------------------------------------------------------------------------------------------------------------


def test_a_contended_call_occupies_no_worker() -> None:
    manager = MemoryLockManager()
    policy = INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE, lock_manager=manager)

    @task(cache_policy=policy, key_name="locked")
    def locked(x: int) -> str:
        RAN.append("locked")
        return "locked"

    @task
    def other(n: int) -> int:
        RAN.append("other")
        return n

    @flow(runner=ThreadRunner(1))
    def pipeline() -> list[object]:
        waiting = locked(1)
        numbers = other.map([1, 2]).result()
        assert RAN == ["other", "other"]
        session.release([lease], "failed")
        return [waiting, *numbers]

    with contextlib.closing(manager.open_session(info={}, lease_seconds=30.0)) as session:
        (lease,) = session.try_acquire([locked_key(locked)])
        assert isinstance(lease, Lease)
        run = pipeline.run()
    assert run.result() == ["locked", 1, 2]
    assert run.counts["contended"] >= 1


def locked_key(one) -> str:
    """Return the cache key of a task's call with x=1."""

    @flow
    def alone() -> None:
        one(1)

    key = alone.plan().nodes[0].key
    assert key is not None
    return key
