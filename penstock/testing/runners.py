"""What every runner has to do: a conformance suite to subclass.

    class TestMyRunner(RunnerTests):
        kills_workers = True    # its workers are processes, and a dead one is noticed

        def make_runner(self, workers):
            return MyRunner(workers)

The flows, the values and the counts are the same on every runner. Tasks leave a mark in a folder each time they run, so
that executions are counted wherever they happen; a store that workers of other machines should reach is given by
overriding `make_store`.
"""

from __future__ import annotations

import functools
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from penstock import events
from penstock.errors import PenstockError, RunnerError, TaskFailed, TaskTimeout, UpstreamFailed, WorkerLost
from penstock.flows import Flow, flow
from penstock.graph.policies import DEFAULT, INPUTS, IsolationLevel
from penstock.runners.base import Runner
from penstock.runs import Run
from penstock.settings import Settings, load_settings
from penstock.tasks import task, unmapped
from penstock.testing import tasks

t: Any = tasks  # to type checkers calls give values; here many give futures, which is what is under test
PATIENCE = 60.0
"""Seconds a run may take before the test fails as hanging; never waited for when all is well."""
SERIALIZABLE = INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE)


class RunnerTests:
    """Subclass it as `Test…` and override `make_runner`."""

    kills_workers: ClassVar[bool] = False
    """Whether workers are processes whose death is noticed."""
    keeps_processes: ClassVar[bool] = False
    """Whether the engine outlives runs, so that its processes and threads may stay."""

    def make_runner(self, workers: int) -> Runner:
        """A runner for this many calls at a time (or as many as it has, if that cannot be chosen)."""
        raise NotImplementedError

    def make_store(self, folder: Path) -> str:
        """The address of an empty store that the workers reach."""
        return str(folder / "store")

    # -- the test's own tools

    @pytest.fixture(autouse=True)
    def _tools(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        monkeypatch.setenv("TMPDIR", str(scratch))
        monkeypatch.setattr(tempfile, "tempdir", str(scratch))
        self.log = str(tmp_path / "log")
        os.mkdir(self.log)
        self.settings: Settings = load_settings(overrides={"store": self.make_store(tmp_path)})
        self.seen: list[events.Event] = []
        before = set(threading.enumerate())
        yield
        if not self.keeps_processes:
            started = [thread for thread in threading.enumerate() if thread not in before]
            assert [thread.name for thread in started if thread.name.startswith("penstock-")] == []
            assert list(scratch.iterdir()) == []

    def run(self, fn: Callable[..., Any], *args: Any, workers: int = 2, **options: Any) -> Run[Any]:
        """The run of `fn` as a flow, over; fails the test if it hangs."""
        bound: Flow[Any, Any] = flow(runner=self.make_runner(workers), **options)(fn)
        run: Run[Any] = self.within(functools.partial(self._run, bound, args))
        return run

    def _run(self, bound: Flow[Any, Any], args: tuple[Any, ...]) -> Run[Any]:
        parameters = bound.signature.bind(bound.name, args, {})
        return bound.run_with(parameters, settings=self.settings, subscribers=[self.seen.append])

    def within(self, call: Callable[[], Any]) -> Any:
        """What `call` returns or raises, in a thread that may hang without taking the tests along."""
        ended: list[tuple[Any, BaseException | None]] = []

        def body() -> None:
            try:
                ended.append((call(), None))
            except BaseException as error:  # noqa: BLE001 (handed over to the test)
                ended.append((None, error))

        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        if not ended:
            pytest.fail(f"hangs: not over after {PATIENCE:g} s")
        value, error = ended[0]
        if error is not None:
            raise error
        return value

    def value(self, fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """What the flow returns; raises what it raises."""
        return self.run(fn, *args, **options).result()

    def executions(self) -> dict[str, int]:
        """How often each task ran so far, by the name it was marked with."""
        return dict(Counter(name.rpartition("@")[0] for name in os.listdir(self.log)))

    def finished(self) -> dict[str, list[str]]:
        """By task, how its nodes got their values."""
        found: dict[str, list[str]] = {}
        for event in self.seen:
            if isinstance(event, events.NodeFinished):
                found.setdefault(event.task, []).append(event.how)
        return found

    # -- shapes of graphs

    def test_a_fan_out_gives_every_value_in_order(self) -> None:
        log = self.log

        def fan_out() -> Any:
            return [t.double(log, n) for n in range(20)]

        run = self.run(fan_out)
        assert run.result() == [2 * n for n in range(20)]
        assert run.counts["executed"] == 20
        assert self.executions() == {"double": 20}

    def test_a_chain_hands_each_value_on(self) -> None:
        log = self.log

        def chain() -> Any:
            value = t.double(log, 1)
            for _ in range(9):
                value = t.double(log, value)
            return value

        assert self.value(chain) == 2**10
        assert self.executions() == {"double": 10}

    def test_a_reduction_sees_all_its_inputs(self) -> None:
        log = self.log

        def reduction() -> Any:
            return t.total(log, [t.double(log, n) for n in range(10)])

        assert self.value(reduction) == 90

    def test_a_diamond_runs_its_top_once(self) -> None:
        log = self.log

        def diamond() -> Any:
            top = t.double(log, 1)
            return t.add(log, t.add(log, top, 10), t.add(log, top, 20))

        assert self.value(diamond) == 34
        assert self.executions() == {"double": 1, "add": 3}

    def test_futures_are_found_in_nested_containers(self) -> None:
        log = self.log

        def nested() -> Any:
            a, b, c = (t.double(log, n) for n in (1, 2, 3))
            return t.show(log, {"list": [a, (b, {"deep": c})], "set": frozenset([a]), "plain": 1})

        assert self.value(nested) == repr({"list": [2, (4, {"deep": 6})], "set": frozenset([2]), "plain": 1})

    def test_items_and_attributes_of_a_future_are_lazy(self) -> None:
        log = self.log

        def lazy() -> Any:
            made = t.make_record(log, 5)
            return t.add(log, made["n"], made["point"].imag)

        assert self.value(lazy) == 12.0

    def test_a_flow_returns_its_futures_as_values_wherever_they_are(self) -> None:
        log = self.log

        def returns() -> Any:
            a = t.double(log, 1)
            return {
                "a": a,
                "list": [a, (a, 5)],
                "part": t.make_record(log, 5)["n"],
                "map": t.double.map(unmapped(log), [1]),
            }

        assert self.value(returns) == {"a": 2, "list": [2, (2, 5)], "part": 5, "map": [2]}

    def test_calls_wait_for_what_they_are_told_to_wait_for(self) -> None:
        log = self.log

        def ordered() -> Any:
            first = t.nap(log, "first", 0.1)
            second = t.moment.submit(log, "second", wait_for=[first])
            return first, t.moment.submit(log, "third", wait_for=[second]), second

        first, third, second = self.value(ordered)
        assert first < second < third

    def test_a_call_that_is_not_returned_runs_for_its_effect(self) -> None:
        log = self.log

        def effect() -> None:
            t.double(log, 1)

        assert self.value(effect) is None
        assert self.executions() == {"double": 1}

    def test_map_pairs_lists_and_repeats_what_is_unmapped(self) -> None:
        log = self.log

        def mapped() -> Any:
            return t.total(log, t.add.map(unmapped(log), [1, 2, 3], [10, 20, 30]))

        assert self.value(mapped) == 66

    def test_map_over_a_future_waits_for_its_length(self) -> None:
        log = self.log

        def mapped() -> Any:
            return t.double.map(unmapped(log), t.numbers(log, 3))

        assert self.value(mapped) == [0, 2, 4]

    # -- sync points

    def test_a_branch_takes_the_way_its_value_says(self) -> None:
        log = self.log

        def branch() -> Any:
            return t.add(log, 1, 1) if t.double(log, 1) == 2 else t.total(log, [])

        assert self.value(branch) == 2
        assert self.executions() == {"double": 1, "add": 1}

    def test_loops_lengths_comparisons_and_texts_see_values(self) -> None:
        log = self.log

        def looks() -> Any:
            items = t.numbers(log, 4)
            seen = [n for n in items if n > 1]
            text = f"{t.double(log, 2)}/{t.double(log, 3):03d}"
            return seen, len(items), text, str(t.double(log, 4)), t.double(log, 5) + 1

        assert self.value(looks) == ([2, 3], 4, "4/006", "8", 11)

    def test_what_was_called_before_a_sync_point_runs_in_parallel(self) -> None:
        log = self.log

        def together() -> Any:
            a, b = t.meet(log, "a", "b", PATIENCE / 2), t.meet(log, "b", "a", PATIENCE / 2)
            return bool(a) and bool(b)

        assert self.value(together) is True

    def test_a_value_wanted_by_a_call_after_a_sync_point_is_kept(self) -> None:
        log = self.log

        def kept() -> Any:
            busy = [t.nap(log, f"busy {n}", 0.05 * n) for n in range(6)]
            value = t.double(log, 1)
            value.wait()
            value = t.double(log, value)
            busy[3].wait()  # by now the driver has had every reason to let the first value go
            return t.total(log, [value])

        assert self.value(kept, workers=4) == 4
        assert self.executions()["double"] == 2

    # -- subflows

    def test_a_flow_called_in_a_flow_joins_its_graph(self) -> None:
        log = self.log

        @flow
        def inner(n: int) -> Any:
            return t.double(log, n)

        def outer() -> Any:
            return t.total(log, [inner(n) for n in range(3)])

        run = self.run(outer)
        assert run.result() == 6
        assert len(run.graph) == 4

    def test_a_subflow_bound_to_a_runner_is_a_run_of_its_own(self) -> None:
        log = self.log
        runner = self.make_runner(2)

        @flow(runner=runner)
        def inner(n: Any) -> Any:
            return t.double(log, n)

        def outer() -> Any:
            return t.add(log, inner(t.double(log, 1)), 1)

        run = self.run(outer)
        assert run.result() == 5
        assert len(run.graph) == 2

    # -- caching

    def test_a_second_run_executes_nothing(self) -> None:
        log = self.log
        double, add = (task.with_options(cache_policy=INPUTS) for task in (t.double, t.add))

        def cached() -> Any:
            return add(log, double(log, 1), double(log, 2))

        first, second = self.run(cached), self.run(cached)
        assert (first.result(), second.result()) == (6, 6)
        assert first.counts["executed"] == 3
        assert second.counts["executed"] == 0
        assert second.counts["hit"] == 1
        assert second.counts["pruned"] == 2
        assert self.executions() == {"double": 2, "add": 1}

    def test_plain_and_cached_tasks_mix(self) -> None:
        log = self.log
        cached = t.add.with_options(cache_policy=INPUTS)

        def mixed() -> Any:
            return t.double(log, cached(log, t.double(log, 1), cached(log, 1, 1)))

        assert [self.value(mixed), self.value(mixed)] == [8, 8]
        assert self.executions() == {"double": 4, "add": 2}

    def test_the_same_call_twice_in_a_graph_runs_once(self) -> None:
        log = self.log
        cached = t.double.with_options(cache_policy=INPUTS)

        def twice() -> Any:
            return [cached(log, 7), cached(log, 7)]

        assert self.value(twice) == [14, 14]
        assert self.executions() == {"double": 1}

    def test_equal_inputs_by_different_ways_run_once_and_hit(self) -> None:
        log = self.log
        double, add, total = (task.with_options(cache_policy=INPUTS) for task in (t.double, t.add, t.total))

        def two_ways() -> Any:
            return [total(log, [double(log, 3)]), total(log, [add(log, 1, 5)])]

        run = self.run(two_ways)
        assert run.result() == [6, 6]
        assert self.executions() == {"double": 1, "add": 1, "total": 1}
        assert sorted(self.finished()["total"]) == ["executed", "hit"]

    def test_an_upstream_that_runs_again_with_the_same_value_leaves_hits_below(self) -> None:
        log = self.log
        total = t.total.with_options(cache_policy=INPUTS)

        def cut_off(refresh: bool) -> Any:
            return total(log, [t.double.with_options(cache_policy=INPUTS, refresh_cache=refresh)(log, 1)])

        assert [self.value(cut_off, False), self.value(cut_off, True)] == [2, 2]
        assert self.executions() == {"double": 2, "total": 1}

    def test_serializable_calls_below_plain_ones_run_once_per_key(self) -> None:
        log = self.log
        total = t.total.with_options(cache_policy=SERIALIZABLE)

        def worker_keys() -> Any:
            return [total(log, [t.double(log, 2)]) for _ in range(4)]

        assert self.value(worker_keys) == [4] * 4
        assert self.executions() == {"double": 4, "total": 1}

    def test_two_runs_at_once_compute_a_serializable_key_once(self) -> None:
        log = self.log
        slow = t.nap.with_options(cache_policy=SERIALIZABLE)

        def shared() -> Any:
            return slow(log, "shared", 0.3)

        values: list[Any] = []
        threads = [threading.Thread(target=lambda: values.append(self.value(shared))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert len(values) == 3
        assert len(set(values)) == 1
        assert self.executions() == {"nap": 1}

    def test_a_large_hit_goes_to_the_worker_that_wants_it_and_not_through_the_driver(self) -> None:
        log = self.log
        text = t.text.with_options(cache_policy=INPUTS)

        def make() -> Any:
            text(log, 300_000)

        def use() -> Any:
            return t.length(log, text(log, 300_000))

        self.value(make)
        assert self.value(use) == (300_000, True)
        assert self.executions() == {"text": 1, "length": 1}

    def test_what_one_consumer_does_to_a_cached_value_no_other_sees(self) -> None:
        log = self.log
        numbers = t.numbers.with_options(cache_policy=INPUTS)

        def mutates() -> Any:
            items = numbers(log, 3)
            first = t.append_to(log, items, 99)
            return first, t.append_to.submit(log, items, 98, wait_for=[first]), items

        assert self.value(mutates) == ([0, 1, 2, 99], [0, 1, 2, 98], [0, 1, 2])

    def test_a_result_whose_bytes_are_gone_is_made_again_in_the_same_run(self) -> None:
        log = self.log
        text = t.text.with_options(cache_policy=INPUTS)

        def make() -> Any:
            return len(text(log, 50_000))

        def use(consumers: int) -> Any:
            return [t.length(log, text(log, 50_000), n) for n in range(consumers)]

        assert self.value(make) == 50_000
        self.damage_payloads()
        assert self.value(use, 5) == [(50_000 + n, True) for n in range(5)]
        assert self.executions()["text"] == 2
        self.damage_payloads()
        assert self.value(make) == 50_000
        assert self.executions()["text"] == 3

    def damage_payloads(self) -> None:
        """Remove the bytes of every stored value, past the store. Override it together with `make_store`."""
        for payload in Path(self.settings.store).glob("results/*/*/*"):
            if not payload.name.endswith(".record.json"):
                payload.unlink()

    # -- failures

    def test_a_failure_stops_only_what_depends_on_it(self) -> None:
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

    def test_a_dependent_says_which_task_failed(self) -> None:
        log = self.log

        def fails() -> Any:
            return t.double(log, t.double(log, t.fail(log, "broken"))).result()

        with pytest.raises(UpstreamFailed, match=r"fail.*broken") as caught:
            self.value(fails)
        assert isinstance(caught.value.__cause__, ValueError)

    def test_an_exception_that_does_not_pickle_comes_with_its_text(self) -> None:
        log = self.log

        def fails() -> Any:
            return t.fail_unpicklably(log)

        with pytest.raises((TaskFailed, t.Unpicklable), match="two parts"):
            self.value(fails)

    def test_an_exception_of_the_flow_s_own_class_is_raised_as_that_class(self) -> None:
        class OwnError(Exception):
            pass

        @task
        def fails_its_own_way() -> None:
            raise OwnError("mine")

        def fails() -> Any:
            return fails_its_own_way()

        with pytest.raises(OwnError, match="mine"):
            self.value(fails)

    def test_a_result_that_does_not_serialize_fails_its_task_alone(self) -> None:
        log = self.log
        bad = t.make_lock.with_options(cache_policy=INPUTS)

        def stored() -> Any:
            good = t.double(log, 1)
            failure = bad(log).result(raise_on_failure=False)
            return isinstance(failure, Exception), good

        assert self.value(stored) == (True, 2)

    def test_an_argument_that_cannot_be_read_by_a_worker_fails_its_call_alone(self) -> None:
        log = self.log

        def sends() -> Any:
            bad = t.show(log, t.BreaksWhenLoaded())
            good = t.double(log, 1)
            return type(bad.result(raise_on_failure=False)).__name__, good

        shown, good = self.value(sends)
        assert good == 2
        assert shown in ("ZeroDivisionError", "str")  # engines that share memory have nothing to load

    # -- retries

    def test_a_task_that_fails_at_first_is_tried_again(self) -> None:
        log = self.log
        flaky = t.flaky.with_options(retries=3)

        def retried() -> Any:
            return flaky(log, "x", 3)

        run = self.run(retried)
        assert run.result() == 3
        assert run.counts["retried"] == 2
        assert self.executions() == {"flaky": 3}

    def test_tries_end_after_the_last_retry(self) -> None:
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
    def test_delays_come_from_a_number_a_list_or_a_function(self, delays: Any, expected: list[float]) -> None:
        log = self.log
        flaky = t.flaky.with_options(retries=3, retry_delay_seconds=delays)

        def retried() -> Any:
            return flaky(log, "x", 4)

        assert self.value(retried) == 4
        assert self.delays() == pytest.approx(expected)

    def test_jitter_only_ever_stretches_a_delay(self) -> None:
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

    def test_a_condition_that_says_no_ends_the_tries(self) -> None:
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

    def test_a_delay_before_a_retry_holds_no_slot(self) -> None:
        log = self.log
        flaky = t.flaky.with_options(retries=1, retry_delay_seconds=1.0)

        def retried() -> Any:
            slow = flaky(log, "x", 2)
            return slow, [t.moment(log, f"other {n}") for n in range(3)], t.moment.submit(log, "end", wait_for=[slow])

        _, others, end = self.value(retried, workers=1)
        assert all(other < end - 0.3 for other in others)

    def test_a_cached_task_is_published_once_whatever_its_retries(self) -> None:
        log = self.log
        flaky = t.flaky.with_options(retries=2, cache_policy=SERIALIZABLE)

        def retried() -> Any:
            return flaky(log, "x", 2)

        assert [self.value(retried), self.value(retried)] == [2, 2]
        assert self.executions() == {"flaky": 2}

    # -- time-outs

    def test_a_task_that_runs_too_long_fails_and_frees_its_slot(self) -> None:
        log = self.log
        slow = t.spin.with_options(timeout_seconds=0.3)

        def too_slow() -> Any:
            late = slow(log, PATIENCE).result(raise_on_failure=False)
            return isinstance(late, TaskTimeout), t.double(log, 1)

        started = time.monotonic()
        assert self.value(too_slow, workers=1) == (True, 2)
        assert time.monotonic() - started < PATIENCE / 2

    def test_a_timed_out_task_is_tried_again(self) -> None:
        log = self.log
        slow = t.slow_at_first.with_options(timeout_seconds=0.5, retries=1)

        def too_slow() -> Any:
            return slow(log, PATIENCE)

        assert self.value(too_slow) == 2

    # -- resources

    def test_resources_may_grow_with_the_attempt(self) -> None:
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

    def test_what_no_worker_has_is_an_error_and_nothing_hangs(self) -> None:
        log = self.log
        greedy = t.double.with_options(resources={"unobtainium": 3})

        def asks() -> Any:
            failure = greedy(log, 1).result(raise_on_failure=False)
            return failure, t.double(log, 2)

        failure, other = self.value(asks)
        assert isinstance(failure, RunnerError)
        assert "unobtainium" in str(failure)
        assert other == 4

    def test_calls_that_need_everything_run_one_after_the_other(self) -> None:
        log = self.log
        exclusive = t.alone.with_options(resources={"cpu": float(os.cpu_count() or 1)})

        def one_by_one() -> Any:
            return [exclusive(log, n) for n in range(4)]

        assert self.value(one_by_one, workers=1) == [0, 1, 2, 3]

    # -- what tasks are

    def test_async_tasks_run_to_their_end(self) -> None:
        log = self.log

        def awaits() -> Any:
            return t.add(log, t.async_double(log, 2), t.async_double(log, 3))

        assert self.value(awaits) == 10

    def test_a_generator_s_items_are_its_value(self) -> None:
        log = self.log

        def streams() -> Any:
            items = t.stream(log, 3)
            return t.total(log, items), t.total(log, items)

        assert self.value(streams) == (3, 3)

    def test_prints_go_to_the_log_if_asked_for(self, caplog: pytest.LogCaptureFixture) -> None:
        log = self.log

        def prints() -> Any:
            return t.say.with_options(log_prints=True)(log, "from the task")

        with caplog.at_level("INFO", logger="penstock"):
            self.value(prints)
        assert ("penstock.task_runs.say", "from the task") in [(r.name, r.getMessage()) for r in caplog.records]

    def test_a_task_knows_its_run(self) -> None:
        log = self.log
        tagged = t.about_the_run.with_options(retries=1, tags={"blue"})

        def informed() -> Any:
            return tagged(log, 5)

        run = self.run(informed, tags={"green"})
        about = run.result()
        assert about == {
            "flow": ("informed", run.id, 1, ("green",)),
            "task": ("about_the_run", 2, ("blue",), {"n": 5}, run.id),
        }

    def test_a_task_called_in_a_task_runs_there_at_once(self) -> None:
        log = self.log

        def calls() -> Any:
            return t.calls_another(log, 3)

        assert self.value(calls) == 7
        assert self.executions() == {"double": 1}

    def test_large_values_travel_whole(self) -> None:
        log = self.log

        def large() -> Any:
            data = t.text(log, 3_000_000)
            return t.length(log, data), len(data)

        assert self.value(large) == ((3_000_000, True), 3_000_000)

    def test_an_exception_of_a_base_class_fails_the_task_and_no_worker(self) -> None:
        log = self.log

        def exits() -> Any:
            return t.caught(t.leave(log))

        assert self.value(exits) == "SystemExit"

    # -- cancelling

    def test_a_flow_that_raises_stops_what_runs(self) -> None:
        log = self.log

        def raises() -> Any:
            t.spin(log, PATIENCE)
            t.wait_for_mark(log, "spin", PATIENCE / 2).wait()
            raise LookupError("enough")

        started = time.monotonic()
        run = self.run(raises)
        assert run.state == "failed"
        assert isinstance(run.error, LookupError)
        assert time.monotonic() - started < PATIENCE / 2

    def test_what_a_failed_run_finished_is_a_hit_of_the_next(self) -> None:
        log = self.log
        keep = t.double.with_options(cache_policy=INPUTS)

        def flow_body(broken: bool) -> Any:
            first = keep(log, 1)
            first.wait()
            if broken:
                raise LookupError("enough")
            return t.add(log, first, 1)

        assert self.run(flow_body, True).state == "failed"
        assert self.value(flow_body, False) == 3
        assert self.executions() == {"double": 1, "add": 1}

    def test_a_resumed_run_finds_what_it_had_finished(self) -> None:
        log = self.log
        keep = t.double.with_options(cache_policy=DEFAULT)  # keys of this run only

        def resumable() -> Any:
            return t.flaky(log, "x", 2) if keep(log, 1) == 2 else None

        bound: Flow[Any, Any] = flow(runner=self.make_runner(2))(resumable)
        run = self.within(lambda: bound.run_with({}, settings=self.settings))
        assert run.state == "failed"
        again = self.within(lambda: bound.resume(run.id, settings=self.settings))
        assert again.id == run.id
        assert again.state == "failed"  # flaky counts attempts of one run
        assert self.executions()["double"] == 1

    # -- workers that die

    def test_a_call_whose_worker_is_killed_runs_again_elsewhere(self) -> None:
        self.needs_killing()
        log = self.log

        def killed() -> Any:
            return t.die_at_first(log), [t.double(log, n) for n in range(4)]

        assert self.value(killed) == (2, [0, 2, 4, 6])
        assert self.executions() == {"die_at_first": 2, "double": 4}

    def test_a_killed_worker_does_not_run_published_tasks_again(self) -> None:
        self.needs_killing()
        log = self.log
        keep = t.double.with_options(cache_policy=INPUTS)

        def killed() -> Any:
            values = [keep(log, n) for n in range(4)]
            return t.die_at_first.submit(log, wait_for=values), t.total(log, values)

        assert self.value(killed) == (2, 12)
        assert self.executions() == {"double": 4, "die_at_first": 2, "total": 1}

    def test_a_task_that_kills_every_worker_fails_and_nothing_else_does(self) -> None:
        self.needs_killing()
        log = self.log

        def deadly() -> Any:
            failure = t.die(log).result(raise_on_failure=False)
            return isinstance(failure, WorkerLost), t.double(log, 1)

        assert self.value(deadly) == (True, 2)

    def needs_killing(self) -> None:
        if not self.kills_workers:
            pytest.skip("its workers are not processes of their own")

    # -- trouble with the settings

    def test_nothing_runs_if_the_flow_function_raises_before_any_call(self) -> None:
        def raises() -> Any:
            raise LookupError("at once")

        run = self.run(raises)
        assert run.state == "failed"
        assert run.counts["executed"] == 0

    def test_a_run_without_calls_returns_its_value(self) -> None:
        assert self.value(lambda: 5) == 5

    def test_arguments_that_do_not_fit_raise_where_the_call_is(self) -> None:
        log = self.log

        def misfit() -> Any:
            return t.double(log, 1, 2, 3)

        with pytest.raises(PenstockError):
            self.value(misfit)
