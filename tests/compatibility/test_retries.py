"""Published retry snippets with only their imports changed; delays are in milliseconds to save time."""

from __future__ import annotations

import pytest

from penstock import exponential_backoff, flow, get_run_logger, task
from penstock.runtime import flow_run, task_run

RAN: list[object] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


class Refused(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@flow(retries=2)
def unlucky_flow() -> str:
    RAN.append(flow_run.run_count)
    if len(RAN) < 3:
        raise RuntimeError("not yet")
    return "done"


def test_a_flow_is_retried() -> None:
    assert unlucky_flow() == "done"
    assert RAN == [1, 2, 3]


@task
def steady() -> None:
    RAN.append("steady")


@task(retries=4, retry_delay_seconds=0.001)
def unsteady() -> None:
    RAN.append("unsteady")
    if RAN.count("unsteady") < 3:
        raise ConnectionError


@flow
def mixed() -> None:
    steady()
    unsteady()


def test_only_the_failed_task_runs_again() -> None:
    mixed()
    assert RAN.count("steady") == 1
    assert RAN.count("unsteady") == 3


@pytest.mark.parametrize("delays", [0.001, [0.001, 0.002], exponential_backoff(backoff_factor=0.001)])
def test_delays_can_be_a_number_a_list_or_a_backoff(delays) -> None:
    @task(retries=2, retry_delay_seconds=delays, retry_jitter_factor=0.5)
    def twice_unlucky() -> int:
        RAN.append("tried")
        if len(RAN) < 3:
            raise ConnectionError
        return len(RAN)

    assert twice_unlucky() == 3


def test_exponential_backoff_doubles() -> None:
    assert exponential_backoff(backoff_factor=2)(4) == [2, 4, 8, 16]


def retry_handler(task, task_run, state) -> bool:
    try:
        state.result()
    except Refused as refused:
        return refused.status not in (401, 404)
    except Exception:  # noqa: BLE001 (as published)
        return True


@task(retries=3, retry_condition_fn=retry_handler)
def call_api(status: int) -> int:
    RAN.append(status)
    raise Refused(status)


@flow
def ask(status: int) -> int:
    return call_api(status=status)


@pytest.mark.parametrize(("status", "tries"), [(401, 1), (503, 4)])
def test_a_condition_decides_whether_to_retry(status: int, tries: int) -> None:
    with pytest.raises(Refused):
        ask(status)
    assert RAN.count(status) == len(RAN) == tries


@task(retries=2)
def count_attempts() -> int:
    RAN.append(task_run.run_count)
    if task_run.run_count < 3:
        get_run_logger().warning("attempt %s", task_run.run_count)
        raise RuntimeError
    return task_run.run_count


def test_a_task_knows_its_attempt() -> None:
    assert count_attempts() == 3
    assert RAN == [1, 2, 3]


def test_a_flow_can_branch_on_its_attempt() -> None:
    @task(cache_key_fn=lambda context, parameters: "prepared")
    def prepare() -> str:
        RAN.append("prepare")
        return "table"

    @task
    def fit(table: str, size: str) -> str:
        if size == "small":
            raise MemoryError
        return f"{table} on {size}"

    @flow(retries=1)
    def train() -> str:
        return fit(prepare(), "small" if flow_run.run_count == 1 else "large")

    assert train() == "table on large"
    assert RAN == ["prepare"]


def test_the_error_of_the_task_survives_a_condition_that_raises() -> None:
    def broken(task, task_run, state) -> bool:
        raise LookupError("no such status")

    @task(retries=3, retry_condition_fn=broken)
    def call() -> int:
        RAN.append("call")
        raise Refused(503)

    @flow
    def calling() -> int:
        return call()

    with pytest.raises(Refused) as caught:
        calling()
    assert RAN == ["call"]
    assert any("LookupError: no such status" in note for note in caught.value.__notes__)


def test_the_error_of_the_task_survives_invalid_delays() -> None:
    def delays(retries: int) -> list[float]:
        raise LookupError("no delays")

    @task(retries=3, retry_delay_seconds=delays)
    def call() -> int:
        raise Refused(503)

    @flow
    def calling() -> int:
        return call()

    with pytest.raises(Refused) as caught:
        calling()
    assert any("LookupError: no delays" in note for note in caught.value.__notes__)
