"""Flows of hostile calls with innocent ones between them: users' objects can fail their own task, but never cause a
hang, a dead worker, another task's error or a broken log.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from penstock import INPUTS, events, flow, task
from penstock.journals.journal import list_records, read_events
from penstock.objects.texts import traceback_of
from penstock.runners import Runner
from penstock.settings import load_settings
from penstock.storage import open_store
from tests.runners.hostile_objects import Case, armed, cases


@task
def takes(value: Any) -> str:
    return "taken"


@task
def returns(case: Case) -> Any:
    return case.make()


@task(cache_policy=INPUTS, key_name="keeps hostile")
def keeps(kind: str, method: str, behaviour: str) -> Any:
    return Case(kind, method, behaviour).make()


@task
def raises(case: Case) -> Any:
    raise case.make()


@task
def raises_below(case: Case, stored: int) -> Any:
    raise case.make()


@task
def raises_from(case: Case) -> Any:
    try:
        raise LookupError("first") from case.make()
    except LookupError as error:
        raise ValueError("then") from error


@task
def raises_group(case: Case) -> Any:
    raise ExceptionGroup("several", [ValueError("one"), case.make()]) from case.make()


@task
def squares(n: int) -> int:
    return n * n


def outcome(future: Any) -> Any:
    """Return how a call ended."""
    try:
        return future.result()
    except Exception as error:  # noqa: BLE001 (whatever it is)
        return error


def passed_as_argument(case: Case) -> list[Any]:
    return [takes.submit(case.make())]


def passed_as_result(case: Case) -> list[Any]:
    made = returns.submit(case)
    return [takes.submit(made), made]


def kept(case: Case) -> list[Any]:
    made = keeps.submit(*case)
    return [takes.submit(made), made]


def raised(case: Case) -> list[Any]:
    return [raises.submit(case)]


def raised_below(case: Case) -> list[Any]:
    return [raises_below.submit(case, squares.with_options(cache_policy=INPUTS)(2))]


def raised_from(case: Case) -> list[Any]:
    return [raises_from.submit(case)]


def raised_in_a_group(case: Case) -> list[Any]:
    return [raises_group.submit(case)]


WAYS: list[tuple[Callable[[Case], list[Any]], str]] = [
    (passed_as_argument, "argument"),
    (passed_as_argument, "held"),
    (passed_as_result, "result"),
    (kept, "result"),
    (raised, "exception"),
    (raised_below, "exception"),
    (raised_from, "exception"),
    (raised_in_a_group, "exception"),
]


def check(runner: Runner, folder: Path, call: Callable[[Case], list[Any]], kind: str) -> None:
    """Run a flow of all cases of a kind, and check that everything ended as it must."""
    tried = cases(kind)

    def hostile() -> tuple[int, list[Any]]:
        ended, innocent = [], []
        for place, case in enumerate(tried):
            innocent.append(squares.submit(place))
            with contextlib.suppress(BaseException):  # caused by the flow itself, which passes its own object
                ended += call(case)
        for each in ended:
            outcome(each)
        return len(ended), [each.result() for each in innocent]

    bound: Any = flow(runner=runner)(hostile)
    settings = load_settings(overrides={"store": str(folder / "store")})
    seen: list[events.Event] = []
    # Not in the main thread, where KeyboardInterrupt means Ctrl-C.
    armed[0] = True
    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(bound.run_with, {}, settings=settings, subscribers=[seen.append])
        error = ended.exception()
    armed[0] = False
    if error is not None:
        pytest.fail(traceback_of(error), pytrace=False)  # pytest would inspect hostile objects
    run = ended.result()
    if run.error is not None:
        pytest.fail(traceback_of(run.error), pytrace=False)
    calls, innocent = run.result()
    assert innocent == [place * place for place in range(len(tried))]
    assert calls > 0.8 * len(tried)
    assert run.counts["retried"] == 0, [each for each in seen if isinstance(each, events.NodeRetried)]
    store = open_store(settings.store)
    (record,) = list_records(store)
    assert record.state == "completed"
    logged = Counter(type(each).__name__ for each in read_events(store, run.id))
    assert logged["NodeFailed"] == run.counts["failed"]
    if kind == "exception":
        assert run.counts["failed"] == len(tried)


every_way = pytest.mark.parametrize(("call", "kind"), WAYS, ids=[f"{call.__name__}-{kind}" for call, kind in WAYS])
quietly = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::RuntimeWarning", "ignore::DeprecationWarning"
)
"""What a destructor raises is only warned of."""
