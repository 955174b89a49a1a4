"""The values that a run returns belong together, whatever is refreshed, removed, lost or edited meanwhile."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest

from penstock.driver.revising import Revision
from penstock.graph.agreement import Agreement
from penstock.graph.graphs import Graph
from tests.amounts import amount
from tests.regressions.model_mixing import History

# They need much processor time, of which a busy machine has little.
pytestmark = [pytest.mark.timeout(900), pytest.mark.untraced]
FIRST = int(os.environ.get("PENSTOCK_FIRST_SEED", "0"))
HISTORIES = amount(here=200, in_ci=2_000)


def play(seeds: Iterable[int], steps: int = 12) -> None:
    for seed in seeds:
        History(seed).play(steps)


@pytest.mark.parametrize("first", range(FIRST, FIRST + 100, 25))
def test_no_history_makes_a_run_return_mixed_values(first: int) -> None:
    play(range(first, first + 25))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FIRST + 100, FIRST + HISTORIES, 100))
def test_no_short_history_of_many_gives_mixed_values(first: int) -> None:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 10 ** (first // 100 % 3))  # the flow and the driver take turns at other moments
    try:
        play(range(first, first + 100), steps=8)
    finally:
        sys.setswitchinterval(usual)


@pytest.mark.evidence
@pytest.mark.slow
@pytest.mark.parametrize("first", range(FIRST + 100, FIRST + 10_000, 100))
def test_no_long_history_of_ten_thousand_gives_mixed_values(first: int) -> None:
    play(range(first, first + 100))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FIRST, FIRST + HISTORIES // 10, 20))
def test_drivers_that_run_at_the_same_time_do_not_mix_values(first: int) -> None:
    for seed in range(first, first + 20):
        history = History(seed)
        drivers = [history, *(history.beside(10 * seed + number) for number in (1, 2))]
        with ThreadPoolExecutor(len(drivers)) as pool:
            for driver in [pool.submit(driver.play, 8) for driver in drivers]:
                driver.result()


def test_a_new_value_does_not_belong_to_the_run_that_computed_the_lost_one() -> None:
    play(range(20_055, 20_056))


def test_a_run_that_ends_because_values_changed_blocks_nobody() -> None:
    # In the middle of its flow, another run needs the key that it had locked.
    play(range(569, 570))


# -- testing the test: without any of these, fifty histories are enough to find a mixture ------------------------------


def no_look_between(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = Agreement.to_look_at
    monkeypatch.setattr(Agreement, "to_look_at", lambda self: looked(self) and [])


def held_futures_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Graph, "outputs", lambda self, start, held: self.targets(start))


def statements_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Agreement, "broken", lambda self: iter(()))


def changed_values_are_not_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Revision, "changed", lambda self, id: False)


@pytest.mark.parametrize(
    ("taken_out", "first"),  # a history that is known to find it comes first, to save time
    [
        (no_look_between, 9),
        (held_futures_do_not_count, 36),
        (statements_are_not_compared, 2),
        (changed_values_are_not_noticed, 2),
    ],
)
def test_the_model_notices_what_is_disabled(
    taken_out: Callable[[pytest.MonkeyPatch], None], first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken_out(monkeypatch)
    with pytest.raises(AssertionError, match=r"mixed|two values"):
        play([*range(first, 50), *range(first)], steps=40)
