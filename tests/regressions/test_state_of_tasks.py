"""State that only the code of tasks changes (caches, counters, timings) costs no hits, in any process of a program."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from penstock.errors import DigestError

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


SHARED = """
import collections
import functools
import random
from dataclasses import dataclass, field

from penstock import INPUTS, TASK_CODE, flow, task

CODE = INPUTS + TASK_CODE
TIMINGS = {}
METRICS = collections.defaultdict(list)
CALLS = 0
RATE = 1


def timed(fn):
    @functools.wraps(fn)
    def wrapper(*args):
        global CALLS
        CALLS += random.randint(1, 10**9)
        TIMINGS.setdefault(fn.__name__, []).append(random.random())
        return fn(*args)

    return wrapper


@task
@timed
def first_timed():
    return 1


@task(cache_policy=CODE)
@timed
def with_timed(x):
    return x


class Timer:
    def __init__(self, name):
        self.name = name

    def __enter__(self):
        return self

    def __exit__(self, *_):
        METRICS[self.name].append(random.random())


@task
def first_timer():
    with Timer("first"):
        return 1


@task(cache_policy=CODE)
def with_timer(x):
    with Timer("other"):
        return x


class Registry:
    items = {}

    @classmethod
    def get(cls, key):
        return cls.items.setdefault(key, key * 2)


@dataclass
class Cache:
    held: dict = field(default_factory=dict)

    def get(self, key):
        if key not in self.held:
            self.held[key] = key * 2
        return self.held[key]


CACHE = Cache()


def memoize(fn):
    known = {}

    @functools.wraps(fn)
    def inner(x):
        if x not in known:
            known[x] = fn(x)
        return known[x]

    return inner


@memoize
def remembered(x):
    return x * 2


def counting(x):
    counting.sum = getattr(counting, "sum", 0) + x
    return x * 2


def in_default(x, kept={}):
    return kept.setdefault(x, x * 2)


def counter():
    count = 0

    def counted(x):
        nonlocal count
        count += x
        return x * 2

    return counted


counted = counter()


def pair(helper):
    @task
    def first():
        return helper(random.randint(1, 10**9)) * 0 + 1

    @task(cache_policy=CODE, key_name=f"program:{helper.__qualname__}")
    def other(x):
        return helper(x)

    return first, other


CASES = {
    "timed": (first_timed, with_timed),
    "timer": (first_timer, with_timer),
    "class": pair(Registry.get),
    "object": pair(CACHE.get),
    "closure": pair(remembered),
    "attribute": pair(counting),
    "default": pair(in_default),
    "nonlocal": pair(counted),
}


@flow
def case(name):
    first, other = CASES[name]
    return other(first().result()).result()


@task
def configure(rate):
    global RATE
    RATE = rate


@task(cache_policy=CODE)
@timed
def rated(x):
    return x * RATE


@flow
def configuring(rate):
    first_timed().result()
    configure(rate).result()
    return rated(10).result()


@task(cache_policy=CODE)
@timed
def importing():
    import late_module

    return late_module.VALUE


@task(cache_policy=CODE)
@timed
def without_digest(x):
    return LOCK


LOCK = __import__("threading").Lock()


@flow
def branching(which):
    first_timed().result()
    return importing() if which else without_digest(1) if which is None else 0


@flow
def twice():
    return [case("timer"), case("timed")]


if __name__ == "__main__":
    print([sum(case.run(name).counts["executed"] for _ in range(2)) for name in CASES])
"""
NAMES = ["timed", "timer", "class", "object", "closure", "attribute", "default", "nonlocal"]


@pytest.fixture
def shared(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    return lambda: project(program=SHARED, late_module="VALUE = 7")


@pytest.mark.parametrize("name", NAMES)
def test_state_that_a_plain_task_changes_first_costs_no_hits(shared: Callable[[], Any], name: str) -> None:
    value = shared().case(name)
    for _ in range(2):
        program = shared()
        for _ in range(5):
            run = program.case.run(name)
            assert (run.result(), run.counts["executed"]) == (value, 1)


@pytest.mark.slow
def test_no_process_of_a_program_runs_a_task_again_for_the_state_of_another(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(SHARED)
    environment = {**os.environ, "PENSTOCK_STORE": str(tmp_path / "store")}
    outputs = [
        subprocess.run(
            [sys.executable, program], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(3)
    ]
    assert outputs == [f"{[count] * len(NAMES)}\n" for count in (3, 2, 2)]


def test_a_setting_that_a_task_changes_before_the_first_call_of_another_counts(shared: Callable[[], Any]) -> None:
    for rate in (2, 3, 2, 1):
        assert shared().configuring(rate) == 10 * rate


def test_a_task_that_may_be_called_later_imports_nothing(shared: Callable[[], Any]) -> None:
    assert shared().branching(False) == 0
    assert "late_module" not in sys.modules
    assert shared().branching(True) == 7


def test_a_task_without_a_digest_is_reported_only_if_it_is_called(shared: Callable[[], Any]) -> None:
    assert shared().branching(False) == 0
    with pytest.raises(DigestError, match="LOCK"):
        shared().branching(None)


def test_each_subflow_finds_the_results_of_other_processes(shared: Callable[[], Any]) -> None:
    assert shared().twice() == [1, 1]
    run = shared().twice.run()
    assert (run.result(), run.counts["executed"]) == ([1, 1], 2)


OF_ONE_NAME = """
from penstock import INPUTS, TASK_CODE, task

_CACHE = {}
_made = None


def made():
    global _made
    if _made is None:
        _made = {"factor": FACTOR}
    return _made["factor"]


def of(x):
    if x not in _CACHE:
        _CACHE[x] = x * made()
    return _CACHE[x]


@task(cache_policy=INPUTS + TASK_CODE)
def work(x):
    return of(x)
"""
WITH_BOTH = """
from penstock import flow, task

import doubles
import triples


@task
def forget():
    triples._made = {"factor": 30}
    triples._CACHE.clear()


@flow
def both():
    return [triples.work(doubles.work(x).result()).result() for x in range(1, 4)]


@flow
def forgetting():
    before = triples.work(5).result(), doubles.work(5).result()
    forget().result()
    return [*before, triples.work(5).result(), doubles.work(5).result()]
"""


@pytest.fixture
def of_one_name(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    modules = {"doubles": OF_ONE_NAME + "FACTOR = 2", "triples": OF_ONE_NAME + "FACTOR = 3"}
    return lambda: project(with_both=WITH_BOTH, **modules)


def test_variables_of_one_name_in_two_modules_are_told_apart(of_one_name: Callable[[], Any]) -> None:
    assert of_one_name().both() == [6, 12, 18]
    for _ in range(2):
        run = of_one_name().both.run()
        assert (run.result(), run.counts["executed"]) == ([6, 12, 18], 0)


def test_what_another_task_sets_in_one_of_the_modules_counts(of_one_name: Callable[[], Any]) -> None:
    for _ in range(2):
        assert of_one_name().forgetting() == [15, 10, 150, 10]


MADE_LATER = """
from dataclasses import dataclass

from penstock import INPUTS, TASK_CODE, flow, task


@dataclass
class Settings:
    rate: int = 1


made = None


def settings():
    global made
    if made is None:
        made = Settings()
    return made


@task
def configure(rate):
    settings().rate = rate


@task(cache_policy=INPUTS + TASK_CODE)
def price(x):
    return x * settings().rate


@flow
def configuring(rate):
    configure(rate).result()
    return price(5).result()


@flow
def part(x):
    return price(x).result()


@flow
def between(rate):
    before = part(5)
    configure(rate).result()
    return [before, part(5)]


@flow
def within(rate):
    before = price(5).result()
    configure(rate).result()
    return [before, price(5).result(), price(6).result()]
"""


@pytest.mark.parametrize(("name", "value"), [("configuring", 45), ("between", [5, 45])])
def test_a_setting_of_an_object_that_the_task_itself_makes_counts(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    for _ in range(2):
        assert getattr(project(made_later=MADE_LATER), name)(9) == value
        assert project(made_later=MADE_LATER).part(5) == 5


def test_what_another_task_sets_in_an_object_that_the_task_has_made_counts_in_the_same_flow(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    for _ in range(3):  # nothing is stored at first, then everything, and then all are hits
        module: Any = project(made_later=MADE_LATER)
        assert module.within(9) == [5, 45, 54]
        module.made = None
        assert [module.part(x) for x in (5, 6, 7)] == [5, 6, 7]
