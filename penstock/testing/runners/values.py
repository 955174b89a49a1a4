"""Tests of runners: every consumer of a result has its own value, whatever others do to theirs."""

from __future__ import annotations

from collections import ChainMap, OrderedDict
from collections.abc import Callable
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from penstock.errors import PenstockError, SerializationError, TracingError
from penstock.flows.decorator import flow
from penstock.graph.futures import Future
from penstock.graph.policies import INPUTS
from penstock.runners.local.threads import ThreadRunner
from penstock.runtime import task_run
from penstock.tasks import task
from penstock.testing.runners.objects import Items
from penstock.testing.runners.spoilable import KEPT, KINDS, OPEN, PLACES, make, make_another, make_live, spoil
from penstock.testing.runners.support import RunnerBench


class ValueTests(RunnerBench):
    """Results that consumers modify in place."""

    @pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
    def test_no_consumer_sees_changes_to_a_result_made_by_another(self, cached: bool) -> None:
        @task(cache_policy=INPUTS if cached else None)
        def makes(kind: str) -> Any:
            return make(kind)

        @task
        def spoils(kind: str, value: Any) -> str:
            spoil(kind, value)
            return kind

        @task
        def shows(value: Any, after: Any = None) -> str:
            return repr(value)

        def flow() -> Any:
            shown = []
            for kind in KINDS:
                value = makes(kind)
                spoil(kind, value.result())
                first = shows(value, spoils(kind, value))
                shown += [first, shows(value, first)]
            return shown

        expected = [repr(make(kind)) for kind in KINDS for _ in range(2)]
        assert self.value(flow, workers=1) == expected
        assert self.value(flow, workers=2) == expected

    @pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
    def test_each_future_has_its_own_value(self, cached: bool) -> None:
        makes = task(cache_policy=INPUTS if cached else None)(make_another)
        again = makes.with_options(refresh_cache=cached)
        name = task(str)

        def futures(kind: str, refresh: bool) -> list[Any]:
            """Return futures of one key: of the same call, of equal calls, of another recipe, and of a `map`."""
            one = (again if refresh else makes)(kind)
            return [one, makes(kind), makes(name(kind)), *makes.map([kind, kind])]

        def asks(refresh: bool) -> Any:
            shown: list[Any] = []
            for kind in KINDS:
                first, *others = all_of_them = futures(kind, refresh)
                spoil(kind, first.result())
                assert first.result() is first.result()
                assert "spoilt" in repr(first.result())
                shown += [repr(future.result()) for future in others]
                for future in others:
                    spoil(kind, future.result())
                shown += [repr(future.result()) for future in futures(kind, False)]
                shown += [name(future) for future in all_of_them]
            return shown

        expected = [repr(make(kind)) for kind in KINDS for _ in range(4 + 5 + 5)]
        for refresh in (False, False, True):  # cold, warm, refreshed
            assert self.value(asks, refresh) == expected

    @pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
    def test_a_flow_returns_a_separate_value_for_each_future(self, cached: bool) -> None:
        makes = task(cache_policy=INPUTS if cached else None)(make_another)

        def flow() -> Any:
            first = {kind: makes(kind) for kind in KINDS}
            for kind, future in first.items():
                spoil(kind, future.result())
            return first, {kind: [makes(kind), *makes.map([kind, kind])] for kind in KINDS}

        for _ in range(2):
            first, others = self.value(flow)
            for kind in KINDS:
                assert "spoilt" in repr(first[kind])
                assert list(map(repr, others[kind])) == [repr(make(kind))] * 3
                for number, value in enumerate(others[kind]):
                    spoil(kind, value)
                    assert list(map(repr, others[kind][number + 1 :])) == [repr(make(kind))] * (2 - number)

    @pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
    def test_subflows_get_their_own_values(self, cached: bool) -> None:
        makes = task(cache_policy=INPUTS if cached else None)(make_another)

        def inner(kind: str, given: Any) -> Any:
            spoil(kind, makes(kind).result())
            before = repr(given)
            if not isinstance(given, Future):
                spoil(kind, given)
            return before, makes(kind)

        joined, apart = flow(inner), flow(runner=ThreadRunner(workers=1))(inner)

        def outer() -> Any:
            shown = []
            for kind in KINDS:
                for nested in (joined, apart):
                    outside, passed = makes(kind), makes(kind)
                    spoil(kind, outside.result())
                    if nested is apart:
                        shown.append(repr(passed.result()))
                        spoil(kind, passed.result())
                    _, inside = nested(kind, passed)
                    shown.append(repr(makes(kind).result()))
                    shown.append(repr(inside.result() if nested is joined else inside))
                    if nested is apart:
                        shown.append(nested(kind, passed)[0])
            return shown

        expected = [repr(make(kind)) for kind in KINDS for _ in range(6)]
        assert self.value(outer) == expected
        assert self.value(outer) == expected

    @pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
    def test_changing_an_item_of_a_result_in_a_task_does_not_change_the_result(self, cached: bool) -> None:
        @task(cache_policy=INPUTS if cached else None)
        def makes_both(kinds: tuple[str, ...]) -> Any:
            return {kind: make(kind) for kind in kinds}

        @task
        def spoils(kind: str, value: Any) -> str:
            spoil(kind, value)
            return kind

        def flow() -> Any:
            made = makes_both(KINDS)
            for kind in KINDS:
                spoils.submit(kind, made[kind]).result()
                item, same = made[kind], made[kind]
                spoil(kind, item.result())
                assert repr(same.result()) == repr(make(kind))
            return {kind: repr(value) for kind, value in made.result().items()}

        for _ in range(2):
            assert self.value(flow) == {kind: repr(make(kind)) for kind in KINDS}

    @pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
    def test_a_task_can_keep_its_result_without_sharing_it(self, cached: bool) -> None:
        KEPT.clear()
        policy = INPUTS if cached else None

        @task(cache_policy=policy)
        def keeps(kind: str, call: int) -> Any:
            if kind not in KEPT:
                KEPT[kind] = make(kind)
            return KEPT[kind]

        @task
        def spoils(kind: str, value: Any) -> str:
            before = repr(value)
            spoil(kind, value)
            return before

        def flow() -> Any:
            return [spoils(kind, keeps(kind, call)) for call in range(2) for kind in KINDS]

        assert self.value(flow, workers=1) == [repr(make(kind)) for _ in range(2) for kind in KINDS]

    @pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
    def test_a_retry_gets_the_original_arguments(self, cached: bool) -> None:
        @task
        def makes(kind: str) -> Any:
            return make(kind)

        @task(retries=1, cache_policy=INPUTS if cached else None)
        def spoils(kind: str, made: Any, given: Any) -> tuple[str, str]:
            before = repr(made), repr(given)
            spoil(kind, made)
            spoil(kind, given)
            if task_run.run_count == 1:
                raise ValueError("again")
            return before

        kinds = KINDS[:-1] if cached else KINDS  # the last has no digest

        def flow() -> Any:
            return [spoils(kind, makes(kind), make(kind)) for kind in kinds]

        assert [tuple(each) for each in self.value(flow)] == [(repr(make(kind)),) * 2 for kind in kinds]

    @pytest.mark.parametrize("kind", PLACES)
    def test_live_objects_are_refused_by_their_place_and_never_published(self, kind: str) -> None:
        @task(cache_policy=INPUTS)
        def stores() -> Any:
            return make_live(kind)

        @task
        def passes() -> Any:
            return make_live(kind)

        @task
        def takes(value: Any) -> str:
            return type(value).__name__

        stored = self.run(lambda: takes(stores()))
        assert isinstance(stored.error, SerializationError)
        assert f"result{PLACES[kind]}" in str(stored.error)
        assert stored.stored() == []
        passed = self.run(lambda: takes(passes()))
        if passed.error is None:
            assert self.make_runner(1).reach == "process"  # threads share it
            assert kind != "generator"
        else:
            assert isinstance(passed.error, SerializationError)
            assert f"result{PLACES[kind]}" in str(passed.error)
        while OPEN:
            OPEN.pop().close()

    def test_a_value_that_contains_itself_can_be_passed_and_returned(self) -> None:
        @task
        def turns(value: Any) -> Any:
            assert value[1]["me"] is value
            return {"own": value}

        def loop() -> list[Any]:
            value: list[Any] = [1]
            value.append({"me": value})
            return value

        returned = self.value(lambda: turns(loop()))["own"]
        assert returned[1]["me"] is returned

    def test_a_deeply_nested_value_arrives_or_is_a_clear_error(self) -> None:
        @task
        def depth(value: Any) -> int:
            levels = 0
            while value:
                value, levels = value[0], levels + 1
            return levels

        @task
        def nests(levels: int) -> Any:
            value: list[Any] = []
            for _ in range(levels):
                value = [value]
            return value

        for levels in (600, 20_000):
            argument = self.run(lambda levels=levels: depth(nests.fn(levels)))
            result = self.run(lambda levels=levels: depth(nests(levels)))
            for run in (argument, result):
                clear = isinstance(run.error, PenstockError) and "recursion" not in type(run.error).__name__.lower()
                assert clear or run.result() == levels

    @pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
    def test_futures_in_views_and_namespaces_arrive_as_values(self, cached: bool) -> None:
        @task
        def one(value: Any) -> Any:
            return value

        @task(cache_policy=INPUTS if cached else None)
        def shows(held: Any) -> str:
            return repr(held)

        def holders(of: Callable[[Any], Any]) -> list[Any]:
            pairs = {"a": of(None), "b": [of(2)]}
            ordered = OrderedDict(pairs)
            views = [each for kept in (pairs, ordered) for each in (kept.values(), kept.items(), {of(3): 1}.keys())]
            return [*views, MappingProxyType(pairs), ChainMap({}, pairs), SimpleNamespace(**pairs)]

        run = self.run(lambda: ([shows(each) for each in holders(one)], *holders(one)))
        shown, *returned = run.result()
        assert shown == [repr(each) for each in holders(lambda value: value)]
        assert [repr(each) for each in returned] == shown

    def test_a_future_hidden_in_a_returned_object_is_named_by_its_place(self) -> None:
        @task
        def one() -> int:
            return 1

        run = self.run(lambda: {"kept": Items(one())})
        assert isinstance(run.error, TracingError)
        assert "result['kept'].items[0]" in str(run.error)

    def test_a_recursion_error_of_the_task_is_raised_as_such(self) -> None:
        @task
        def recurses() -> None:
            raise RecursionError("mine")

        run = self.run(lambda: [recurses()])
        with pytest.raises(RecursionError, match="mine"):
            run.result()
