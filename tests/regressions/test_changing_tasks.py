"""Constants that another task of the flow changes count for the calls made afterwards."""

from __future__ import annotations

import collections
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from penstock import INPUTS, TASK_CODE, Files, flow, task
from penstock.errors import DigestError

CHANGING = """
from penstock import INPUTS, TASK_CODE, flow, task

CONFIG = {"x": 1}


@task
def configure(v):
    CONFIG["x"] = v


@task(cache_policy=INPUTS + TASK_CODE)
def read(n):
    return CONFIG["x"]


@flow
def changing():
    a = read(5)
    configure(9).result()
    return [a, read(5), read(6)]


@flow
def just(n):
    return read(n)


@flow
def asking():
    a = read(5).result()
    configure(9).result()
    return [a, read(5).result(), read(6).result()]
"""


def test_calls_after_another_task_has_changed_a_constant_have_its_new_value(
    project: Callable[..., ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    module: Any = project(changing=CHANGING)
    assert module.asking() == [1, 9, 9]
    module.CONFIG["x"] = 1
    assert [module.just(5), module.just(6)] == [1, 1]
    assert module.asking() == [1, 9, 9]


def test_a_chain_map_can_be_a_constant() -> None:
    chained = collections.ChainMap({}, {"a": 1})

    @task(cache_policy=INPUTS + TASK_CODE)
    def read() -> int:
        return chained["a"]

    assert read() == 1
    chained.maps[1]["a"] = 2
    assert read() == 2


@pytest.mark.slow
def test_a_subflow_with_a_future_as_parameter_reads_files_on_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_RUNNER", "processes?workers=1")
    data = tmp_path / "data.txt"
    data.write_text("text")

    @task
    def one() -> int:
        return 1

    @task(cache_policy=INPUTS + Files(parameter="path"))
    def read(path: str, n: int) -> str:
        return Path(path).read_text()

    @flow
    def inner(n: Any) -> Any:
        return read(str(data), n)

    @flow
    def outer() -> Any:
        return inner(one())

    assert outer() == "text"


SETTINGS_AND_STATE = """
from dataclasses import dataclass

from penstock import INPUTS, TASK_CODE, flow, task

DEFAULT_RATE = 1
RUNS = []
made = None
OPTIONS = {"rate": 1}
STATE = {"rate": 1, "seen": {}}


@dataclass
class Settings:
    rate: int = 1


@dataclass
class Invoice:
    net: int
    rate: int = 0


SETTINGS = Settings()


def lazily():
    global made
    if made is None:
        made = {"rate": DEFAULT_RATE}
    return made["rate"]


def of_a_copy(options=OPTIONS):
    options = {**options}
    options["seen"] = True
    return options["rate"]


def beside_a_cache(x):
    STATE["seen"][x] = True
    return STATE["rate"]


def of_an_attribute(x):
    invoice = Invoice(x)
    invoice.rate = SETTINGS.rate
    return invoice.rate


def set_rate(rate):
    global made
    made = {"rate": rate}
    OPTIONS["rate"] = STATE["rate"] = SETTINGS.rate = rate


@task
def configure(rate):
    set_rate(rate)
    RUNS.append(rate)


@task(cache_policy=INPUTS + TASK_CODE)
def lazy(x):
    return x * lazily()


@task(cache_policy=INPUTS + TASK_CODE)
def copied(x):
    return x * of_a_copy()


@task(cache_policy=INPUTS + TASK_CODE)
def cached(x):
    return x * beside_a_cache(x)


@task(cache_policy=INPUTS + TASK_CODE)
def named(x):
    return x * of_an_attribute(x)


@task(cache_policy=INPUTS + TASK_CODE)
def noted(x):
    RUNS.append(x)
    return x


TASKS = {each.name: each for each in (lazy, copied, cached, named, noted)}


@flow
def changing(name, rate):
    before = TASKS[name](1).result()
    configure(rate).result()
    return [before, TASKS[name](10).result()]


@flow
def changing_itself(name, rate):
    before = TASKS[name](1).result()
    set_rate(rate)
    return [before, TASKS[name](10).result()]


@flow
def changing_while_another_runs(name, rate, wait):
    waiting = waits(wait)
    before = TASKS[name](1).result()
    set_rate(rate)
    go_on.set()
    return [before, TASKS[name](10).result(), waiting.result()][:2]


import threading

go_on = threading.Event()


@task
def waits(seconds):
    go_on.wait(seconds)


@flow
def one(name, x):
    return TASKS[name](x)


def reset(rate=1):
    set_rate(rate)
    STATE["seen"] = {}
"""


@pytest.fixture
def settings(project: Callable[..., ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    module: Any = project(settings_and_state=SETTINGS_AND_STATE)
    module.reset()
    return module


@pytest.mark.parametrize("name", ["lazy", "copied", "cached", "named"])
@pytest.mark.parametrize("how", ["changing", "changing_itself", "changing_while_another_runs"])
def test_settings_that_a_task_seems_to_modify_count_when_other_code_changes_them(
    settings: Any, name: str, how: str
) -> None:
    more = [60.0] if how == "changing_while_another_runs" else []
    assert getattr(settings, how)(name, 2, *more) == [1, 20]
    settings.reset()
    assert [settings.one(name, 10), settings.one(name, 70)] == [10, 70]
    settings.reset(2)
    assert [settings.one(name, 10), settings.one(name, 70)] == [20, 140]


def test_a_list_to_which_several_tasks_only_add_is_no_constant(settings: Any) -> None:
    assert settings.changing("noted", 2) == [1, 10]
    before = list(settings.RUNS)
    assert settings.changing("noted", 2) == [1, 10]
    ran = settings.RUNS[len(before) :]
    assert ran == [2], "only the uncached task runs again"


@pytest.mark.slow
def test_a_setting_deep_inside_a_large_constant_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    table = {number: {"rate": 1} for number in range(12_000)}

    @task(cache_policy=INPUTS + TASK_CODE)
    def price(x: int) -> int:
        return x * table[11_999]["rate"]

    @flow
    def changing() -> list[int]:
        before = price(10).result()
        table[11_999]["rate"] = 2
        return [before, price(10).result()]

    assert changing() == [10, 20]


TWO_CACHES = """
from dataclasses import dataclass, field

from penstock import INPUTS, TASK_CODE, flow, task


@dataclass
class Squares:
    squares: dict = field(default_factory=dict)

    def of(self, x):
        if x not in self.squares:
            self.squares[x] = x * x
        return self.squares[x]


@dataclass
class Cubes:
    cubes: dict = field(default_factory=dict)

    def of(self, x):
        if x not in self.cubes:
            self.cubes[x] = x**3
        return self.cubes[x]


SQUARES, CUBES = Squares(), Cubes()


@task(cache_policy=INPUTS + TASK_CODE)
def square(x):
    return SQUARES.of(x)


@task(cache_policy=INPUTS + TASK_CODE)
def cube(x):
    return CUBES.of(x)


@flow
def both(numbers):
    return [(square(x).result(), cube(x).result()) for x in numbers]
"""


def test_the_caches_of_two_tasks_are_told_apart_though_their_methods_have_one_name(
    project: Callable[..., ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    module: Any = project(two_caches=TWO_CACHES)
    assert module.both([2, 3]) == [(4, 8), (9, 27)]
    for numbers, executed in (([2, 3], 0), ([3, 4], 2)):
        run = module.both.run(numbers)
        assert run.result() == [(x * x, x**3) for x in numbers]
        assert run.counts.get("executed", 0) == executed


GIVEN_LATER = """
from penstock import INPUTS, TASK_CODE, flow, task

CONFIG = {"x": 1}
SEEN = {}


@task(cache_policy=INPUTS + TASK_CODE)
def read(n):
    SEEN[n] = True
    return CONFIG["x"]


@task
def note():
    SEEN["note"] = True


@flow
def changing(given):
    found = read(1)
    CONFIG["x"] = 5
    given[0]()
    return found.result()
"""


def test_a_change_of_the_flow_is_noticed_though_a_task_that_shares_state_is_called_after_it(
    project: Callable[..., ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    module: Any = project(given_later=GIVEN_LATER)
    with pytest.raises(DigestError, match="read changed after the call"):
        module.changing([module.note])
