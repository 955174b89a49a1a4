"""Edits: only those that make results stale cause recomputation."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

Project = Callable[..., ModuleType]

CHAIN = """
    from penstock import INPUTS, TASK_SOURCE, flow, task

    @task(cache_policy=INPUTS + TASK_SOURCE)
    def load(n):
        return n + 1

    @task(cache_policy=INPUTS + TASK_SOURCE)
    def double(x):
        return x * 2

    @task(cache_policy=INPUTS + TASK_SOURCE)
    def describe(x):
        return f"<{x}>"

    @flow
    def pipeline(n):
        return describe(double(load(n)))
"""


def test_editing_an_upstream_function_recomputes_what_is_downstream(project: Project) -> None:
    assert project(chain=CHAIN).pipeline(1) == "<4>"
    edited = project(chain=CHAIN.replace("n + 1", "n + 10"))
    plan = edited.pipeline.plan(1)
    assert [node.status for node in plan.nodes] == ["miss", "miss", "miss"]
    run = edited.pipeline.run(1)
    assert run.result() == "<22>"
    assert run.counts["executed"] == 3


def test_an_edit_that_changes_no_value_stops_there(project: Project) -> None:
    project(chain=CHAIN).pipeline(1)
    run = project(chain=CHAIN.replace("n + 1", "1 + n")).pipeline.run(1)
    assert run.result() == "<4>"
    assert run.by_task()["load"]["executed"] == 1
    assert run.counts["executed"] == 1


def test_reverting_code_finds_its_old_results(project: Project) -> None:
    project(chain=CHAIN).pipeline(1)
    project(chain=CHAIN.replace("n + 1", "n + 10")).pipeline(1)
    run = project(chain=CHAIN).pipeline.run(1)
    assert run.result() == "<4>"
    assert run.counts["executed"] == 0


REACHING = """
    from penstock import INPUTS, TASK_CODE, flow, task
    from helpers import rounded

    LIMIT = 100

    def with_offset(offset):
        @task(cache_policy=INPUTS + TASK_CODE)
        def shifted(x, step=1):
            return min(rounded(x + offset * step), LIMIT)
        return shifted

    shifted = with_offset(5)

    @flow
    def pipeline(x):
        return shifted(x)
"""
HELPERS = """
    def exact(x):
        return x * 1.0

    def rounded(x):
        return round(exact(x))
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x * 1.0", "x * 2.0"),
        ("LIMIT = 100", "LIMIT = 3"),
        ("step=1", "step=2"),
        ("with_offset(5)", "with_offset(6)"),
    ],
    ids=["a helper two calls deep", "a constant", "a default", "a closure"],
)
def test_edits_that_task_code_must_notice(project: Project, old: str, new: str) -> None:
    before = project(reaching=REACHING, helpers=HELPERS).pipeline(1)
    edited = project(reaching=REACHING.replace(old, new), helpers=HELPERS.replace(old, new))
    run = edited.pipeline.run(1)
    assert run.counts["executed"] == 1
    assert run.result() != before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("step=1", "step=2"),
        ("with_offset(5)", "with_offset(6)"),
    ],
    ids=["a default", "a closure"],
)
def test_edits_that_task_source_must_notice(project: Project, old: str, new: str) -> None:
    text = REACHING.replace("TASK_CODE", "TASK_SOURCE")
    before = project(reaching=text, helpers=HELPERS).pipeline(1)
    run = project(reaching=text.replace(old, new), helpers=HELPERS).pipeline.run(1)
    assert run.counts["executed"] == 1
    assert run.result() != before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return n + 1", "# why\n        return n + 1  # because"),
        ("return n + 1", "return (n\n            + 1)"),
        ("def load(n):", 'def load(n):\n        """What it does."""'),
        ("TASK_SOURCE)\n    def load", "TASK_SOURCE, retries=3, tags=['x'])\n    def load"),
        (
            "    @task(cache_policy=INPUTS + TASK_SOURCE)\n    def load",
            "\n\n\n    @task(cache_policy=TASK_SOURCE + INPUTS)\n    def load",
        ),
        ("def load(n):", "def load(n: int) -> int:"),
    ],
    ids=["comments", "line breaks", "a docstring", "decorator options", "place and order", "annotations"],
)
def test_edits_without_effect_are_hits(project: Project, old: str, new: str) -> None:
    project(chain=CHAIN).pipeline(1)
    assert old in CHAIN
    run = project(chain=CHAIN.replace(old, new)).pipeline.run(1)
    assert run.counts["executed"] == 0


def test_closures_over_different_values_do_not_share_a_result() -> None:
    from penstock import INPUTS, TASK_SOURCE, task

    def times(factor: int):
        @task(cache_policy=INPUTS + TASK_SOURCE)
        def multiplied(x: int) -> int:
            return x * factor

        return multiplied

    assert [times(2)(10), times(3)(10), times(2)(10)] == [20, 30, 20]


def test_a_task_can_read_its_run_without_changing_its_key(project: Project) -> None:
    asking = project(asking=ASKING)
    run = asking.pipeline.run()
    assert run.result() == ["task_id", "pipeline"]
    assert asking.pipeline.run().counts["executed"] == 0
    assert not asking.pipeline.plan().work


ASKING = """
    from penstock import INPUTS, TASK_CODE, flow, task
    from penstock.runtime import flow_run, task_run

    @task(cache_policy=INPUTS + TASK_CODE)
    def named():
        return ["task_id" if task_run.id else "", flow_run.flow_name]

    @flow
    def pipeline():
        return named()
"""


METHODS = """
    from __future__ import annotations

    from dataclasses import dataclass
    from penstock import INPUTS, TASK_CODE, flow, task

    class Shop:
        FEE = 1

        def with_fee(self, x):
            return x + self.FEE

    @dataclass(frozen=True)
    class Row(Shop):
        n: int
        RATE = 2

        @property
        def scaled(self):
            return self.n * self.RATE

        @task(cache_policy=INPUTS + TASK_CODE)
        def own(self):
            return self.with_fee(self.scaled)

        @classmethod
        @task(cache_policy=INPUTS + TASK_CODE)
        def of_class(cls):
            return cls.RATE

        @task(cache_policy=INPUTS + TASK_CODE)
        def other(self):
            return self.n + 100

    @task(cache_policy=INPUTS + TASK_CODE)
    def total(rows: list[Row]):
        return sum(row.with_fee(row.scaled) for row in rows)

    @flow
    def pipeline(n):
        return [Row(n).own(), Row.of_class(), Row(n).other(), total([Row(n)])]
"""


@pytest.mark.parametrize(
    ("old", "new", "after", "executed"),
    [
        ("RATE = 2", "RATE = 3", [10, 3, 103, 10], {"own", "of_class", "total"}),
        ("self.n * self.RATE", "self.n * self.RATE + 1", [8, 2, 103, 8], {"own", "total"}),
        ("FEE = 1", "FEE = 2", [8, 2, 103, 8], {"own", "total"}),
        ("x + self.FEE", "x - self.FEE", [5, 2, 103, 5], {"own", "total"}),
        ("self.n + 100", "self.n + 200", [7, 2, 203, 7], {"other"}),
        ("class Shop:", "class Shop:\n        UNUSED = 1\n", [7, 2, 103, 7], set()),
    ],
    ids=["a constant", "a property", "an inherited constant", "an inherited method", "another task", "an unread name"],
)
def test_an_edit_of_a_class_runs_the_tasks_that_use_it_through_self_or_annotations(
    project: Project, old: str, new: str, after: list[int], executed: set[str]
) -> None:
    assert project(methods=METHODS).pipeline(3) == [7, 2, 103, 7]
    run = project(methods=METHODS.replace(old, new)).pipeline.run(3)
    assert run.result() == after
    assert {name for name, counts in run.by_task().items() if counts["executed"]} == executed
