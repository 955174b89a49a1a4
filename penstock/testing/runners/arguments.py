"""Tests of runners: each call has its own copies of the objects that a flow passes, as it has of results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from penstock.digests.python import register_digest
from penstock.graph.policies import INPUTS, NO_CACHE, TASK_SOURCE
from penstock.objects.registrations import forget
from penstock.runtime import task_run
from penstock.tasks import task
from penstock.testing.runners.objects import (
    AUTO,
    MISSING,
    UNSET,
    Items,
    Job,
    Node,
    Order,
    Stubborn,
    Unknown,
    make,
    use,
)
from penstock.testing.runners.support import RunnerBench

KINDS = ("instance", "inside", "dict", "random", "text")


class ArgumentTests(RunnerBench):
    """Objects that a flow passes to several calls, which modify them."""

    @pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
    @pytest.mark.parametrize("workers", [1, 2])
    def test_no_call_sees_changes_to_an_object_of_the_flow_made_by_another(self, cached: bool, workers: int) -> None:
        key = (lambda context, given: f"{given['kind']} {given['call']}") if cached else None

        @task(cache_key_fn=key)
        def uses(kind: str, call: int, value: Any) -> str:
            return use(kind, value)

        def calls() -> Any:
            shown = []
            for kind in KINDS:
                value = make(kind)
                shown += [uses(kind, call, value) for call in range(6)]
                shown += uses.map(kind, [6, 7], [value, value])
            return shown

        expected = [use(kind, make(kind)) for kind in KINDS for _ in range(8)]
        for _ in range(2):  # cold and warm
            assert self.value(calls, workers=workers) == expected

    @pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
    def test_no_attempt_sees_changes_to_an_object_of_the_flow_made_by_an_earlier_one(self, cached: bool) -> None:
        @task(retries=2, cache_key_fn=(lambda context, given: given["kind"]) if cached else None)
        def uses(kind: str, value: Any) -> str:
            used = use(kind, value)
            if task_run.run_count < 3:
                raise ValueError("again")
            return used

        assert self.value(lambda: [uses(kind, make(kind)) for kind in KINDS]) == [
            use(kind, make(kind)) for kind in KINDS
        ]

    @pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
    @pytest.mark.parametrize("calls", [1, 4])
    def test_an_object_that_a_call_receives_in_several_arguments_is_another_one_in_each(
        self, calls: int, cached: bool
    ) -> None:
        # Whether two arguments are equal objects or one object does not count in the key of a call.
        @task(cache_key_fn=(lambda context, given: str(given["call"])) if cached else None)
        def changes(one: Items, again: Items, held: dict[str, list[Items]], job: Job, call: int) -> list[int]:
            one.items.append(call)
            return [len(each.items) for each in (one, again, *held["in"], job.items)]

        def flow() -> Any:
            value = Items(1)
            return [changes(value, value, {"in": [value]}, Job(value), call) for call in range(calls)]

        assert self.value(flow, workers=1) == [[2, 1, 1, 1]] * calls

    @pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
    def test_a_result_that_a_call_receives_in_several_arguments_is_another_object_in_each(self, cached: bool) -> None:
        policy = INPUTS if cached else NO_CACHE

        @task(cache_policy=policy)
        def numbers() -> list[int]:
            return [1]

        @task(cache_policy=policy)
        def changes(one: list[int], again: list[int], held: dict[str, list[int]], call: int) -> list[int]:
            one.append(call)
            return [len(one), len(again), len(held["in"])]

        def flow() -> Any:
            found = numbers()
            return [changes(found, found, {"in": found}, call) for call in range(4)]

        assert self.value(flow, workers=1) == [[2, 1, 1]] * 4

    @pytest.mark.parametrize("kind", ["instance", "record", "bytes", "array", "large", "result", "rebuilt"])
    def test_an_object_that_is_twice_in_one_argument_is_one_object_there(self, kind: str) -> None:
        @task
        def is_one(before: Any, held: dict[str, Any], call: int) -> bool:
            return held["nodes"][0] is held["last"][1] and before is not held["last"][1]

        @task
        def result() -> list[int]:
            return [1]

        makes: dict[str, Callable[[], Any]] = {
            "instance": lambda: Items(1),
            "record": lambda: Node(1),
            "bytes": lambda: bytearray(b"1"),
            "array": lambda: pytest.importorskip("numpy").arange(3),
            "large": lambda: pytest.importorskip("numpy").arange(100_000),
            "result": result,
            "rebuilt": lambda: Node(result()),
        }

        def calls() -> Any:
            value = makes[kind]()
            return [is_one(value, {"nodes": [value], "last": (0, value)}, call) for call in range(4)]

        assert self.value(calls, workers=1) == [True] * 4

    def test_an_argument_can_be_indexed_by_the_objects_in_it(self) -> None:
        @task
        def numbers(graph: dict[str, Any]) -> list[int]:
            return [graph["index"][node] for node in graph["nodes"]]

        def calls() -> Any:
            nodes = [Node(1), Node(2)]
            return numbers({"nodes": nodes, "index": {node: node.held for node in nodes}})

        assert self.value(calls, workers=1) == [1, 2]

    @pytest.mark.parametrize("policy", [NO_CACHE, INPUTS, INPUTS + TASK_SOURCE], ids=["plain", "inputs", "source"])
    def test_a_default_that_code_compares_with_is_the_functions_own(self, policy: Any) -> None:
        @task(cache_policy=policy)
        def uses(value: int, one: Any = MISSING, two: Any = UNSET, three: Any = AUTO) -> list[bool]:
            return [one is MISSING, two is UNSET, three is AUTO]

        def calls() -> Any:
            return [uses(1), uses(2, MISSING, UNSET, AUTO), uses(3, 4, 5, 6)]

        for _ in range(2):  # cold and warm
            assert self.value(calls, workers=1) == [[True] * 3] * 2 + [[False] * 3]

    def test_a_default_that_code_compares_with_is_among_the_parameters_of_a_call(self) -> None:
        @task(cache_key_fn=lambda context, given: f"{context.task.name} {given['one'] is MISSING}")
        def uses(value: Any, one: Any = MISSING) -> list[bool]:
            return [each is MISSING for each in task_run.parameters.values()]

        assert self.value(lambda: [uses(1), uses(uses(1))], workers=1) == [[False, True]] * 2

    @pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
    @pytest.mark.parametrize(
        "held", [lambda order: order, lambda order: [order], Items], ids=["alone", "list", "inside"]
    )
    def test_a_struct_is_not_constructed_again(self, held: Callable[[Any], Any], cached: bool) -> None:
        key = (lambda context, given: "key") if cached else None

        @task(cache_key_fn=key)
        def make() -> Any:
            return held(Order(1.0))

        @task
        def amount(value: Any) -> float:
            for _ in range(2):
                value = value.items if isinstance(value, Items) else value
                value = value[0] if isinstance(value, list) else value
            return float(value.amount)

        def calls() -> Any:
            made, given = make(), held(Order(1.0))
            return [amount(each) for each in (made, made, given, given)] + [amount.fn(made.result())]

        for _ in range(2):  # cold and warm
            assert self.value(calls, workers=1) == [2.0] * 5

    def test_digests_that_only_the_drivers_program_has_registered_count_on_workers(self) -> None:
        @task(cache_policy=INPUTS)
        def rate(found: int) -> int:
            return found

        @task(cache_policy=INPUTS)
        def uses(value: Unknown, rate: int) -> int:
            return value.level * rate

        register_digest(Unknown, lambda value: value.level)
        try:
            # The second key is computed on a worker, which has the value of the first call.
            assert self.value(lambda: [uses(Unknown(level), rate(10)) for level in (1, 2, 1)]) == [10, 20, 10]
        finally:
            forget(Unknown)

    def test_an_object_that_refuses_to_be_copied_is_passed_all_the_same(self) -> None:
        @task
        def uses(value: Stubborn, other: Items, call: int) -> int:
            value.uses += 1
            other.items.append(call)
            return len(other.items)

        def calls() -> Any:
            value, other = Stubborn(), Items(1)
            return [uses(value, other, call) for call in range(4)]

        assert self.value(calls, workers=1) == [2] * 4
