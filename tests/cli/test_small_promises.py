"""Small promises of the command line that larger tests miss: what it says of failures, logs and stores."""

from __future__ import annotations

import importlib.metadata
import shutil
from typing import Any

import pytest

from penstock import errors, events
from penstock.cli.commands import doctor as doctors
from penstock.cli.failures import describe_error, describe_failure, exit_code_of
from penstock.cli.run_log import MOST_FAILURES, MOST_NOTES, SLOWEST, RunLog
from penstock.environments import Environment
from penstock.process.termination import EXIT_CODE, Terminated
from penstock.settings import load_settings
from penstock.storage.stores.base import Conditions
from penstock.storage.stores.memory import MemoryStore

TRACEBACK = (
    'Traceback (most recent call last):\n  File "/home/me/flow.py", line 3, in load\n    1 / 0\nZeroDivisionError: x\n'
)


def failure(node: int = 1, **more: Any) -> events.NodeFailed:
    return events.NodeFailed(
        at=0.0, node=node, task="load", attempt=1, error="ZeroDivisionError", message="x", traceback=TRACEBACK, **more
    )


def of_node(error: Exception, node: int = 1) -> Exception:
    error.add_note(f"in task load, node {node}, attempt 1")
    return error


# -- failures ---------------------------------------------------------------------------------------------------------


def test_a_terminated_command_exits_as_one_that_a_signal_stopped() -> None:
    assert exit_code_of(Terminated()) == EXIT_CODE


def test_the_call_that_caused_a_failure_is_named_not_the_one_that_waited_for_it() -> None:
    waited = errors.UpstreamFailed("an input failed")
    waited.__cause__ = of_node(ZeroDivisionError("x"))
    said = describe_failure(waited, [failure(node=7), failure(node=1)])
    assert said.startswith("task load failed (node 1, attempt 1)")
    assert "1 / 0" in said
    assert "also failed: load (node 7)" in said


def test_causes_that_form_a_circle_are_followed_once() -> None:
    waited = errors.UpstreamFailed("of the task itself")
    waited.__cause__ = errors.UpstreamFailed("another")
    waited.__cause__.__cause__ = waited
    assert "another" in describe_failure(waited, [failure()])


def test_a_failure_tells_how_many_calls_did_not_run_because_of_it() -> None:
    error = of_node(ZeroDivisionError("x"))
    assert describe_failure(error, [failure(skipped=3)]).endswith("3 dependent calls did not run")
    assert describe_failure(error, [failure(skipped=1)]).endswith("1 dependent call did not run")
    assert "did not run" not in describe_failure(error, [failure()])


def test_a_failed_tasks_own_error_of_penstock_is_shown_without_a_traceback_unless_asked() -> None:
    error = of_node(errors.StoreUnreachable("the store is away", hint="start it"))
    said = describe_failure(error, [failure()])
    assert "the store is away" in said
    assert "start it" in said
    assert "Traceback" not in said
    assert TRACEBACK.rstrip() in describe_failure(error, [failure()], debug=True)


def test_an_error_that_no_call_explains_is_shown_itself() -> None:
    assert describe_failure(ValueError("of the flow"), [failure()]) == describe_error(ValueError("of the flow"))


def test_debugging_shows_the_whole_traceback() -> None:
    with pytest.raises(errors.ConfigurationError) as refused:
        load_settings(overrides={"runner": ""})
    assert "Traceback" in describe_error(refused.value, debug=True)
    assert "Traceback" not in describe_error(refused.value)


# -- the log of a run -------------------------------------------------------------------------------------------------


def finished(node: int, seconds: float, how: Any = "executed", *notes: str) -> events.NodeFinished:
    return events.NodeFinished(at=0.0, node=node, task="load", how=how, attempt=1, seconds=seconds, notes=notes)


def test_the_slowest_calls_are_those_that_ran_and_among_equals_the_first() -> None:
    log = [finished(node, node % 4) for node in range(20)] + [finished(99, 1e6, "hit")]
    assert [event.node for event in RunLog.of(log).slowest] == [3, 7, 11, 15, 19][:SLOWEST]


def test_a_log_of_a_resumed_run_tells_of_the_last_start_only() -> None:
    started = events.RunStarted(at=0.0, run="r", flow="f", attempt=2, runner="threads", store="s")
    seen = RunLog.of([failure(), finished(1, 2.0), started, finished(2, 1.0)])
    assert seen.failures == []
    assert [event.node for event in seen.slowest] == [2]


def test_a_run_with_very_many_failures_counts_all_and_keeps_a_bounded_number() -> None:
    seen = RunLog.of(failure(node) for node in range(MOST_FAILURES + 5))
    assert seen.failed == MOST_FAILURES + 5
    assert len(seen.failures) == MOST_FAILURES


def test_a_note_is_shown_once_however_often_it_was_made_and_only_a_bounded_number() -> None:
    revived = events.NodeRevived(at=0.0, node=3, task="load", reason="its result is damaged")
    seen = RunLog.of([finished(1, 1.0, "executed", "slow disk"), finished(2, 1.0, "hit", "slow disk"), revived])
    assert list(seen.notes) == [("load", "slow disk"), ("load", "its result is damaged")]
    many = RunLog.of(finished(n, 1.0, "executed", f"note {n}") for n in range(MOST_NOTES + 5))
    assert len(many.notes) == MOST_NOTES


def test_an_outage_of_the_locks_is_told_once_and_only_a_bounded_number_is_kept() -> None:
    down = events.LocksDown(at=0.0, doing="to take locks", reason="refused")
    seen = RunLog.of([down, down, events.LocksLost(at=0.0, held=2)])
    assert (list(seen.outages.values()), seen.locks_lost) == ([down], 1)
    many = RunLog.of(events.LocksDown(at=0.0, doing="x", reason=str(n)) for n in range(MOST_NOTES + 5))
    assert len(many.outages) == MOST_NOTES


def test_a_wait_is_open_until_its_call_goes_on() -> None:
    first, second = (events.NodeParked(at=0.0, node=n, task="load", key="k", holder={"run": "other"}) for n in (1, 2))
    unseen = events.NodeUnparked(at=0.0, node=9, task="load", seconds=1.0)
    seen = RunLog.of([first, second, events.NodeUnparked(at=0.0, node=1, task="load", seconds=4.0), unseen])
    assert seen.waits == {1: (first, 4.0), 2: (second, None)}


# -- doctor -----------------------------------------------------------------------------------------------------------


class Probed(MemoryStore):
    """A store whose service handles conditional writes in some way."""

    found = Conditions("enforced")

    def conditions(self, *, afresh: bool = False) -> Conditions:
        return self.found


def examined(
    monkeypatch: pytest.MonkeyPatch, store: MemoryStore | None = None, **settings: str
) -> dict[str, doctors.Check]:
    environment = Environment(load_settings(overrides={"locks": "memory", **settings}))
    results = type("Results", (), {"store": store or MemoryStore()})()
    monkeypatch.setattr(environment, "results", lambda address=None: results)
    monkeypatch.setattr(doctors, "current_records", lambda results: iter(()))
    return {check.name: check for check in doctors.examine(environment)}


@pytest.mark.parametrize(
    ("found", "writes", "versions"),
    [
        (Conditions("enforced"), "ok", None),
        (Conditions("enforced", versioned=False), "ok", "ok"),
        (Conditions("enforced", versioned=True), "ok", "warn"),
        (Conditions("ignored", versioned=True), "warn", "warn"),
        (Conditions("unsupported"), "warn", None),
    ],
)
def test_doctor_tells_of_a_bucket_that_accepts_a_second_writer_or_keeps_what_is_deleted(
    monkeypatch: pytest.MonkeyPatch, found: Conditions, writes: str, versions: str | None
) -> None:
    store = Probed()
    store.found = found
    checks = examined(monkeypatch, store)
    assert checks["store writes"].state == writes
    assert (checks["store versions"].state if "store versions" in checks else None) == versions
    if writes == "warn":
        assert found.verdict in checks["store writes"].said
        assert ("versioned buckets" in checks["store writes"].said) is bool(found.versioned)


@pytest.mark.parametrize("bucket", [False, True])
def test_doctor_warns_of_an_index_that_the_store_does_not_use(monkeypatch: pytest.MonkeyPatch, bucket: bool) -> None:
    class Index:
        def check(self) -> None:
            pass

    monkeypatch.setattr(doctors, "index_from", lambda address: Index())
    store = MemoryStore()
    if bucket:
        monkeypatch.setattr(MemoryStore, "use_index", lambda self, index: None, raising=False)
    assert examined(monkeypatch, store, index="redis://127.0.0.1:1")["index"].state == ("ok" if bucket else "warn")


def test_doctor_warns_before_the_disk_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    for free, state in ((doctors.LITTLE_SPACE - 1, "warn"), (doctors.LITTLE_SPACE, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda folder, free=free: usage._replace(free=free))
        assert doctors._free_space("/").state == state


def test_doctor_names_a_package_that_penstock_needs_and_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version

    def without_rich(name: str) -> str:
        if name == "rich":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without_rich)
    (check,) = [check for check in doctors._packages() if check.state == "fail"]
    assert (check.said, check.hint) == ("not installed: rich", "pip install rich")


def test_doctor_rejects_locks_that_two_sessions_get(monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        def try_acquire(self, keys: list[str]) -> list[None]:
            return [None]

        def close(self) -> None:
            pass

    class Generous:
        reach = "process"

        def open_session(self, **more: Any) -> Session:
            return Session()

        def __repr__(self) -> str:
            return "Generous()"

    monkeypatch.setattr(doctors, "_manager", lambda environment: Generous())
    check = examined(monkeypatch)["locks"]
    assert (check.state, check.said) == ("fail", "Generous() gave one lock to two sessions")


def test_doctor_survives_any_error_of_what_it_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(MemoryStore):
        def put_if_absent(self, name: str, data: bytes) -> bool:
            raise RuntimeError("a bug of a plugin")

    checks = examined(monkeypatch, Broken())
    assert (checks["store"].state, checks["store"].said) == ("fail", "RuntimeError: a bug of a plugin")
    assert checks["runner"].state == "ok"
