"""Tests of runners: results are reused."""

from __future__ import annotations

import threading
import time
from typing import Any

from penstock.flows.decorator import flow
from penstock.flows.definition import Flow
from penstock.graph.policies import DEFAULT, INPUTS, IsolationLevel
from penstock.runners.local.threads import ThreadRunner
from penstock.testing.runners import tasks
from penstock.testing.runners.support import PATIENCE, RunnerBench

t: Any = tasks  # to type checkers calls give values; here many give futures, which is what is under test
SERIALIZABLE = INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE)


class ResultTests(RunnerBench):
    """Caching, single flight, lost bytes, resuming."""

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

    def test_plain_and_cached_tasks_can_be_mixed(self) -> None:
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

    def test_equal_inputs_from_different_calls_run_once_and_hit(self) -> None:
        log = self.log
        double, add, total = (task.with_options(cache_policy=INPUTS) for task in (t.double, t.add, t.total))

        def two_ways() -> Any:
            return [total(log, [double(log, 3)]), total(log, [add(log, 1, 5)])]

        run = self.run(two_ways)
        assert run.result() == [6, 6]
        assert self.executions() == {"double": 1, "add": 1, "total": 1}
        assert sorted(self.finished()["total"]) == ["executed", "hit"]

    def test_an_upstream_that_reruns_with_the_same_value_leaves_hits_below(self) -> None:
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

    def test_two_concurrent_runs_compute_a_serializable_key_once(self) -> None:
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

    def test_calls_that_wait_for_another_runs_locks_do_not_block_others(self) -> None:
        log = self.log
        held = t.until.with_options(cache_policy=SERIALIZABLE)

        def other() -> Any:
            return [held(log, "go", PATIENCE, n) for n in (0, 1, 2, 4)]

        bound: Flow[Any, Any] = flow(runner=ThreadRunner(4))(other)
        holder = threading.Thread(target=lambda: bound.run_with({}, settings=self.settings))

        def waits() -> Any:
            # Of the last one the key is known only on a worker.
            contended = [held(log, "go", PATIENCE, n) for n in (0, 1, 2, t.double(log, 2))]
            quick = [t.double(log, n).result() for n in range(3)]
            tasks.mark(log, "go")
            return quick, contended

        holder.start()
        try:
            assert all(tasks.until_marked(log, f"until {n}", PATIENCE / 2) for n in (0, 1, 2, 4))
            quick, contended = self.value(waits)
        finally:
            tasks.mark(log, "go")
            holder.join(PATIENCE)
        assert (quick, contended) == ([0, 2, 4], [0, 1, 2, 4])
        assert {name: n for name, n in self.executions().items() if name.startswith("until ")} == {
            f"until {n}": 1 for n in (0, 1, 2, 4)
        }

    def test_a_large_hit_goes_to_its_worker_and_not_through_the_driver(self) -> None:
        log = self.log
        text = t.text.with_options(cache_policy=INPUTS)

        def make() -> Any:
            text(log, 300_000)

        def use() -> Any:
            return t.length(log, text(log, 300_000))

        self.value(make)
        assert self.value(use) == (300_000, True)
        assert self.executions() == {"text": 1, "length": 1}

    def test_a_shared_hit_is_read_once_by_each_worker_and_not_by_the_driver(self) -> None:
        log = self.log
        made = t.marks_reading.with_options(cache_policy=INPUTS)

        def make() -> Any:
            made(log)

        def use() -> Any:
            return [t.reads(log, made(log), n) for n in range(8)]

        self.value(make)
        before = self.executions()
        found = self.value(use)
        assert [length for _, length in found] == [100_000 + n for n in range(8)]
        reads = {name: n - before.get(name, 0) for name, n in self.executions().items() if name.startswith("read ")}
        assert {name: n for name, n in reads.items() if n} == {f"read {pid}": 1 for pid in {pid for pid, _ in found}}

    def test_no_consumer_sees_changes_to_a_cached_value_made_by_another(self) -> None:
        log = self.log
        numbers = t.numbers.with_options(cache_policy=INPUTS)

        def mutates() -> Any:
            items = numbers(log, 3)
            first = t.append_to(log, items, 99)
            return first, t.append_to.submit(log, items, 98, wait_for=[first]), items

        assert self.value(mutates) == ([0, 1, 2, 99], [0, 1, 2, 98], [0, 1, 2])

    def test_calls_with_one_large_argument_get_it_as_it_was_when_called(self) -> None:
        log = self.log
        count, changed = (task.with_options(cache_policy=INPUTS) for task in (t.count_and_clear, t.count_and_clear))

        def many() -> Any:
            data, numbers = bytearray(b"x" * 2_000_000), list(range(100_000))
            found = [count(log, data, numbers, n) for n in range(5)] + [t.count_and_clear(log, data, numbers, 5)]
            data[0], numbers[1] = 0, 7
            return found, changed(log, data, numbers, 0), t.count_and_clear(log, data, numbers, found[0])

        found, cached, plain = self.value(many)
        assert found == [(2_000_000, 120, 4_999_950_000)] * 6
        assert cached == plain == (2_000_000, 0, 4_999_950_006)
        second = self.run(many)
        assert second.counts["hit"] == 6
        assert second.result() == (found, cached, plain)

    def test_a_result_whose_bytes_are_gone_is_recomputed_in_the_same_run(self) -> None:
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

    def test_a_stored_table_is_scanned_not_loaded_and_recomputed_if_lost(self) -> None:
        log = self.log
        table = t.table.with_options(cache_policy=INPUTS)
        rows_of = t.rows_of.with_options(cache_policy=INPUTS, refresh_cache=True)

        def scanned(rows: int) -> Any:
            return rows_of(log, table(log, rows))

        assert self.value(scanned, 2_500) == 2_500
        self.damage_payloads()
        assert self.value(scanned, 2_500) == 2_500
        assert self.executions() == {"table": 2, "rows_of": 2}

    # -- ending early and resuming

    def test_a_flow_that_raises_cancels_running_calls_if_the_settings_say_so(self) -> None:
        log = self.log
        self.settings = self.settings.with_values(on_failure="cancel")

        def raises() -> Any:
            t.spin(log, PATIENCE)
            t.wait_for_mark(log, "spin", PATIENCE / 2).wait()
            raise LookupError("enough")

        started = time.monotonic()
        run = self.run(raises)
        assert run.state == "failed"
        assert isinstance(run.error, LookupError)
        assert time.monotonic() - started < PATIENCE / 2

    def test_calls_that_a_failed_run_finished_are_hits_of_the_next(self) -> None:
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

    def test_a_resumed_run_finds_the_calls_it_had_finished(self) -> None:
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
