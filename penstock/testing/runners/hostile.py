"""Tests of runners: users' objects cannot break the runner, whatever they do."""

from __future__ import annotations

import dataclasses
import os
import sys
import traceback
from typing import Any

import pytest

from penstock import events
from penstock.errors import TaskFailed
from penstock.journals.journal import list_records, read_events
from penstock.storage import open_store
from penstock.tasks import task
from penstock.testing.runners import tasks
from penstock.testing.runners.support import RunnerBench

t: Any = tasks  # to type checkers calls give values; here many give futures, which is what is under test


class HostileTests(RunnerBench):
    """Exceptions with failing methods, and tasks that exit, fork, or have names that no file can have."""

    def outcomes(self, calls: list[Any]) -> list[Any]:
        """Return the value of each call, or the name of its exception."""
        ended = [call.result(raise_on_failure=False) for call in calls]
        return [type(each).__name__ if isinstance(each, BaseException) else each for each in ended]

    def test_an_exception_that_refuses_everything_fails_only_its_task(self) -> None:
        @dataclasses.dataclass(frozen=True)
        class Frozen(Exception):
            row: int

        class WithoutText(Exception):
            def __str__(self) -> str:
                return None  # type: ignore[return-value]  # noqa: PLE0307

        class ExitsWhenShown(Exception):
            def __str__(self) -> str:  # noqa: PLE0307
                sys.exit(3)

            __repr__ = __str__

        class RefusesNotes(Exception):
            def add_note(self, note: str) -> None:
                raise KeyError(note)

            @property
            def __notes__(self) -> list[str]:  # type: ignore[override]
                raise SystemExit

        class OtherArguments(Exception):
            def __init__(self, one: int, two: int) -> None:
                super().__init__(one)

        class BecomesANumber(Exception):
            def __reduce__(self) -> Any:
                return int, (3,)

        class ExitsWhenRead(Exception):
            def __setstate__(self, state: Any) -> None:
                sys.exit(0)

            def __init__(self) -> None:
                self.told = 1

        kinds: list[Any] = [
            lambda: Frozen(1),
            WithoutText,
            ExitsWhenShown,
            RefusesNotes,
            lambda: OtherArguments(1, 2),
            BecomesANumber,
            ExitsWhenRead,
            lambda: ValueError("lone \udcff"),
        ]

        @task
        def raises(n: int) -> Any:
            if n < len(kinds):
                raise kinds[n]()
            return n

        run = self.run(lambda: self.outcomes([raises(n) for n in range(10)]))
        assert run.result() == [
            "Frozen",
            "WithoutText",
            "ExitsWhenShown",
            "RefusesNotes",
            "OtherArguments",
            "BecomesANumber",
            "ExitsWhenRead",
            "ValueError",
            8,
            9,
        ]
        assert run.counts["retried"] == 0
        self.log_tells(run.id, failures=8)

    def test_a_flow_can_catch_the_exception_of_its_task(self) -> None:
        @dataclasses.dataclass(frozen=True)
        class Frozen(Exception):
            row: int

        @task
        def raises() -> None:
            raise Frozen(7)

        def flow() -> int:
            try:
                raises.submit().result()
            except Frozen as error:
                return error.row
            return 0

        assert self.value(flow) == 7
        with pytest.raises(Frozen):
            self.value(lambda: raises())

    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
    def test_exiting_the_program_is_a_failure_of_the_task(self, kind: type[BaseException]) -> None:
        @task
        def leaves(n: int) -> int:
            if n == 1:
                raise kind(0)
            return n

        def flow() -> Any:
            return self.outcomes([leaves(n) for n in range(3)]), leaves(1)

        run = self.run(flow)
        assert run.state == "failed"
        with pytest.raises(TaskFailed, match=kind.__name__):
            run.result()
        assert self.value(lambda: self.outcomes([leaves(n) for n in range(3)])) == [0, "TaskFailed", 2]

    def test_a_message_that_cannot_be_encoded_breaks_no_log(self) -> None:
        @task
        def misnamed(n: int) -> int:
            if n == 1:
                raise ValueError("also \udcfe")
            return n

        run = self.run(lambda: self.outcomes([misnamed(n) for n in range(3)]))
        assert run.result() == [0, "ValueError", 2]
        self.log_tells(run.id, failures=1)

    def test_a_forked_child_that_returns_from_its_task_is_ended(self) -> None:
        @task
        def forks(how: str) -> int:
            child = os.fork()
            if child == 0:
                if how == "raises":
                    raise ValueError("in the child")
                if how == "exits":
                    sys.exit(7)
                return -1
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        assert self.value(lambda: [forks(how) for how in ("returns", "raises", "exits")]) == [0, 1, 7]

    def test_a_call_that_always_kills_its_worker_is_the_only_one_to_fail(self) -> None:
        if not self.kills_workers:
            pytest.skip("its workers are not processes of their own")

        @task
        def ends(n: int) -> int:
            if n == 7:
                os._exit(1)
            return n

        def flow() -> Any:
            assert [ends.submit(n).result() for n in (100, 101)] == [
                100,
                101,
            ]  # timed, so that the others travel together
            return self.outcomes([ends.submit(n) for n in range(20)])

        run = self.run(flow, workers=1)
        assert run.result() == [*range(7), "WorkerLost", *range(8, 20)]
        assert any(isinstance(event, events.BundleSubmitted) for event in self.seen)

    def test_a_traceback_shows_the_users_lines_and_none_of_penstock(self) -> None:
        @task
        def divides(by: int) -> float:
            return 1 / by  # the line that fails

        run = self.run(lambda: divides(0))
        shown = "".join(traceback.format_exception(run.error))
        assert "return 1 / by  # the line that fails" in shown
        assert "penstock/runners/" not in shown
        assert "penstock/runs.py" not in shown
        (failed,) = [each for each in self.seen if isinstance(each, events.NodeFailed)]
        assert "return 1 / by  # the line that fails" in failed.traceback
        assert "<dynamic-code>" not in failed.traceback

    def log_tells(self, run: str, *, failures: int) -> None:
        """Check that the run's record and log are complete."""
        store = open_store(self.settings.store)
        (record,) = [each for each in list_records(store) if each.id == run]
        assert record.state == "completed"
        logged = [each for each in read_events(store, run) if isinstance(each, events.NodeFailed)]
        assert len(logged) == failures
