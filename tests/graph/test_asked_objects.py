"""What the code of a task holds may be a future, or answer no question: keys are computed, or say why not."""

from __future__ import annotations

import functools
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import choice, shuffle
from random import random as draw
from types import ModuleType
from typing import Any, ClassVar

import pytest

from penstock import INPUTS, TASK_CODE, TASK_SOURCE, flow, task
from penstock.digests.definitions.behind import behind
from penstock.digests.names import is_project_module
from penstock.digests.python import digest
from penstock.digests.sources import task_code
from penstock.errors import DigestError

# -- futures -----------------------------------------------------------------------------------------------------------


@task
def ident(x: Any) -> Any:
    return x


def add(x: int, k: int) -> int:
    return x + k


def _closure(future: Any) -> Callable[..., Any]:
    return lambda x: x + future


def _listed(future: Any) -> Callable[..., Any]:
    held = [{"deep": future}]
    return lambda x: x + held[0]["deep"]


def _helper(future: Any) -> Callable[..., Any]:
    helper = _closure(future)
    return lambda x: helper(x)


def _default(future: Any) -> Callable[..., Any]:
    def function(x: int, k: Any = future) -> Any:
        return x + k

    return function


def _keyword(future: Any) -> Callable[..., Any]:
    def function(x: int, *, k: Any = future) -> Any:
        return x + k

    return function


def _partial(future: Any) -> Callable[..., Any]:
    return functools.partial(add, k=future)


def _position(future: Any) -> Callable[..., Any]:
    return functools.partial(add, future)


class Holder:
    def __init__(self, held: Any) -> None:
        self.held = held

    def method(self, x: int) -> Any:
        return x + self.held

    def __call__(self, x: int) -> Any:
        return x + self.held


HOLDERS = {
    _closure: "its closure variable 'future'",
    _listed: "its closure variable 'held'",
    _helper: "its closure variable 'helper'",
    _default: "the default of its parameter 'k'",
    _keyword: "the default of its parameter 'k'",
    _partial: "the argument 'k' of its partial",
    _position: "argument 0 of its partial",
    lambda future: Holder(future).method: "the object to which it is bound",
    Holder: "the object that is called",
}


@pytest.mark.parametrize("policy", [INPUTS + TASK_CODE, INPUTS + TASK_SOURCE, INPUTS])
@pytest.mark.parametrize(("make", "holder"), HOLDERS.items())
def test_a_cached_task_that_holds_a_future_is_refused(
    make: Callable[..., Any], holder: str, policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    @flow
    def pipeline() -> Any:
        held = make(ident(5))
        return task(cache_policy=policy, name="holding")(held)(1)

    with pytest.raises(DigestError) as caught:
        pipeline()
    assert f"holds Future(ident, node 0, not here yet) in {holder}" in caught.value.what
    assert "has no value yet" in caught.value.because
    assert "as an argument" in caught.value.hint


@pytest.mark.parametrize("make", [_default, _keyword, _partial])
def test_a_task_without_a_cache_may_hold_a_future_as_a_default(make: Callable[..., Any]) -> None:
    @flow
    def pipeline() -> Any:
        return task(make(ident(5)), name="holding")(1)

    assert pipeline() == 6


def test_a_default_that_is_a_future_is_an_input_if_the_code_does_not_count() -> None:
    @flow
    def pipeline() -> Any:
        return task(cache_policy=INPUTS, key_name="holding")(_default(ident(5)))(1)

    assert pipeline() == 6


SHARED: Any = None


def _uses_shared(x: int) -> Any:
    return x + SHARED


def test_a_future_in_a_global_variable_has_no_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    @flow
    def pipeline() -> Any:
        monkeypatch.setitem(globals(), "SHARED", ident(5))
        return task(cache_policy=INPUTS + TASK_CODE)(_uses_shared)(1)

    with pytest.raises(DigestError, match="'SHARED'") as caught:
        pipeline()
    assert "future" in str(caught.value) or "Future" in str(caught.value)


# -- objects that answer with anything ---------------------------------------------------------------------------------


class Meta(type):
    values: ClassVar = {"k": 0}

    def __getattr__(cls, name: str) -> int:
        return int(Meta.values[name])  # a KeyError


class Strict(metaclass=Meta):
    def __init__(self) -> None:
        self.held = 1


class StrictDict(dict[str, int], metaclass=Meta):
    pass


class Refusing:
    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class Leaving(Refusing):
    def __getattr__(self, name: str) -> Any:
        raise SystemExit(name)


class Inventing:
    def __getattr__(self, name: str) -> Any:
        return Inventing()

    def __call__(self) -> None: ...


def test_a_class_whose_metaclass_raises_is_followed() -> None:
    @task(cache_policy=INPUTS + TASK_CODE)
    def read(x: int) -> int:
        return x + Strict.k  # type: ignore[attr-defined,no-any-return]

    assert flow(lambda: read(1))() == 1


@pytest.mark.parametrize("kind", ["Strict", "Refusing", "Leaving", "Inventing"])
@pytest.mark.parametrize("make", [_closure, _listed, _default, _partial, Holder])
def test_an_object_that_fails_to_answer_has_no_digest(make: Callable[..., Any], kind: str) -> None:
    held = {"Strict": Strict, "Refusing": Refusing, "Leaving": Leaving, "Inventing": Inventing}[kind]()
    with pytest.raises(DigestError):
        task_code(make(held))


def test_values_of_a_class_whose_metaclass_raises_are_arguments() -> None:
    @task(cache_policy=INPUTS - "other")
    def count(held: Any, other: Any) -> int:
        return len(held)

    assert flow(lambda: count(StrictDict(a=1), Strict()))() == 1
    assert digest(StrictDict(a=1)) != digest(StrictDict(a=2))


def test_nothing_is_behind_an_object_that_wraps_itself_without_an_end() -> None:
    magic = Inventing()
    assert behind(magic, lambda module: False) is magic


# -- functions that modules offer --------------------------------------------------------------------------------------


def draws(x: int) -> Any:
    return draw(), choice([x]), shuffle([x])


def test_a_function_of_random_counts_by_its_name() -> None:
    random.seed(1)
    before = task_code(draws), digest(choice), digest(draw)
    random.seed(2)
    assert (task_code(draws), digest(choice), digest(draw)) == before
    assert digest(choice) != digest(draw)


def test_a_method_of_a_generator_of_ones_own_counts_with_its_state() -> None:
    one, other = random.Random(1), random.Random(2)
    assert digest(one.choice) != digest(other.choice)
    assert digest(one.random) != digest(other.random)
    assert digest(one.random) != digest(draw)


_IN_A_NEW_PROCESS = """
from random import choice, random
{more}
from penstock.digests.sources import task_code
def f(x):
    return {used}
print(task_code(f))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "used"),
    [
        ("", "choice, random"),
        pytest.param("from numpy.random import rand, normal", "rand, normal", marks=pytest.mark.needs("numpy")),
        pytest.param("from numpy.random import default_rng", "default_rng", marks=pytest.mark.needs("numpy")),
    ],
)
def test_a_function_of_a_random_module_has_the_same_key_in_every_process(more: str, used: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_IN_A_NEW_PROCESS.format(more=more, used=used))
    run = [sys.executable, str(script)]
    one, other = (subprocess.run(run, capture_output=True, text=True, env=os.environ, check=True) for _ in range(2))
    assert len(one.stdout.strip()) == 40
    assert one.stdout == other.stdout


@pytest.mark.needs("numpy")
def test_functions_of_numpy_count_by_their_public_names() -> None:
    import numpy as np
    from numpy.random import default_rng, rand

    def draws(x: int) -> Any:
        return rand(), default_rng(x)

    np.random.seed(1)
    before = task_code(draws), digest(rand), digest([default_rng])
    np.random.seed(2)
    assert (task_code(draws), digest(rand), digest([default_rng])) == before
    assert digest(np.random.RandomState(1).rand) != digest(np.random.RandomState(2).rand) != digest(rand)


def test_a_method_that_a_module_of_the_project_offers_counts_with_its_object(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = ModuleType("a_module_of_mine")
    mine.__dict__["Counter"] = type("Counter", (random.Random,), {"__module__": mine.__name__})
    monkeypatch.setitem(sys.modules, mine.__name__, mine)
    assert is_project_module(mine.__name__)
    found = []
    for seed in (1, 2):
        mine.__dict__["choice"] = mine.__dict__["Counter"](seed).choice
        try:
            found.append(digest(mine.__dict__["choice"]))
        except DigestError:
            found.append(f"refused {seed}")
    assert found[0] != found[1]
