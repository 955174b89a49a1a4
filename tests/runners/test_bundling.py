"""Bundles: many small nodes are sent together, and each still ends independently."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from penstock import Run, flow, load_settings, task
from penstock.driver.dispatching.bundling import MOST_BYTES
from penstock.events import BundleSubmitted, Event
from penstock.runners import ProcessRunner, ThreadRunner
from penstock.runners.base import Runner

RUNNERS = [ThreadRunner(2), pytest.param(ProcessRunner(2), marks=pytest.mark.slow)]


def run(function: Any, runner: Runner | None = None, **settings: Any) -> tuple[Run[Any], list[int]]:
    """Return the run of a flow function and the sizes of the bundles with more than one node."""
    seen: list[Event] = []
    bound = flow(function).with_options(runner=runner or ThreadRunner(2))
    done: Run[Any] = bound.run_with({}, settings=load_settings(overrides=settings), subscribers=[seen.append])
    return done, [e.nodes for e in seen if isinstance(e, BundleSubmitted)]


@task
def grown(x: int) -> int:
    return x + 1


@task
def total(xs: list[int]) -> int:
    return sum(xs)


@task
def marked(x: int, folder: str) -> int:
    with open(f"{folder}/{x}", "a") as file:
        file.write("x")
    return x


def starts(folder: Path, x: int) -> int:
    path = folder / str(x)
    return len(path.read_text()) if path.exists() else 0


@pytest.mark.parametrize("runner", RUNNERS)
def test_small_nodes_of_a_fan_out_are_bundled(runner: Runner) -> None:
    done, sizes = run(lambda: total([grown(i) for i in range(500)]), runner)
    assert done.result() == sum(range(1, 501))
    assert done.counts["executed"] == 501
    assert sum(sizes) > 250


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_chain_is_bundled(runner: Runner) -> None:
    def chain() -> Any:
        x = grown(0)
        for _ in range(300):
            x = grown(x)
        return x

    done, sizes = run(chain, runner)
    assert done.result() == 301
    assert max(sizes) > 100


def test_nothing_is_bundled_when_bundling_is_off() -> None:
    done, sizes = run(lambda: total([grown(i) for i in range(50)]), bundle_seconds=0)
    assert done.result() == sum(range(1, 51))
    assert sizes == []


def test_a_bundle_holds_no_more_nodes_than_allowed() -> None:
    done, sizes = run(lambda: [grown(grown(i)) for i in range(200)], bundle_nodes=7)
    assert done.counts["executed"] == 400
    assert max(sizes) == 7


def test_a_node_with_a_time_limit_is_sent_alone() -> None:
    limited = grown.with_options(timeout_seconds=60)
    done, sizes = run(lambda: total([limited(i) for i in range(50)]))
    assert done.result() == sum(range(1, 51))
    assert sizes == []


def test_long_nodes_are_sent_alone() -> None:
    @task
    def long(x: int) -> int:
        time.sleep(0.03)
        return x

    done, sizes = run(lambda: [long(i) for i in range(8)], bundle_seconds=0.05)
    assert done.result() == list(range(8))
    assert sizes == []


def test_a_failing_node_fails_none_of_its_neighbours() -> None:
    @task
    def picky(x: int) -> int:
        if x == 37:
            raise ValueError("37")
        return x

    @task
    def kept(x: int) -> int:
        return x

    def both() -> Any:
        return [kept(picky(i)) for i in range(100)]

    done, _ = run(both)
    assert isinstance(done.error, ValueError)
    assert done.by_task()["picky"]["executed"] == 99
    assert done.by_task()["kept"]["executed"] == 99


def test_retrying_a_link_does_not_rerun_the_links_before_it() -> None:
    tries: dict[int, int] = {}

    @task(retries=1)
    def shaky(x: int) -> int:
        tries[x] = tries.get(x, 0) + 1
        if x == 20 and tries[x] == 1:
            raise ValueError("once")
        return x + 1

    def chain() -> Any:
        x = shaky(0)
        for _ in range(40):
            x = shaky(x)
        return x

    done, sizes = run(chain)
    assert done.result() == 41
    assert max(sizes) > 20
    assert tries == {n: 2 if n == 20 else 1 for n in range(41)}


def test_calls_that_a_bundle_does_not_reach_in_time_are_returned(tmp_path: Path) -> None:
    @task
    def quick_then_slow(x: int) -> int:
        time.sleep(0.1 if x == 10 else 0)
        return marked.fn(x, str(tmp_path))

    done, _ = run(lambda: [quick_then_slow(i) for i in range(200)], bundle_seconds=0.02)
    assert done.result() == list(range(200))
    assert {starts(tmp_path, x) for x in range(200)} == {1}


@pytest.mark.slow
def test_a_dead_worker_costs_its_neighbours_only_time(tmp_path: Path) -> None:
    @task
    def deadly(x: int, folder: str) -> int:
        marked.fn(x, folder)
        if x == 60 and len(Path(folder, "60").read_text()) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    done, sizes = run(lambda: [deadly(i, str(tmp_path)) for i in range(150)], ProcessRunner(1))
    assert done.result() == list(range(150))
    assert max(sizes) > 1
    assert starts(tmp_path, 60) == 2


@pytest.mark.parametrize("seed", range(8))
def test_any_graph_gives_the_same_values_with_and_without_bundles(seed: int) -> None:
    rng = random.Random(seed)
    inputs = [sorted(rng.sample(range(n), min(n, rng.randint(0, 3)))) for n in range(120)]

    def any_graph() -> Any:
        nodes: list[Any] = []
        for n, wanted in enumerate(inputs):
            nodes.append(total([nodes[i] for i in wanted]) if wanted else grown(n))
        return nodes

    expected: list[int] = []
    for n, wanted in enumerate(inputs):
        expected.append(sum(expected[i] for i in wanted) if wanted else n + 1)
    done, sizes = run(any_graph)
    assert done.result() == expected
    assert sizes


@task
def head(data: bytes) -> int:
    return data[0]


@pytest.mark.slow
def test_bundles_are_limited_by_bytes_too() -> None:
    done, sizes = run(lambda: [head(bytes([n]) * 200_000) for n in range(250)], ProcessRunner(1))
    assert done.result() == list(range(250))
    assert max(sizes) * 200_000 <= MOST_BYTES


@pytest.mark.slow
def test_a_large_argument_is_sent_once_for_all_calls() -> None:
    engines: list[Any] = []

    class Watched(ProcessRunner):
        def open(self, context: Any, report: Any) -> Any:
            engines.append(super().open(context, report))
            submit, engines[0].weights = engines[0].submit, []

            def weighed(bundle: Any) -> None:
                submit(bundle)
                engines[0].weights.append(bundle.size)

            engines[0].submit = weighed
            return engines[0]

    data = b"x" * 5_000_000
    done, _ = run(lambda: [head(data) for _ in range(20)], Watched(2))
    assert done.result() == [120] * 20
    assert sum(engines[0].weights) < 100_000
