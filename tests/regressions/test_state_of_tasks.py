"""State that only the code of tasks changes (caches, counters, timings) costs no hits, in any process of a program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Project = Callable[..., ModuleType]

MEMO = """
import random

from penstock import INPUTS, TASK_CODE, flow, task

SQUARES = {}
TIMINGS = {}
RATE = {"rate": 1}


def memo(x):
    TIMINGS.setdefault("memo", []).append(random.random())
    if x not in SQUARES:
        SQUARES[x] = x * x
    return SQUARES[x]


@task(cache_policy=INPUTS + TASK_CODE)
def square(x):
    return memo(x) * RATE["rate"]


@flow
def part(x):
    return square(x).result()


@flow
def parts():
    return [part(3), part(4), part(5)]


@flow
def copies():
    return [square.with_options(name=f"square {x}")(x).result() for x in (3, 4, 5)]


@flow
def changing(by):
    before = part(3)
    RATE["rate"] = by
    return [before, part(3), part(4)]
"""


@pytest.fixture
def memo(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Load the program again, as another process would, over one store."""
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    return lambda: project(program=MEMO)


@pytest.mark.parametrize("name", ["parts", "copies"])
def test_the_frames_and_copies_of_a_task_share_its_digest(memo: Callable[[], Any], name: str) -> None:
    assert getattr(memo(), name)() == [9, 16, 25]
    for _ in range(2):
        run = getattr(memo(), name).run()
        assert run.result() == [9, 16, 25]
        assert run.counts["executed"] == 0


def test_a_setting_that_the_flow_changes_between_subflows_counts(memo: Callable[[], Any]) -> None:
    assert memo().changing(2) == [9, 18, 32]
    assert memo().parts() == [9, 16, 25]
    run = memo().changing(3)
    assert run == [9, 27, 48]
