"""Tests of runners: failures, timeouts and dying workers do not affect other calls."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from penstock import events
from penstock.errors import RunnerError, TaskFailed, TaskTimeout, UpstreamFailed, WorkerLost
from penstock.graph.policies import INPUTS, IsolationLevel
from penstock.tasks import task
from penstock.testing.runners import tasks
from penstock.testing.runners.support import PATIENCE, RunnerBench

t: Any = tasks  # to type checkers calls give values; here many give futures, which is what is under test
SERIALIZABLE = INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE)


class FailureTests(RunnerBench):
    """Failures, retries, timeouts, resources, dying workers."""

    # -- failures

    def test_a_failure_stops_only_its_dependents(self) -> None:
        log = self.log

        def fails() -> Any:
            bad = t.fail(log, "broken")
            after = t.double(log, bad)
            good = t.double(log, 2)
            states = [f.result(raise_on_failure=False) for f in (bad, after, good)]
            return [type(s).__name__ if isinstance(s, Exception) else s for s in states]

        assert self.value(fails) == ["ValueError", "UpstreamFailed", 4]
        assert self.executions() == {"fail": 1, "double": 1}

    def test_an_unhandled_failure_fails_the_run_after_the_rest_is_done(self) -> None:
        log = self.log

        def fails() -> Any:
            t.fail(log, "broken")
            return t.nap(log, "other", 0.2)

        run = self.run(fails)
        assert run.state == "failed"
        with pytest.raises(ValueError, match="broken"):
            run.result()
        assert run.counts["failed"] == 1
        assert self.executions() == {"fail": 1, "nap": 1}

    def test_a_failure_that_the_flow_handles_does_not_fail_the_run(self) -> None:
        log = self.log

        def handles() -> Any:
            try:
                return t.fail(log, "broken").result()
            except ValueError as error:
                return str(error)

        run = self.run(handles)
        assert (run.state, run.result()) == ("completed", "broken")

    def test_a_dependent_names_the_task_that_failed(self) -> None:
        log = self.log

        def fails() -> Any:
            return t.double(log, t.double(log, t.fail(log, "broken"))).result()

        with pytest.raises(UpstreamFailed, match=r"fail.*broken") as caught:
            self.value(fails)
        assert isinstance(caught.value.__cause__, ValueError)

    def test_an_exception_that_cannot_be_pickled_arrives_with_its_text(self) -> None:
        log = self.log

        def fails() -> Any:
            return t.fail_unpicklably(log)

        with pytest.raises((TaskFailed, t.Unpicklable), match="two parts"):
            self.value(fails)

    def test_an_exception_arrives_with_what_caused_it_and_what_was_handled(self) -> None:
        log = self.log

        def fails() -> list[Any]:
            calls = [t.fail_after_others(log, how) for how in ("from", "while", "from None", "group")]
            return [call.result(raise_on_failure=False) for call in calls]

        caused, handling, alone, group = self.value(fails)
        assert [type(caused.__cause__), type(caused.__cause__.__cause__)] == [KeyError, OSError]
        assert caused.__suppress_context__
        assert caused.__context__ is caused.__cause__
        assert (handling.__cause__, type(handling.__context__), handling.__suppress_context__) == (
            None,
            KeyError,
            False,
        )
        assert (alone.__cause__, type(alone.__context__), alone.__suppress_context__) == (None, KeyError, True)
        assert type(group.__cause__) is KeyError
        (inner,) = group.exceptions[0].exceptions
        assert (type(inner), type(inner.__cause__)) == (ValueError, KeyError)

    def test_a_raised_exception_keeps_its_cause(self) -> None:
        log = self.log
        with pytest.raises(ValueError, match="failed") as error:
            self.value(lambda: t.fail_after_others(log, "from").result())
        assert type(error.value.__cause__) is KeyError

    def test_a_cause_that_cannot_be_pickled_arrives_with_its_text(self) -> None:
        log = self.log
        with pytest.raises(ValueError, match="failed") as error:
            self.value(lambda: t.fail_after_others(log, "unpicklable"))
        cause = error.value.__cause__
        assert isinstance(cause, TaskFailed | t.HoldsLock)
        assert "locked" in str(cause)
        assert type(cause.__cause__) is KeyError

    def test_an_exception_of_the_flows_own_class_is_raised_as_that_class(self) -> None:
        class OwnError(Exception):
            pass

        @task
        def fails_its_own_way() -> None:
            raise OwnError("mine")

        def fails() -> Any:
            return fails_its_own_way()

        with pytest.raises(OwnError, match="mine"):
            self.value(fails)

    def test_a_result_that_cannot_be_serialized_fails_only_its_task(self) -> None:
        log = self.log
        bad = t.make_lock.with_options(cache_policy=INPUTS)

        def stored() -> Any:
            good = t.double(log, 1)
            failure = bad(log).result(raise_on_failure=False)
            return isinstance(failure, Exception), good

        assert self.value(stored) == (True, 2)

    def test_an_argument_that_a_worker_cannot_read_fails_only_its_call(self) -> None:
        log = self.log

        def sends() -> Any:
            bad = t.show(log, t.BreaksWhenLoaded())
            good = t.double(log, 1)
            return type(bad.result(raise_on_failure=False)).__name__, good

        shown, good = self.value(sends)
        assert good == 2
        assert shown in ("ZeroDivisionError", "str")  # engines that share memory have nothing to load

    # -- retries

    def test_a_task_that_fails_at_first_is_retried(self) -> None:
        log = self.log
        flaky = t.flaky.with_options(retries=3)

        def retried() -> Any:
            return flaky(log, "x", 3)

        run = self.run(retried)
        assert run.result() == 3
        assert run.counts["retried"] == 2
        assert self.executions() == {"flaky": 3}

    def test_attempts_end_after_the_last_retry(self) -> None:
        log = self.log
        flaky = t.flaky.with_options(retries=2)

        def retried() -> Any:
            return flaky(log, "x", 99)

        with pytest.raises(ValueError, match="attempt 3"):
            self.value(retried)
        assert self.executions() == {"flaky": 3}

    @pytest.mark.parametrize(
        ("delays", "expected"),
        [(0.02, [0.02] * 3), ([0.01, 0.03], [0.01, 0.03, 0.03]), (lambda n: [0.01 * n] * n, [0.03] * 3)],
        ids=["number", "list", "callable"],
    )
    def test_delays_can_be_a_number_a_list_or_a_function(self, delays: Any, expected: list[float]) -> None:
        log = self.log
        flaky = t.flaky.with_options(retries=3, retry_delay_seconds=delays)

        def retried() -> Any:
            return flaky(log, "x", 4)

        assert self.value(retried) == 4
        assert self.delays() == pytest.approx(expected)

    def test_jitter_only_lengthens_a_delay(self) -> None:
        log = self.log
        flaky = t.flaky.with_options(retries=5, retry_delay_seconds=0.01, retry_jitter_factor=0.5)

        def retried() -> Any:
            return flaky(log, "x", 6)

        assert self.value(retried) == 6
        assert all(0.01 <= delay <= 0.015 for delay in self.delays())
        assert len(set(self.delays())) == 5

    def delays(self) -> list[float]:
        """The delays before retries, as they were announced."""
        return [event.delay for event in self.seen if isinstance(event, events.NodeRetried)]

    def test_a_condition_that_returns_false_ends_the_attempts(self) -> None:
        log = self.log
        asked: list[str] = []

        def only_connections(task: Any, task_run: Any, state: Any) -> bool:
            try:
                state.result()
            except ConnectionError:
                return True
            except ValueError as error:
                asked.append(str(error))
            return False

        flaky = t.flaky.with_options(retries=5, retry_condition_fn=only_connections)

        def retried() -> Any:
            return flaky(log, "x", 99)

        with pytest.raises(ValueError, match="attempt 1"):
            self.value(retried)
        assert self.executions() == {"flaky": 1}
        assert len(asked) == 1

    def test_a_delay_before_a_retry_occupies_no_worker(self) -> None:
        log = self.log
        flaky = t.flaky.with_options(retries=1, retry_delay_seconds=1.0)

        def retried() -> Any:
            slow = flaky(log, "x", 2)
            return slow, [t.moment(log, f"other {n}") for n in range(3)], t.moment.submit(log, "end", wait_for=[slow])

        _, others, end = self.value(retried, workers=1)
        assert all(other < end - 0.3 for other in others)

    def test_calls_that_wait_for_their_retry_do_not_block_others(self) -> None:
        log = self.log
        flaky = t.flaky.with_options(retries=1, retry_delay_seconds=3600)

        def waits() -> Any:
            for n in range(4):
                flaky(log, f"x{n}", 2)
            t.double(log, 0).wait()
            deadline = time.monotonic() + PATIENCE / 2
            while len(self.delays()) < 4 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert t.double(log, 1).result() == 2
            raise LookupError("an hour is too long")

        run = self.run(waits)
        assert isinstance(run.error, LookupError)
        assert self.delays() == [3600] * 4
        assert self.executions() == {"flaky": 4, "double": 2}

    def test_a_cached_task_is_published_once_whatever_its_retries(self) -> None:
        log = self.log
        flaky = t.flaky.with_options(retries=2, cache_policy=SERIALIZABLE)

        def retried() -> Any:
            return flaky(log, "x", 2)

        assert [self.value(retried), self.value(retried)] == [2, 2]
        assert self.executions() == {"flaky": 2}

    # -- timeouts

    def test_a_task_that_times_out_fails_and_frees_its_worker(self) -> None:
        log = self.log
        slow = t.spin.with_options(timeout_seconds=0.3)

        def too_slow() -> Any:
            late = slow(log, PATIENCE).result(raise_on_failure=False)
            return isinstance(late, TaskTimeout), t.double(log, 1)

        started = time.monotonic()
        assert self.value(too_slow, workers=1) == (True, 2)
        assert time.monotonic() - started < PATIENCE / 2

    def test_a_timed_out_task_is_retried(self) -> None:
        log = self.log
        slow = t.slow_at_first.with_options(timeout_seconds=2.5, retries=1)  # a new worker imports first

        def too_slow() -> Any:
            return slow(log, PATIENCE)

        assert self.value(too_slow) == 2

    # -- resources

    def test_resources_can_grow_with_the_attempt(self) -> None:
        log = self.log
        asked: list[int] = []

        def growing(attempt: int) -> dict[str, Any]:
            asked.append(attempt)
            return {"cpu": 1, "memory": f"{attempt}MB"}

        flaky = t.flaky.with_options(retries=2, resources=growing)

        def grows() -> Any:
            return flaky(log, "x", 3)

        assert self.value(grows) == 3
        assert sorted(set(asked)) == [1, 2, 3]

    def test_resources_that_no_worker_has_are_an_error_and_nothing_hangs(self) -> None:
        log = self.log
        greedy = t.double.with_options(resources={"unobtainium": 3})

        def asks() -> Any:
            failure = greedy(log, 1).result(raise_on_failure=False)
            return failure, t.double(log, 2)

        failure, other = self.value(asks)
        assert isinstance(failure, RunnerError)
        assert "unobtainium" in str(failure)
        assert other == 4

    def test_calls_that_need_everything_run_one_at_a_time(self) -> None:
        log = self.log
        exclusive = t.alone.with_options(resources={"cpu": float(os.cpu_count() or 1)})

        def one_by_one() -> Any:
            return [exclusive(log, n) for n in range(4)]

        assert self.value(one_by_one, workers=1) == [0, 1, 2, 3]

    # -- workers that die

    def test_a_call_whose_worker_is_killed_runs_again_elsewhere(self) -> None:
        self.needs_killing()
        log = self.log

        def killed() -> Any:
            values = [t.double(log, n) for n in range(4)]
            for value in values:
                value.wait()  # over before: what a dying worker did not tell yet, runs again
            return t.die_at_first(log), values

        assert self.value(killed) == (2, [0, 2, 4, 6])
        assert self.executions() == {"die_at_first": 2, "double": 4}

    def test_a_killed_worker_does_not_run_published_tasks_again(self) -> None:
        self.needs_killing()
        log = self.log
        keep = t.double.with_options(cache_policy=INPUTS)

        def killed() -> Any:
            values = [keep(log, n) for n in range(4)]
            died = t.die_at_first.submit(log, wait_for=values)
            return died, t.total.submit(log, values, wait_for=[died])

        assert self.value(killed) == (2, 12)
        assert self.executions() == {"double": 4, "die_at_first": 2, "total": 1}

    def test_a_task_that_kills_every_worker_is_the_only_one_to_fail(self) -> None:
        self.needs_killing()
        log = self.log

        def deadly() -> Any:
            failure = t.die(log).result(raise_on_failure=False)
            return isinstance(failure, WorkerLost), t.double(log, 1)

        assert self.value(deadly) == (True, 2)

    def needs_killing(self) -> None:
        if not self.kills_workers:
            pytest.skip("its workers are not processes of their own")
