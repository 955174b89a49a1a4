"""The comparison behind `why`: pure, over parts of keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.cli.explaining import Difference, differences, flattened, nearest

A, B, C = "a" * 40, "b" * 40, "c" * 40


@dataclass(frozen=True)
class Record:
    key_parts: dict[str, Any]
    created: float


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({"task_source": A}, {"task_source": B}, ["task_source changed"]),
        ({"task_code": A}, {"task_code": B}, ["task_code changed"]),
        ({"cache_key": '["v1"]'}, {"cache_key": '["v2"]'}, ['cache_key: ["v1"] → ["v2"]']),
        ({"inputs": {"day": A}}, {"inputs": {"day": B}}, ["inputs.day: aaaaaaaa… → bbbbbbbb…"]),
        ({"inputs": {"day": A}}, {"inputs": {"day": None}}, ["inputs.day is not known yet"]),
        ({"inputs": {"day": A}}, {"inputs": {"n": A}}, ["inputs.day removed", "inputs.n added"]),
        ({"task": "m:f"}, {"task": "m:f", "inputs": {}}, []),
        (
            {"task_source": A, "inputs": {"a": A, "b": A}},
            {"task_source": B, "inputs": {"a": B, "b": A}},
            ["task_source changed", "inputs.a: aaaaaaaa… → bbbbbbbb…"],
        ),
    ],
)
def test_each_component_that_differs_is_named_code_first(
    old: dict[str, Any], new: dict[str, Any], said: list[str]
) -> None:
    assert [str(each) for each in differences(old, new)] == said


def test_the_nearest_key_has_the_fewest_differences() -> None:
    far = Record({"task_source": C, "inputs": {"day": C}}, 3.0)
    near = Record({"task_source": A, "inputs": {"day": B}}, 1.0)
    assert nearest({"task_source": A, "inputs": {"day": A}}, [far, near]) == (
        near,
        [Difference("inputs.day", "changed", B, A)],
    )


def test_among_equally_near_keys_the_latest_is_shown() -> None:
    records = [Record({"inputs": {"day": B}}, 1.0), Record({"inputs": {"day": C}}, 2.0), Record({}, 0.5)]
    found = nearest({"inputs": {"day": A}}, records)
    assert found is not None
    assert found[0] is records[1]


def test_without_earlier_keys_there_is_nothing_to_compare() -> None:
    assert nearest({"task_source": A}, []) is None


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
