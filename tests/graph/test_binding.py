"""Bindings: arguments by name, and the call as it was written."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest

from penstock import INPUTS, TASK_CODE, TASK_SOURCE, task
from penstock.errors import ParameterError
from penstock.graph.binding import Binding, Style, binding_of
from penstock.graph.carried import code_digests


def shown(a: Any, /, b: Any, *rest: Any, c: Any = 3, **more: Any) -> Any:
    return a, b, rest, c, more


def wrapped(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    return wrapper


def test_bound_arguments_can_be_passed_to_any_function() -> None:
    binding = Binding(shown)
    bound = binding.bind("shown", (1, 2, 4, 5), {"c": 6, "d": 7})
    assert bound == {"a": 1, "b": 2, "rest": (4, 5), "c": 6, "more": {"d": 7}}
    assert binding.call(shown, bound) == (1, 2, (4, 5), 6, {"d": 7})


@pytest.mark.parametrize(
    ("args", "kwargs"), [((1,), {}), ((1, 2), {}), ((), {"x": 1}), ((1,), {"y": 2}), ((), {"y": 2, "x": 1})]
)
def test_a_wrapper_is_called_as_the_caller_wrote(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    @wrapped
    def fn(x: int, y: int = 0) -> None:
        pass

    binding = Binding(fn)
    style = binding.style(args, kwargs)
    assert style == Style(len(args), frozenset(kwargs))
    assert binding.call(fn, binding.bind("fn", args, kwargs), style) == (args, kwargs)


def test_a_plain_function_needs_no_style() -> None:
    assert Binding(shown).style((1, 2), {}) is None


def test_a_builtin_without_declared_parameters_accepts_anything() -> None:
    binding = Binding(max)
    assert binding.call(max, binding.bind("max", (1, 5), {"key": lambda x: -x})) == 1


def test_a_binding_reads_the_parameters_again_when_unpickled() -> None:
    again = pickle.loads(pickle.dumps(Binding(shown)))
    assert again.parameters == ("a", "b", "rest", "c", "more")
    assert binding_of(shown).bind("shown", (1, 2), {})["c"] == 3
    with pytest.raises(ParameterError):
        again.bind("shown", (), {})
    with pytest.raises(AttributeError):
        again.anything  # noqa: B018


def test_a_task_that_refers_to_itself_keeps_its_defaults_and_code_digests() -> None:
    again = cloudpickle.loads(cloudpickle.dumps(_by_value()))
    assert again(3) == 7
    assert again.definition.binding.bind("counts", (1,), {}) == {"n": 1, "step": 2}
    policy = INPUTS + TASK_SOURCE + TASK_CODE
    there = code_digests(again.definition.fn, policy, "counts")
    assert there == code_digests(_by_value().definition.fn, policy, "counts")
    assert set(there) == {"task_source", "task_code"}


def _by_value() -> Any:
    """A task that belongs to no module, so that it is pickled by value."""

    @task(cache_policy=INPUTS + TASK_SOURCE + TASK_CODE, persist_result=False)
    def counts(n: int, step: int = 2) -> int:
        return step * n + 1 if n < 4 else int(counts(n - 1))

    return counts


def test_an_argument_given_twice_is_an_error_though_all_parameters_have_values() -> None:
    def adds(a: int, b: int) -> int:
        return a + b

    with pytest.raises(ParameterError, match="adds"):
        Binding(adds).bind("adds", (1, 2), {"a": 3})
