"""Runners: every consumer of a result has a value of its own, whoever else has it and whatever they do to it."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.graph.policies import INPUTS
from penstock.runtime import task_run
from penstock.tasks import task
from penstock.testing.runners_bench import RunnerBench

_KEPT: dict[str, Any] = {}
"""What tasks keep of what they return."""


class Items:
    """A value of a class that nobody knows how to copy but itself."""

    def __init__(self, *items: Any) -> None:
        self.items = list(items)

    def __repr__(self) -> str:
        return f"Items{tuple(self.items)}"


def make(kind: str) -> Any:
    """A value that can be changed."""
    new: dict[str, Any] = {
        "list": [1, [2]],
        "dict": {"a": [1]},
        "tuple": ([1], 2),
        "bytearray": bytearray(b"abc"),
        "object": Items(1, 2),
    }
    return new[kind]


def spoil(kind: str, value: Any) -> None:
    """Change it in place."""
    if kind == "list":
        value[1].append("spoilt")
    elif kind == "bytearray":
        value[:] = b"spoilt"
    elif kind == "object":
        value.items.append("spoilt")
    else:
        value["a" if kind == "dict" else 0].append("spoilt")


KINDS = ("list", "dict", "tuple", "bytearray", "object")


class ValueTests(RunnerBench):
    """Results that are changed in place by those who get them."""

    @pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
    def test_what_one_consumer_does_to_a_result_no_other_sees(self, cached: bool) -> None:
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
    def test_what_a_task_keeps_of_its_result_is_its_own(self, cached: bool) -> None:
        _KEPT.clear()
        policy = INPUTS if cached else None

        @task(cache_policy=policy)
        def keeps(kind: str, call: int) -> Any:
            if kind not in _KEPT:
                _KEPT[kind] = make(kind)
            return _KEPT[kind]

        @task
        def spoils(kind: str, value: Any) -> str:
            before = repr(value)
            spoil(kind, value)
            return before

        def flow() -> Any:
            return [spoils(kind, keeps(kind, call)) for call in range(2) for kind in KINDS]

        assert self.value(flow, workers=1) == [repr(make(kind)) for _ in range(2) for kind in KINDS]

    @pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
    def test_another_attempt_gets_its_arguments_as_they_were(self, cached: bool) -> None:
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

        kinds = KINDS[:-1]  # an object that is passed by the flow is the flow's, between threads

        def flow() -> Any:
            return [spoils(kind, makes(kind), make(kind)) for kind in kinds]

        assert [tuple(each) for each in self.value(flow)] == [(repr(make(kind)),) * 2 for kind in kinds]
