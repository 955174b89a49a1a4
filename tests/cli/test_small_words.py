"""Small promises of what `show` says about waits, locks and failures."""

from __future__ import annotations

from penstock import events
from penstock.cli.commands import inspecting


def parked(**holder: str) -> events.NodeParked:
    return events.NodeParked(at=1.0, node=1, task="m:t", key="k", holder=holder)


def test_whom_a_call_waited_for_is_named_as_far_as_it_is_known() -> None:
    both = [(parked(run="r1", host="h"), 2.0), (parked(run="r1", host="h"), 5.0)]
    (line,) = inspecting._waited(both).splitlines()
    assert line.startswith("m:t: 2 waited up to 5")
    assert line.endswith("for run r1 on h")
    assert inspecting._waited([(parked(), 1.0)]).endswith("for somebody")
    assert "db" in inspecting._waited([(parked(limit="db"), 1.0)])
    assert "waiting for" in inspecting._waited([(parked(run="r1"), None)])


def test_lost_leases_and_calls_without_locks_are_told_once() -> None:
    down = [events.LocksDown(at=1.0, doing="lock", reason="no answer", unlocked=n > 0) for n in range(3)]
    assert inspecting._locks(2, down).splitlines() == [
        "the lease ran out 2 times",
        "cannot lock: no answer",
        "tasks ran without locks",
    ]
    assert inspecting._locks(0, []) == ""


def test_a_failure_tells_how_many_calls_it_kept_from_running() -> None:
    failed = events.NodeFailed(at=1.0, node=3, task="m:t", attempt=2, error="ValueError", message="bad", skipped=4)
    assert inspecting._failure(failed, debug=False).splitlines() == [
        "m:t (node 3, attempt 2): ValueError: bad",
        "4 dependent calls did not run",
    ]
