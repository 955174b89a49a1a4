"""Named rates: no more tasks with a tag start in a period than allowed, wherever they run."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import events, flow, task
from penstock.errors import UsageError
from penstock.limits.rates import Rate, RateTable, parse_rate
from penstock.limits.tables import read_limits, read_rates, remove_limit, set_limit, set_rate
from penstock.runners import ThreadRunner
from penstock.settings import Settings, load_settings
from penstock.storage import LocalStore, MemoryStore
from penstock.storage.stores.base import Listed
from penstock.testing.clocks import FakeClock


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10/second", Rate(10, 1)),
        ("10/s", Rate(10, 1)),
        ("100/minute", Rate(100, 60)),
        ("5/30s", Rate(5, 30)),
        ("3/0.5 seconds", Rate(3, 0.5)),
        ("1000/h", Rate(1000, 3600)),
        (" 2/Day ", Rate(2, 86400)),
    ],
)
def test_a_rate_is_a_number_of_starts_and_a_period(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate
    assert parse_rate(str(rate)) == rate


@pytest.mark.parametrize("text", ["", "10", "/s", "0/s", "10/0s", "-1/s", "10/fortnight", "1.5/s", "10/s/s"])
def test_an_invalid_rate_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a rate"):
        parse_rate(text)


def test_a_tag_can_have_a_limit_and_a_rate_and_loses_both() -> None:
    store = MemoryStore()
    set_limit(store, "a/b", 3)
    set_rate(store, "a/b", Rate(5, 1.0))
    assert (read_limits(store), read_rates(store)) == ({"a/b": 3}, {"a/b": Rate(5, 1.0)})
    assert remove_limit(store, "a/b")
    assert (read_limits(store), read_rates(store)) == ({}, {})


@given(
    starts=st.integers(1, 60),
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 30), st.sampled_from([0.0, 0.1, 0.7, 5.0])), max_size=40
    ),
)
def test_drivers_together_never_start_more_in_a_period_than_the_rate_allows(
    starts: int, steps: list[tuple[int, int, float]]
) -> None:
    store, clock, rate = MemoryStore(), FakeClock(), Rate(starts, 1.0)
    drivers = [RateTable(store, clock) for _ in range(3)]
    begun: Counter[int] = Counter()
    for driver, most, passing in steps:
        begun[int(clock.now())] += drivers[driver].take("api", rate, most)
        clock.advance(passing)
    assert max(begun.values(), default=0) <= starts


@given(starts=st.integers(1, 60))
def test_all_starts_of_a_period_can_be_used(starts: int) -> None:
    table = RateTable(MemoryStore(), FakeClock())
    assert sum(table.take("api", Rate(starts, 1.0), 1) for _ in range(starts + 5)) == starts


def test_concurrent_drivers_share_a_period(tmp_path: Path) -> None:
    store, clock, rate = LocalStore(tmp_path), FakeClock(), Rate(40, 1.0)
    together, taken = threading.Barrier(4), []

    def take() -> None:
        table = RateTable(store, clock)
        together.wait()
        taken.append(sum(table.take("api", rate, 1) for _ in range(20)))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) <= 40
    assert sum(taken) >= 36  # all but the rest of the shares that others hold


def test_a_returned_start_is_used_by_the_next_driver(tmp_path: Path) -> None:
    table = RateTable(MemoryStore(), FakeClock())
    assert table.take("api", Rate(1, 1.0), 1) == 1
    assert table.take("api", Rate(1, 1.0), 1) == 0
    table.give_back("api", 1)
    assert table.take("api", Rate(1, 1.0), 1) == 1


def test_a_changed_rate_applies_at_once() -> None:
    table = RateTable(MemoryStore(), FakeClock())
    assert table.take("api", Rate(100, 1.0), 1) == 1
    assert table.take("api", Rate(2, 1.0), 5) == 2


def test_records_of_past_periods_are_removed() -> None:
    store, clock = MemoryStore(), FakeClock()
    table = RateTable(store, clock)
    for _ in range(1_000):
        assert table.take("api", Rate(1, 1.0), 1) == 1
        clock.advance(1.0)
    assert len(list(store.list("rates/"))) <= 300 + 60 + 2


def test_periods_of_any_length_have_distinct_records() -> None:
    store, clock = MemoryStore(), FakeClock()
    table = RateTable(store, clock)
    for rate in (parse_rate("1/0.000001s"), Rate(1, 1e9)):
        assert table.take("api", rate, 1) == 1
        clock.advance(1_000.0)
        table.take("api", rate, 1)  # reads what is there, and removes what has ended
    assert [entry.name.rpartition("-")[2] for entry in store.list("rates/")].count("1e+09/0.json") == 1


# -- runs


def limited(**rates: Rate) -> Settings:
    """Settings with a separate store, and these rates in it."""
    name = str(time.monotonic_ns())
    for tag, rate in rates.items():
        set_rate(MemoryStore.named(name), tag, rate)
    return load_settings(overrides={"store": f"memory://{name}"})


@task(tags=["api"])
def call(n: int) -> int:
    return n


def test_many_calls_that_wait_for_a_rate_ask_the_store_once_per_period() -> None:
    settings = limited(api=Rate(50, 0.3))
    store = MemoryStore.named(settings.store.removeprefix("memory://"))
    listed: list[str] = []
    plain = store.list

    def counted(prefix: str) -> Iterator[Listed]:
        listed.extend([prefix] if prefix.count("/") == 3 else [])
        return plain(prefix)

    store.list = counted  # type: ignore[method-assign]

    @flow(runner=ThreadRunner(4))
    def many() -> list[int]:
        return call.map(list(range(200)))

    assert many.run_with({}, settings=settings).result() == list(range(200))
    # For each period, at most once per share taken, and once to find that none is left.
    assert all(count <= 17 for count in Counter(listed).values())
    assert len(listed) < 100


def test_a_period_with_room_for_all_that_wait_releases_all_of_them() -> None:
    @flow(runner=ThreadRunner(4))
    def some() -> list[int]:
        return call.map(list(range(6)))

    # 4 start, and in the next period 2 wait for 4 starts.
    assert some.run_with({}, settings=limited(api=Rate(4, 0.3))).result() == list(range(6))


def test_a_run_takes_as_many_periods_as_its_calls_need() -> None:
    @flow(runner=ThreadRunner(4))
    def many() -> list[int]:
        return call.map(list(range(12)))

    began = time.time()
    assert many.run_with({}, settings=limited(api=Rate(4, 0.3))).result() == list(range(12))
    assert time.time() // 0.3 - began // 0.3 >= 2


def test_tasks_without_a_rate_are_not_delayed() -> None:
    done: list[str] = []

    @task
    def free() -> None:
        done.append("free")

    @task(tags=["api"])
    def slow() -> None:
        done.append("slow")

    @flow(runner=ThreadRunner(1))
    def mixed() -> None:
        slow.map([])
        slow()
        slow()
        free()

    mixed.run_with({}, settings=limited(api=Rate(1, 0.5))).result()
    assert done in (["slow", "free", "slow"], ["free", "slow", "slow"])


def test_a_call_that_waits_for_a_period_holds_no_permit_of_a_limit() -> None:
    settings = limited(api=Rate(1, 0.5))
    set_limit(MemoryStore.named(settings.store.removeprefix("memory://")), "db", 1)
    done: list[str] = []

    @task(tags=["api", "db"])
    def both(n: int) -> None:
        done.append("both")

    @task(tags=["db"])
    def db() -> None:
        done.append("db")

    @flow(runner=ThreadRunner(2))
    def mixed() -> None:
        both.map([1, 2, 3])
        db()

    run = mixed.run_with({}, settings=settings)
    run.result()
    assert done.index("db") <= 2


def test_the_log_names_the_rate_that_a_call_waits_for() -> None:
    told: list[events.Event] = []

    @flow(runner=ThreadRunner(2))
    def two() -> list[int]:
        return call.map([1, 2])

    two.run_with({}, settings=limited(api=Rate(1, 0.3)), subscribers=[told.append])
    (waits,) = [event for event in told if isinstance(event, events.NodeParked)]
    assert waits.holder == {"limit": "api (1/0.3s)"}
    assert [event.node for event in told if isinstance(event, events.NodeUnparked)] == [waits.node]


def test_each_attempt_uses_a_start() -> None:
    attempts: list[float] = []

    @task(tags=["api"], retries=1)
    def fails_once() -> str:
        attempts.append(time.time())
        if len(attempts) == 1:
            raise OSError("not yet")
        return "done"

    @flow(runner=ThreadRunner(1))
    def one() -> str:
        return fails_once()

    began = time.time()
    assert one.run_with({}, settings=limited(api=Rate(1, 0.5))).result() == "done"
    assert time.time() // 0.5 - began // 0.5 >= 1
