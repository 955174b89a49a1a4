"""The comparison behind `why`: a pure function of key parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.explanations.components import differences, flattened
from penstock.explanations.nearest import Earlier
from penstock.graph.explained import Difference

A, B, C = "a" * 40, "b" * 40, "c" * 40


@dataclass(frozen=True)
class Record:
    key_parts: dict[str, Any]
    created: float


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({"task_source": A}, {"task_source": B}, [("task_source", "changed")]),
        ({"cache_key": '["v1"]'}, {"cache_key": '["v2"]'}, [("cache_key", "changed")]),
        ({"inputs": {"day": A}}, {"inputs": {"day": None}}, [("inputs.day", "open")]),
        ({"inputs": {"day": A}}, {"inputs": {"n": A}}, [("inputs.day", "removed"), ("inputs.n", "added")]),
        ({"task": "m:f"}, {"task": "m:f", "inputs": {}}, []),
        (
            {"task_code": A, "inputs": {"a": A, "b": A}, "cache_key": A},
            {"task_code": B, "inputs": {"a": B, "b": A}, "cache_key": B},
            [("task_code", "changed"), ("cache_key", "changed"), ("inputs.a", "changed")],
        ),
    ],
)
def test_each_component_that_differs_is_named_code_first(
    old: dict[str, Any], new: dict[str, Any], said: list[tuple[str, str]]
) -> None:
    assert [(each.component, each.kind) for each in differences(old, new)] == said


def test_the_nearest_key_has_the_fewest_differences() -> None:
    far = Record({"task_source": C, "inputs": {"day": C}}, 3.0)
    near = Record({"task_source": A, "inputs": {"day": B}}, 1.0)
    assert Earlier([far, near]).nearest({"task_source": A, "inputs": {"day": A}}) == (
        near,
        [Difference("inputs.day", "changed", B, A)],
    )


def test_the_latest_of_equally_near_keys_is_shown() -> None:
    records = [Record({"inputs": {"day": B}}, 1.0), Record({"inputs": {"day": C}}, 2.0), Record({}, 0.5)]
    found = Earlier(records).nearest({"inputs": {"day": A}})
    assert found is not None
    assert found[0] is records[1]


def test_without_earlier_keys_there_is_nothing_to_compare() -> None:
    assert Earlier([]).nearest({"task_source": A}) is None


def test_a_key_that_differs_only_in_its_code_is_found_among_many() -> None:
    records = [Record({"task_code": A, "inputs": {"n": str(n)}}, float(n)) for n in range(500)]
    earlier = Earlier(records)
    for n in (0, 250, 499):
        found = earlier.nearest({"task_code": B, "inputs": {"n": str(n)}})
        assert found is not None
        assert found[0] is records[n]
        waiting = earlier.nearest({"task_code": B, "inputs": {"n": None}})
        assert waiting is not None
        assert [each.kind for each in waiting[1]] == ["changed", "open"]


def test_planted_key_parts_are_ignored() -> None:
    odd: list[dict[str, Any]] = [{"inputs": 3}, {"inputs": {"day": [1]}}, {"task_code": {"a": []}, "inputs": None}]
    found = Earlier([Record(each, 1.0) for each in odd]).nearest({"task_code": A, "inputs": {"day": A}})
    assert found is not None
    assert {each.kind for each in found[1]} == {"added"}


parts = st.fixed_dictionaries(
    {},
    optional={
        "task_source": st.sampled_from([A, B]),
        "run_id": st.sampled_from(["1", "2"]),
        "inputs": st.dictionaries(st.sampled_from("xyz"), st.sampled_from([A, B, C])),
    },
)


@given(parts, parts)
def test_keys_differ_exactly_where_their_components_do(old: dict[str, Any], new: dict[str, Any]) -> None:
    found = {each.component for each in differences(old, new)}
    before, after = flattened(old), flattened(new)
    assert found == {name for name in before | after if before.get(name) != after.get(name)}
    assert found == {each.component for each in differences(new, old)}
