"""Calls in a transaction: their results are the transaction's until it is decided, wherever they run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from penstock import INPUTS, flow, task
from penstock.graph.tracing import current_trace
from penstock.storage import LocalStore
from penstock.storage.results.store import ResultStore

OURS = "aaaa"


@task(cache_policy=INPUTS)
def double(x: int) -> int:
    return 2 * x


@task(cache_policy=INPUTS)
def total(parts: list[int]) -> int:
    return sum(parts)


def in_transaction() -> Any:
    """Return a block whose calls belong to a transaction."""
    trace = current_trace()
    assert trace is not None
    return trace.inside(dataclasses.replace(trace.frame, transaction=OURS, entries={}, earlier=[]))


@flow
def inside() -> Any:
    with in_transaction():
        return total([double(1), double(2)])


@flow
def outside() -> Any:
    return total([double(1), double(2)])


@flow
def both() -> Any:
    with in_transaction():
        first = double(1).result()
    return [first, double(1).result()]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResultStore:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    return ResultStore(LocalStore(tmp_path / "store"))


def executed(bound: Any) -> int:
    run = bound.run()
    run.result()
    return int(run.counts["executed"])


@pytest.mark.parametrize("runner", ["threads", pytest.param("processes?workers=1", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("outcome", "again"), [("commit", 0), ("rollback", 3)])
def test_results_of_a_transaction_are_hits_inside_and_misses_outside_until_it_is_decided(
    results: ResultStore, runner: str, outcome: Any, again: int
) -> None:
    assert executed(inside.with_options(runner=runner)) == 3
    assert executed(inside.with_options(runner=runner)) == 0
    assert executed(outside.with_options(runner=runner)) == 3
    results.commits.decisions.decide(OURS, outcome)
    assert executed(outside.with_options(runner=runner)) == again
    assert executed(outside.with_options(runner=runner)) == 0


def test_a_call_outside_of_a_transaction_is_another_one_than_inside(results: ResultStore) -> None:
    notes: list[str] = []
    run = both.run_with({}, subscribers=[lambda event: notes.extend(getattr(event, "notes", ()))])
    assert run.result() == [2, 2]
    assert run.counts["executed"] == 2
    assert [note.partition(":")[0] for note in notes] == ["not published"]
    assert "a transaction of run" in notes[0]
