"""Chains of cached nodes are bundled, and still no key is computed twice in a run."""

from __future__ import annotations

import random
import threading
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from penstock import INPUTS, Run, flow, load_settings, task
from penstock.driver.dispatching.fusion import Fusion
from penstock.events import BundleSubmitted, Event
from penstock.runners import ThreadRunner


def run(function: Any, store: Path, workers: int = 2, **more: Any) -> tuple[Run[Any], list[int]]:
    """Return the run of a flow function and the sizes of its bundles with several nodes."""
    seen: list[Event] = []
    bound = flow(function).with_options(runner=ThreadRunner(workers))
    settings = load_settings(overrides={"store": str(store), **more})
    done: Run[Any] = bound.run_with({}, settings=settings, subscribers=[seen.append])
    return done, [e.nodes for e in seen if isinstance(e, BundleSubmitted)]


class Links:
    """A cached task `link(x, most)` that returns x + 1, at most `most`, and counts its executions by input."""

    def __init__(self) -> None:
        self.ran: Counter[tuple[int, int]] = Counter()
        guard = threading.Lock()

        @task(cache_policy=INPUTS, key_name="link")
        def link(x: int, most: int) -> int:
            with guard:
                self.ran[x, most] += 1
            return min(x + 1, most)

        self.link = link

    def chain(self, x: Any, length: int, most: int) -> Any:
        for _ in range(length):
            x = self.link(x, most)
        return x


def test_a_chain_of_cached_nodes_is_bundled(tmp_path: Path) -> None:
    links = Links()
    done, sizes = run(lambda: links.chain(0, 100, 1000), tmp_path, isolation="read_committed")
    assert done.result() == 100
    assert done.counts["executed"] == 100
    assert max(sizes) >= 10  # as many as are assumed to fit until the duration of a link is known
    assert set(links.ran.values()) == {1}


def test_links_known_to_be_short_are_bundled_behind_a_locked_one(tmp_path: Path) -> None:
    links = Links()
    done, sizes = run(lambda: links.chain(0, 100, 1000), tmp_path, bundle_seconds=60)
    assert done.counts["executed"] == 100
    assert max(sizes) == 99  # all but the first, by which they are timed


def test_each_link_of_a_bundle_is_a_hit_later(tmp_path: Path) -> None:
    links = Links()
    run(lambda: links.chain(0, 30, 1000), tmp_path)
    done, _ = run(lambda: [links.link(n, 1000) for n in range(30)], tmp_path)
    assert done.result() == list(range(1, 31))
    assert done.counts["executed"] == 0


def test_links_with_equal_values_run_once_in_a_bundle(tmp_path: Path) -> None:
    links = Links()
    done, _ = run(lambda: links.chain(0, 50, 3), tmp_path)
    assert done.result() == 3
    assert links.ran == {(0, 3): 1, (1, 3): 1, (2, 3): 1, (3, 3): 1}
    assert done.counts["executed"] == 4


def test_chains_that_reach_equal_values_compute_each_key_once(tmp_path: Path) -> None:
    links = Links()
    done, _ = run(lambda: [links.chain(n, 12, 9) for n in range(6)], tmp_path, workers=4)
    assert done.result() == [9] * 6
    assert set(links.ran.values()) == {1}


@pytest.mark.parametrize("seed", range(6))
def test_no_graph_computes_a_key_twice(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    links = Links()
    moves = [(rng.random() < 0.85, rng.random(), rng.choice((5, 7))) for _ in range(80)]

    def graph() -> Any:
        nodes: list[Any] = [0]
        for follows, where, most in moves:
            source = nodes[-1] if follows else nodes[int(where * len(nodes))]
            nodes.append(links.link(source, most))
        return nodes

    expected = [0]
    for follows, where, most in moves:
        source = expected[-1] if follows else expected[int(where * len(expected))]
        expected.append(min(source + 1, most))
    done, _ = run(graph, tmp_path, workers=3)
    assert done.result() == expected
    assert set(links.ran.values()) == {1}


def test_a_call_traced_while_a_chain_runs_does_not_compute_its_keys_again(tmp_path: Path) -> None:
    ran: Counter[int] = Counter()
    reached, go = threading.Event(), threading.Event()

    @task(cache_policy=INPUTS, key_name="link")
    def link(x: int) -> int:
        ran[x] += 1
        if x == 1:
            reached.set()
            assert go.wait(100)
        return x + 1

    @task
    def plain(x: int) -> int:
        return x

    def pipeline() -> Any:
        end = link.submit(link.submit(link.submit(0)))
        watcher = threading.Thread(target=end.wait)
        watcher.start()
        assert reached.wait(100)  # the second link is running, and only its worker knows its key
        again = link.submit(1)
        assert plain(1) == 1  # its value is there, so the call before it was decided as well
        go.set()
        watcher.join()
        return end, again

    done, _ = run(pipeline, tmp_path, workers=3)
    assert done.result() == (3, 2)
    assert ran == {0: 1, 1: 1, 2: 1}


def test_retrying_a_link_of_a_cached_chain_reruns_no_earlier_link(tmp_path: Path) -> None:
    tries: Counter[int] = Counter()

    @task(cache_policy=INPUTS, retries=1)
    def shaky(x: int) -> int:
        tries[x] += 1
        if x == 20 and tries[x] == 1:
            raise ValueError("once")
        return x + 1

    def chain() -> Any:
        x = shaky(0)
        for _ in range(40):
            x = shaky(x)
        return x

    done, _ = run(chain, tmp_path)
    assert done.result() == 41
    assert tries == {n: 2 if n == 20 else 1 for n in range(41)}


# -- one decision at a time -----


class Scene:
    """Node 1 of a cached task, before node 2 of the same task; nothing is known about either yet."""

    def __init__(self) -> None:
        self.entry = SimpleNamespace(refresh=False, task=SimpleNamespace(identity="t"))
        self.graph: Any = SimpleNamespace(nodes=defaultdict(lambda: SimpleNamespace(entry=self.entry)))
        self.woken: list[int] = []
        self.progress: Any = defaultdict(lambda: SimpleNamespace(key=None, seen=None))
        self.unfinished = 2
        self.scheduler = SimpleNamespace(
            unfinished_of=lambda task: self.unfinished,
            dependents=lambda id: (2,) if id == 1 else (),
            over=lambda id: False,
        )
        self.flight = SimpleNamespace(manager=None, required=False)
        self.fusion = Fusion(self, flight_of=lambda node: self.flight)  # type: ignore[arg-type, return-value]

    def may_join(self, id: int = 1) -> bool:
        return self.fusion.may_join(id, set(), set(), short=False)

    def wake(self, id: int, *, look_up: bool) -> None:
        self.woken.append(id)

    def bundle(self) -> Any:
        return SimpleNamespace(number=1, calls=[SimpleNamespace(node=1, owns_task=True)])


def test_a_node_without_a_known_key_joins() -> None:
    assert Scene().may_join()


@pytest.mark.parametrize(("what", "value"), [("key", "k"), ("seen", 1)])
def test_a_node_with_a_known_key_or_a_lookup_does_not_join(what: str, value: Any) -> None:
    scene = Scene()
    setattr(scene.progress[1], what, value)
    assert not scene.may_join()


def test_a_refreshed_node_does_not_join() -> None:
    scene = Scene()
    scene.entry.refresh = True
    assert not scene.may_join()


def test_a_task_is_owned_by_a_bundle_until_it_ends() -> None:
    scene = Scene()
    scene.fusion.began(scene.bundle())
    assert not scene.may_join()
    assert scene.fusion.must_wait(2)
    scene.fusion.ended(scene.bundle())
    assert scene.woken == [2]
    assert scene.may_join()
    assert not scene.fusion.must_wait(2)


def test_a_task_that_could_not_be_owned_is_checked_again_when_fewer_nodes_are_left() -> None:
    scene = Scene()
    assert not scene.may_join(2)  # the other node does not depend on it
    scene.scheduler.dependents = lambda id: (1,) if id == 2 else ()  # would be found if it were checked
    assert not scene.may_join(2)
    scene.unfinished = 1
    assert scene.may_join(2)
