"""The identity of a task whose key holds only its inputs: its name if that is unique, else what the callable holds."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import io
import math
import os
import shutil
import statistics
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from penstock.digests.names import importable_name, main_module, main_module_name
from penstock.digests.python import digest
from penstock.errors import DigestError
from penstock.graph.carried import carry_code, code_digests, code_to_carry
from penstock.graph.keys import KeyContext, compile_template
from penstock.graph.policies import INPUTS, RUN_ID, TASK_CODE, TASK_SOURCE, CacheKey, CachePolicy
from penstock.graph.tasks import TaskDefinition, TaskOptions

ROOT = str(Path(__file__).parents[2])
CONTEXT = KeyContext(run_id="r", flow_parameters={}, flow_name=None, file_digest=str, expand=lambda pattern: [])


def key(fn: Callable[..., Any], policy: CachePolicy = INPUTS, key_name: str | None = None) -> str | None:
    """Return the cache key of a call with the same arguments each time."""
    definition = TaskDefinition(fn, TaskOptions(cache_policy=policy, key_name=key_name))
    template = compile_template(policy, identity=definition.identity, fn=fn, parameters=["x"], context=CONTEXT)
    assert template is not None
    return template.cache_key({"x": 1})


def named(x: int, by: int = 1) -> int:
    return x * by


def other(x: int, by: int = 1) -> int:
    return x + by


@dataclasses.dataclass
class Shop:
    tax: float

    def price(self, x: int) -> float:
        return x * self.tax

    def __call__(self, x: int) -> float:
        return x + self.tax

    @classmethod
    def open(cls, x: int) -> str:
        return f"{cls.__name__} {x}"


class Market(Shop):
    pass


def closing_over(held: Any) -> Callable[[int], Any]:
    def inner(x: int) -> Any:
        return held, x

    return inner


def scaled(by: float) -> Callable[[Callable[[int], float]], Callable[[int], float]]:
    def decorate(fn: Callable[[int], float]) -> Callable[[int], float]:
        @functools.wraps(fn)
        def wrapper(x: int) -> float:
            return fn(x) * by

        return wrapper

    return decorate


def one_of_two(first: bool) -> Callable[[int], int]:
    if first:

        def inner(x: int) -> int:
            return x + 1

    else:

        def inner(x: int) -> int:
            return x - 1

    return inner


PAIRS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "partials with other arguments": (lambda: functools.partial(named, by=1), lambda: functools.partial(named, by=2)),
    "partials with positional arguments": (lambda: functools.partial(named, 1), lambda: functools.partial(named, 2)),
    "partials of other functions": (lambda: functools.partial(named, by=1), lambda: functools.partial(other, by=1)),
    "partials of partials": (
        lambda: functools.partial(functools.partial(named, by=1)),
        lambda: functools.partial(functools.partial(named, by=2)),
    ),
    "methods of other objects": (lambda: Shop(1.1).price, lambda: Shop(1.2).price),
    "methods of other classes": (lambda: Shop(1.1).price, lambda: Market(1.1).price),
    "class methods": (lambda: Shop.open, lambda: Market.open),
    "objects that are called": (lambda: Shop(1.1), lambda: Shop(1.2)),
    "methods of built-in objects": (lambda: "a".join, lambda: "b".join),
    "closures over a list": (lambda: closing_over([1]), lambda: closing_over([2])),
    "closures over a dict": (lambda: closing_over({"a": 1}), lambda: closing_over({"a": 2})),
    "closures over a tuple": (lambda: closing_over((1,)), lambda: closing_over((2,))),
    "closures over a set": (lambda: closing_over({1}), lambda: closing_over({2})),
    "closures over a dataclass": (lambda: closing_over(Shop(1)), lambda: closing_over(Shop(2))),
    "closures over a function": (lambda: closing_over(named), lambda: closing_over(other)),
    "closures over a closure": (lambda: closing_over(closing_over(1)), lambda: closing_over(closing_over(2))),
    "closures over a module": (lambda: closing_over(math), lambda: closing_over(statistics)),
    "closures over a class": (lambda: closing_over(Shop), lambda: closing_over(Market)),
    "lambdas": (lambda: lambda x: x + 1, lambda: lambda x: x + 2),
    "lambdas with defaults": (lambda: lambda x, by=1: x + by, lambda: lambda x, by=2: x + by),
    "decorators with options": (lambda: scaled(2)(Shop(1).price), lambda: scaled(3)(Shop(1).price)),
    "decorated functions": (lambda: scaled(2)(named), lambda: scaled(3)(named)),
    "functions of one name in one function": (lambda: one_of_two(True), lambda: one_of_two(False)),
}


@pytest.mark.parametrize("policy", [INPUTS, INPUTS + RUN_ID, CacheKey("v1")], ids=repr)
@pytest.mark.parametrize("pair", PAIRS)
def test_the_object_that_a_callable_is_bound_to_counts_under_any_policy(pair: str, policy: CachePolicy) -> None:
    one, another = PAIRS[pair]
    assert key(one(), policy) == key(one(), policy)
    assert key(one(), policy) != key(another(), policy)


@pytest.mark.parametrize("held", [threading.Lock, lambda: iter([1]), lambda: io.StringIO("text")])
def test_a_bound_object_without_a_digest_needs_a_key_name(held: Callable[[], Any]) -> None:
    fn = closing_over(held())
    with pytest.raises(DigestError) as caught:
        key(fn)
    assert "key_name" in caught.value.hint
    assert "held" in caught.value.where
    assert key(fn, key_name="inner") == key(closing_over(2), key_name="inner")


def test_the_hint_for_a_bound_object_suggests_a_key_name() -> None:
    class Plain:
        def price(self, x: int) -> int:
            return x

    with pytest.raises(DigestError, match=r"Plain\.price") as caught:
        key(Plain().price)
    assert "key_name" in caught.value.hint


def test_top_level_functions_and_classes_are_identified_by_name() -> None:
    def changed(x: int, by: int = 1) -> int:
        return x

    changed.__qualname__ = "named"
    changed.__code__ = changed.__code__.replace(co_qualname="named")
    assert key(changed) == key(named)
    assert key(Shop) != key(Market)
    assert key(len) != key(abs)


def test_a_function_without_source_is_identified_by_its_byte_code() -> None:
    def made(text: str) -> Any:
        scope: dict[str, Any] = {}
        exec(text, scope)
        return scope["f"]

    assert key(made("def f(x): return x + 1")) == key(made("def f(x): return x + 1"))
    assert key(made("def f(x): return x + 1")) != key(made("def f(x): return x + 2"))
    assert key(made("def f(x): return x in {'a', 'b'}")) == key(made("def f(x): return x in {'b', 'a'}"))
    assert key(made("def f(x): return [y for y in x if y > 1]")) != key(
        made("def f(x): return [y for y in x if y > 2]")
    )


def test_code_digests_travel_to_where_there_is_no_source() -> None:
    scope: dict[str, Any] = {"dataclasses": dataclasses}
    exec("@dataclasses.dataclass\nclass Shop:\n    tax: float\n    def __call__(self, x): return x", scope)
    there, here = scope["Shop"](1), scope["Shop"](1)  # equal and unhashable
    assert code_to_carry(there, INPUTS, ":".join(importable_name(there))).keys() == {"unnamed"}
    carry_code(here, {"unnamed": "c" * 40})
    assert code_digests(here, INPUTS, ":".join(importable_name(here))) == {"task_source": "c" * 40}
    assert code_digests(there, INPUTS, ":".join(importable_name(there))) != {"task_source": "c" * 40}
    carry_code(len, {"unnamed": "c" * 40})  # identified by name, so no digest is needed
    assert code_digests(len, INPUTS, "builtins:len") == {}


# -- scripts and notebooks -------------------------------------------------------------------------------------------


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModuleType]]:
    """Write a module into its own folder and import it, as another project does."""
    before = set(sys.modules)

    def write(name: str, text: str, folder: str = "one") -> ModuleType:
        path = tmp_path / folder / (name.replace(".", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        for loaded in set(sys.modules) - before:
            if str(tmp_path) in str(getattr(sys.modules[loaded], "__file__", "")) or loaded == name.partition(".")[0]:
                del sys.modules[loaded]
        with monkeypatch.context() as patch:
            patch.syspath_prepend(tmp_path / folder)
            importlib.invalidate_caches()
            return importlib.import_module(name)

    yield write
    for loaded in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[loaded], "__file__", "")):
            del sys.modules[loaded]


def test_files_of_one_name_in_two_projects_do_not_share_results(load: Callable[..., ModuleType]) -> None:
    one = key(load("main", "def load(x):\n    return x\n", "one").load)
    assert key(load("main", "def load(x):\n    return -x\n", "two").load) != one
    moved = load("main", "def load(x):\n    return x  # in another checkout\n", "elsewhere").load
    assert key(moved) == one
    assert key(moved, key_name="loader") == key(
        load("main", "def load(x):\n    return -x\n", "two").load, key_name="loader"
    )


def test_a_module_in_a_package_is_identified_by_its_name(load: Callable[..., ModuleType]) -> None:
    one = key(load("shop.main", "def load(x):\n    return x\n", "one").load)
    assert key(load("shop.main", "def load(x):\n    return -x\n", "two").load) == one


def _notebook(monkeypatch: pytest.MonkeyPatch, **names: Any) -> None:
    main = ModuleType("__main__")
    vars(main).update(names)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))


def test_a_notebook_is_identified_by_its_file_if_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    _notebook(monkeypatch)
    assert main_module_name() == "__main__"
    monkeypatch.setenv("JPY_SESSION_NAME", "/notebooks/features.ipynb")
    assert main_module_name() == "features.ipynb"
    _notebook(monkeypatch, __vsc_ipynb_file__="/notebooks/prices.ipynb")
    assert main_module_name() == "prices.ipynb"
    monkeypatch.delitem(sys.modules, "ipykernel")
    assert main_module_name() == "__main__"  # a program that a notebook starts inherits its variables


def test_cells_of_two_notebooks_do_not_share_results() -> None:
    def cell(text: str) -> Any:
        scope: dict[str, Any] = {"__name__": "__main__"}
        exec(text, scope)
        return scope["load"]

    with main_module("__main__"):  # the file is unknown
        assert key(cell("def load(x): return x")) == key(cell("def load(x): return x"))
        assert key(cell("def load(x): return x")) != key(cell("def load(x): return -x"))


@pytest.mark.slow
def test_scripts_of_one_name_have_their_own_results_and_a_moved_one_keeps_its_results(tmp_path: Path) -> None:
    text = """
        from penstock import INPUTS, flow, task

        @task(cache_policy=INPUTS)
        def load(day):
            print("runs")
            return day + %d

        @flow
        def weekly():
            return load(1)

        if __name__ == "__main__":
            print(weekly())
    """

    def run(folder: str) -> list[str]:
        environment = {**os.environ, "PENSTOCK_STORE": str(tmp_path / "store"), "PYTHONPATH": ROOT}
        said = subprocess.run(
            [sys.executable, "main.py"], cwd=tmp_path / folder, env=environment, capture_output=True, text=True
        )
        assert said.returncode == 0, said.stderr
        return said.stdout.split()

    for folder, number in (("one", 1), ("two", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "main.py").write_text(textwrap.dedent(text % number))
    assert run("one") == ["runs", "2"]
    assert run("two") == ["runs", "3"]
    shutil.move(tmp_path / "one", tmp_path / "moved")
    assert run("moved") == ["2"]
    assert run("two") == ["3"]


# -- moved modules ---------------------------------------------------------------------------------------------------

MOVED = """
    import dataclasses

    @dataclasses.dataclass
    class Rate:
        by: int

    RATE = Rate(3)

    def helper(x):
        return x * RATE.by

    def f(x, rate=Rate(2), then=helper):
        return then(x) * rate.by
"""


@pytest.mark.parametrize("policy", [TASK_SOURCE, TASK_CODE], ids=repr)
def test_helpers_classes_and_constants_of_a_moved_module_follow_its_key_name(
    load: Callable[..., ModuleType], policy: CachePolicy
) -> None:
    one = key(load("shop.rates", MOVED).f, policy, key_name="rates")
    assert key(load("shop.prices.rates", MOVED).f, policy, key_name="rates") == one
    edited = MOVED.replace("Rate(2)", "Rate(4)")
    assert key(load("shop.prices.rates", edited, "two").f, policy, key_name="rates") != one


# -- modules as values -----------------------------------------------------------------------------------------------


def test_an_installed_module_counts_by_name_and_a_project_module_by_content(load: Callable[..., ModuleType]) -> None:
    assert digest(math) == digest(math)
    assert digest(math) != digest(os)
    one = digest(load("rules", "LIMIT = 1\n"))
    assert digest(load("rules", "LIMIT = 1  # the same\n", "two")) == one
    assert digest(load("rules", "LIMIT = 2\n", "three")) != one
    assert digest(load("shop", "")) != digest(load("rules", "", "four"))


@pytest.mark.parametrize("policy", [INPUTS, TASK_SOURCE, TASK_CODE], ids=repr)
def test_a_module_can_be_imported_where_a_task_is_defined(load: Callable[..., ModuleType], policy: CachePolicy) -> None:
    def make(rules: ModuleType) -> Callable[..., Any]:
        import math

        def f(x: int, also: Any = math) -> Any:
            return also.sqrt(x) + rules.LIMIT

        return f

    one = key(make(load("rules", "LIMIT = 1\n")), policy)
    assert key(make(load("rules", "LIMIT = 1\n", "moved")), policy) == one
    assert key(make(load("rules", "LIMIT = 2\n", "two")), policy) != one
