"""The runner of a flow: set by code, settings or attempt, also for a subflow; and retries of subflows."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from penstock import INPUTS, events, flow, load_settings, task
from penstock.errors import ConfigurationError
from penstock.runners import Runner, ThreadRunner, runner_from
from penstock.runtime import flow_run


class Noted(ThreadRunner):
    """A runner that records the runs that use it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "used", [])

    def open(self, context: Any, report: Any) -> Any:
        self.used.append(context.run.run_count)  # type: ignore[attr-defined]
        return super().open(context, report)


@pytest.fixture(autouse=True)
def _store(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))


@task
def thread_name() -> str:
    return threading.current_thread().name


@task
def fails_once(seen: Any) -> int:
    seen.append(1)
    if len(seen) == 1:
        raise ValueError("the first time")
    return len(seen)


def test_a_retry_can_use_another_runner() -> None:
    small, large = Noted(1), Noted(2)
    asked: list[int] = []

    def bigger(run_count: int) -> Runner:
        asked.append(run_count)
        return small if run_count == 1 else large

    @flow(retries=2, runner=bigger)
    def trains() -> Any:
        if flow_run.run_count < 3:
            thread_name().wait()
            raise MemoryError
        return thread_name()

    trains()
    assert asked == [1, 2, 3]
    assert (small.used, large.used) == ([1], [2, 3])  # type: ignore[attr-defined]


def test_the_runner_of_an_attempt_can_be_an_address() -> None:
    @flow
    def asks() -> Any:
        return thread_name()

    assert asks.with_options(runner=lambda _: "threads?workers=1")() == "penstock-worker-0"


def test_code_takes_precedence_over_settings_and_settings_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[str] = []

    def note(event: Any) -> None:
        if isinstance(event, events.RunStarted):
            chosen.append(event.runner)

    @flow
    def unbound() -> Any:
        return thread_name()

    default = load_settings()
    monkeypatch.setenv("PENSTOCK_RUNNER", "threads?workers=2")
    for bound, settings in (
        (unbound, default),
        (unbound, load_settings()),
        (unbound, load_settings(flags={"runner": "threads?workers=3"})),
        (unbound.with_options(runner="threads?workers=4"), load_settings(flags={"runner": "threads?workers=3"})),
    ):
        bound.run_with({}, settings=settings, subscribers=[note]).result()
    assert "workers=" in chosen[0]
    assert [f"workers={n}" in each for n, each in zip((2, 3, 4), chosen[1:], strict=True)] == [True] * 3


def test_a_subflow_uses_the_outer_runner_unless_it_has_its_own() -> None:
    outer, own = Noted(1), Noted(1)

    @flow
    def inner() -> Any:
        return thread_name()

    @flow(runner=outer)
    def both() -> Any:
        return inner(), inner.with_options(runner=own)()

    both()
    assert (outer.used, own.used) == ([1], [1])  # type: ignore[attr-defined]


# -- retries of subflows ----------------


class Seen(list[int]):
    """Shared with the threads that run tasks, not copied for them."""

    def __deepcopy__(self, memo: Any) -> Seen:
        return self


def test_a_subflow_is_retried_by_its_own_retries() -> None:
    seen, counts = Seen(), []

    @flow(retries=1)
    def inner() -> Any:
        counts.append(flow_run.run_count)
        return fails_once(seen)

    @flow(runner=ThreadRunner(1))
    def outer() -> Any:
        return inner()

    run = outer.run()
    assert (run.state, run.result(), counts) == ("completed", 2, [1, 2])


def test_what_a_failed_attempt_of_a_subflow_finished_is_a_hit() -> None:
    seen, ran = Seen(), Seen()

    @task(cache_policy=INPUTS, key_name="costly")
    def costly(n: int) -> int:
        ran.append(n)
        return n

    @flow(retries=1)
    def inner() -> Any:
        return costly(1) + fails_once(seen)

    @flow(runner=ThreadRunner(1))
    def outer() -> Any:
        return inner()

    assert outer() == 3
    assert ran == [1]


def test_the_last_failure_of_a_subflow_is_raised_at_its_call() -> None:
    tries: list[int] = []

    @task
    def broken() -> None:
        raise ValueError("always")

    @flow(retries=2)
    def inner() -> None:
        tries.append(1)
        broken()

    @flow(runner=ThreadRunner(1))
    def outer() -> Any:
        try:
            inner()
        except ValueError as error:
            return str(error)

    run = outer.run()
    assert (run.state, run.result(), len(tries)) == ("completed", "always", 3)


def test_a_subflow_that_raises_by_itself_is_retried() -> None:
    tries: list[int] = []

    @flow(retries=1)
    def inner() -> int:
        tries.append(1)
        if len(tries) == 1:
            raise LookupError
        return 5

    @flow(runner=ThreadRunner(1))
    def outer() -> Any:
        return inner()

    assert outer() == 5


def test_an_async_subflow_is_retried() -> None:
    seen = Seen()

    @flow(retries=1)
    async def inner() -> Any:
        return fails_once(seen)

    @flow(runner=ThreadRunner(1))
    async def outer() -> Any:
        return await inner()

    assert asyncio.run(outer()) == 2  # type: ignore[arg-type]


def test_a_subflow_without_retries_is_not_waited_for() -> None:
    go = threading.Event()

    @task
    def waits() -> bool:
        return go.wait(100)

    @flow
    def inner() -> Any:
        return waits()

    @flow(runner=ThreadRunner(1))
    def outer() -> Any:
        future = inner()
        go.set()
        return future

    assert outer() is True


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("dask+tcp://h:1?shp=x", "did you mean ship?"),
        ("dask+tcp://h:1?ship=x&security=y", "the only option is ship"),
        ("ray://h:10001?shp=x", "did you mean ship?"),
        ("threads?worker=2", "did you mean workers?"),
        ("processes?threads=2", "the options are workers, ship"),
        ("dask?workers=2&shp=x", "did you mean ship?"),
    ],
)
def test_an_option_that_a_runners_address_does_not_have_is_refused(address: str, hint: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        runner_from(address)
    assert refused.value.hint == hint
