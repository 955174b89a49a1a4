"""What the counts of a run say of its calls, however it ends."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import INPUTS, flow, task
from penstock.runs import Run, tally

ENDS = ("hit", "pruned", "executed", "failed", "not_run")


@task(cache_policy=INPUTS)
def once(x: int) -> int:
    return x + 1


@task(cache_policy=INPUTS)
def broken(x: int) -> int:
    raise ZeroDivisionError


@flow
def mixed(end: str) -> Any:
    """Call what was stored before, what was not, and what fails; then return, raise or stop."""
    found = once(once(once(1)))
    new = once(once(10))
    lost = once(broken(new))
    if end == "raises at once":
        raise ValueError(end)
    if end == "is interrupted":
        assert found.result() == 4  # type: ignore[attr-defined]
        raise KeyboardInterrupt
    if end == "catches":
        with pytest.raises(ZeroDivisionError):
            lost.result()  # type: ignore[attr-defined]
        return new, found
    return new, found, lost


def ends(run: Run[Any]) -> dict[str, int]:
    return {name: run.counts[name] for name in ENDS if run.counts[name]}


def test_calls_that_a_failed_flow_never_decided_are_not_reused() -> None:
    assert ends(mixed.run("raises at once")) == {"not_run": 7}


def test_calls_above_a_hit_of_a_failed_run_are_reused() -> None:
    flow(lambda: once(once(once(1))))()
    assert ends(mixed.run("returns")) == {"hit": 1, "pruned": 2, "executed": 2, "failed": 1, "not_run": 1}


def test_calls_below_a_failure_did_not_run() -> None:
    run = flow(lambda: once(broken(1))).run()
    assert ends(run) == {"failed": 1, "not_run": 1}


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("end", ["raises at once", "is interrupted", "catches", "returns"])
def test_each_call_of_a_run_has_one_end_in_its_counts(end: str, warm: bool) -> None:
    runs: list[Run[Any]] = []
    if warm:
        flow(lambda: [once(once(once(1))), once(10)])()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("penstock.active_runs.tally", lambda run, state: (runs.append(run), tally(run, state)))
        try:
            mixed.run(end)
        except KeyboardInterrupt:
            assert end == "is interrupted"
    (run,) = runs
    assert sum(ends(run).values()) == len(run.graph)
    assert sum(counts[name] for counts in run.by_task().values() for name in ENDS) == len(run.graph)
