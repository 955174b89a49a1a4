"""The comparison of versions itself: its requirements, and that it notices a silent difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.versions.__main__ import _compare_keys, _compare_reads
from tests.versions.environments import requirements
from tests.versions.layouts import NAMES, POLICIES, keys


def test_lowest_bounds_are_exact_and_the_latest_are_not() -> None:
    lowest, latest = requirements(lowest=True), requirements(lowest=False)
    assert "pandas==2.2.3" in lowest
    assert [entry.replace("==", ">=") for entry in lowest] == latest


@pytest.mark.parametrize(
    ("here", "silent"),
    [
        ({"digest": "d1", "repr": "1"}, 0),
        ({"digest": "d2", "repr": "1"}, 1),
        ({"digest": "d3", "repr": "1"}, 0),
        ({"told": "SerializationError"}, 0),
        ({"panic": "PanicException"}, 1),
        ({"digest": "d2", "computed": "again"}, 0),
    ],
)
def test_a_value_that_changes_silently_is_counted(here: dict[str, str], silent: int) -> None:
    wrote: dict[str, Any] = {"digests": {"x": "d1"}, "stored": {"x": {"digest": "d1", "repr": "1"}}}
    assert _compare_reads("lowest", wrote, "latest", {"digests": {"x": "d3"}, "stored": {"x": here}}) == silent


def test_a_different_key_is_counted() -> None:
    assert _compare_keys({"lowest": {"keys": {"f": "1", "g": "2"}}, "latest": {"keys": {"f": "1", "g": "3"}}}) == 1


def test_code_has_a_key_in_each_layout(tmp_path: Path) -> None:
    found = keys(tmp_path)
    assert len(found) == 4 * len(NAMES) * len(POLICIES)
    assert [name for name, key in found.items() if len(key) != 40] == []
