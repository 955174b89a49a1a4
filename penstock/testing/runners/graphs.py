"""Tests of runners: graphs of all shapes give the right values."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.errors import PenstockError
from penstock.flows.decorator import flow
from penstock.tasks import unmapped
from penstock.testing.runners import tasks
from penstock.testing.runners.support import PATIENCE, RunnerBench

t: Any = tasks  # to type checkers calls give values; here many give futures, which is what is under test


class GraphTests(RunnerBench):
    """Graphs, sync points, subflows, and kinds of tasks."""

    # -- shapes of graphs

    def test_a_fan_out_returns_every_value_in_order(self) -> None:
        log = self.log

        def fan_out() -> Any:
            return [t.double(log, n) for n in range(20)]

        run = self.run(fan_out)
        assert run.result() == [2 * n for n in range(20)]
        assert run.counts["executed"] == 20
        assert self.executions() == {"double": 20}

    def test_a_chain_passes_each_value_on(self) -> None:
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

    def test_a_flow_returns_values_for_futures_wherever_they_are(self) -> None:
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

    def test_calls_wait_for_the_calls_in_wait_for(self) -> None:
        log = self.log

        def ordered() -> Any:
            first = t.nap(log, "first", 0.1)
            second = t.moment.submit(log, "second", wait_for=[first])
            return first, t.moment.submit(log, "third", wait_for=[second]), second

        first, third, second = self.value(ordered)
        assert first < second < third

    def test_a_call_whose_value_is_unused_runs_for_its_effect(self) -> None:
        log = self.log

        def effect() -> None:
            t.double(log, 1)

        assert self.value(effect) is None
        assert self.executions() == {"double": 1}

    def test_map_zips_lists_and_repeats_unmapped_values(self) -> None:
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

    def test_a_branch_depends_on_the_value_of_its_condition(self) -> None:
        log = self.log

        def branch() -> Any:
            return t.add(log, 1, 1) if t.double(log, 1) == 2 else t.total(log, [])

        assert self.value(branch) == 2
        assert self.executions() == {"double": 1, "add": 1}

    def test_loops_lengths_comparisons_and_texts_use_values(self) -> None:
        log = self.log

        def looks() -> Any:
            items = t.numbers(log, 4)
            seen = [n for n in items if n > 1]
            text = f"{t.double(log, 2)}/{t.double(log, 3):03d}"
            return seen, len(items), text, str(t.double(log, 4)), t.double(log, 5) + 1

        assert self.value(looks) == ([2, 3], 4, "4/006", "8", 11)

    def test_calls_made_before_a_sync_point_run_in_parallel(self) -> None:
        log = self.log

        def together() -> Any:
            a, b = t.meet(log, "a", "b", PATIENCE / 2), t.meet(log, "b", "a", PATIENCE / 2)
            return bool(a) and bool(b)

        assert self.value(together) is True

    def test_a_value_used_by_a_call_after_a_sync_point_is_kept(self) -> None:
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

    def test_a_subflow_with_its_own_runner_is_a_separate_run(self) -> None:
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

    # -- what tasks are

    def test_async_tasks_run_to_their_end(self) -> None:
        log = self.log

        def awaits() -> Any:
            return t.add(log, t.async_double(log, 2), t.async_double(log, 3))

        assert self.value(awaits) == 10

    def test_the_value_of_a_generator_is_the_list_of_its_items(self) -> None:
        log = self.log

        def streams() -> Any:
            items = t.stream(log, 3)
            return t.total(log, items), t.total(log, items)

        assert self.value(streams) == (3, 3)

    def test_prints_go_to_the_log_on_request(self, caplog: pytest.LogCaptureFixture) -> None:
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

    def test_a_task_called_in_a_task_runs_there_immediately(self) -> None:
        log = self.log

        def calls() -> Any:
            return t.calls_another(log, 3)

        assert self.value(calls) == 7
        assert self.executions() == {"double": 1}

    def test_large_values_arrive_whole(self) -> None:
        log = self.log

        def large() -> Any:
            data = t.text(log, 3_000_000)
            return t.length(log, data), len(data)

        assert self.value(large) == ((3_000_000, True), 3_000_000)

    def test_a_base_exception_fails_the_task_and_no_worker(self) -> None:
        log = self.log

        def exits() -> Any:
            return t.caught(t.leave(log))

        assert self.value(exits) == "TaskFailed"

    # -- flows without calls, calls that do not fit

    def test_nothing_runs_if_the_flow_function_raises_before_any_call(self) -> None:
        def raises() -> Any:
            raise LookupError("at once")

        run = self.run(raises)
        assert run.state == "failed"
        assert run.counts["executed"] == 0

    def test_a_run_without_calls_returns_its_value(self) -> None:
        assert self.value(lambda: 5) == 5

    def test_arguments_that_do_not_match_raise_at_the_call(self) -> None:
        log = self.log

        def misfit() -> Any:
            return t.double(log, 1, 2, 3)

        with pytest.raises(PenstockError):
            self.value(misfit)
