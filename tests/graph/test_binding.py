"""Bindings: arguments by name, and the call as it was written."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cloudpickle
import pytest

from penstock import INPUTS, TASK_CODE, TASK_SOURCE, task
from penstock.digests.python import digest, register_digest
from penstock.digests.refs import OwnDefault
from penstock.digests.walk import hash_leaf
from penstock.errors import ParameterError
from penstock.graph.binding import Binding, Style, binding_of
from penstock.graph.carried import code_digests
from penstock.objects.registrations import forget


def shown(a: Any, /, b: Any, *rest: Any, c: Any = 3, **more: Any) -> Any:
    return a, b, rest, c, more


def wrapped(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    return wrapper


def test_bound_arguments_can_be_passed_to_any_function() -> None:
    binding = Binding(shown)
    bound = binding.bind(Caller("shown"), (1, 2, 4, 5), {"c": 6, "d": 7})
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
    assert binding.call(fn, binding.bind(Caller("fn"), args, kwargs), style) == (args, kwargs)


def test_a_plain_function_needs_no_style() -> None:
    assert Binding(shown).style((1, 2), {}) is None


def test_a_builtin_without_declared_parameters_accepts_anything() -> None:
    binding = Binding(max)
    assert binding.call(max, binding.bind(Caller("max"), (1, 5), {"key": lambda x: -x})) == 1


def test_a_binding_reads_the_parameters_again_when_unpickled() -> None:
    again = pickle.loads(pickle.dumps(Binding(shown)))
    assert again.parameters == ("a", "b", "rest", "c", "more")
    assert binding_of(shown).bind(Caller("shown"), (1, 2), {})["c"] == 3
    with pytest.raises(ParameterError):
        again.bind(Caller("shown"), (), {})
    with pytest.raises(AttributeError):
        again.anything  # noqa: B018


def test_a_task_that_refers_to_itself_keeps_its_defaults_and_code_digests() -> None:
    again = cloudpickle.loads(cloudpickle.dumps(_by_value()))
    assert again(3) == 7
    assert again.definition.binding.bind(Caller("counts"), (1,), {}) == {"n": 1, "step": 2}
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
        Binding(adds).bind(Caller("adds"), (1, 2), {"a": 3})


@dataclass(frozen=True)
class Caller:
    name: str


class Unset:
    pass


@dataclass(frozen=True, eq=False)
class Symbol:
    held: Any


MISSING, UNSET, AUTO, LISTED = object(), Unset(), Symbol("auto"), Symbol([])


def with_markers(a: Any = MISSING, b: Any = UNSET, c: Any = AUTO, d: Any = LISTED, e: Any = None) -> None:
    pass


def marked(fn: Callable[..., Any], *args: Any) -> dict[str, Any]:
    binding = Binding(fn)
    arguments = binding.bind(Caller("fn"), args, {})
    binding.mark(arguments)
    return arguments


def test_only_immutable_defaults_that_code_compares_with_are_replaced() -> None:
    assert [name for name, value in marked(with_markers).items() if type(value) is OwnDefault] == ["a", "b", "c"]
    assert marked(with_markers, 1, 2, 3, 4, 5) == {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}


def test_an_object_without_a_name_is_no_marker() -> None:
    def fills(into: Any = Unset()) -> None:  # noqa: B008
        into.count = 1

    assert Binding(fills).markers == {}


def test_a_default_that_has_got_an_attribute_is_no_marker() -> None:
    unset = Unset()

    def own(x: Any = unset) -> Any:
        return x is unset

    assert type(marked(own)["x"]) is OwnDefault
    unset.count = 1  # type: ignore[attr-defined]
    assert marked(own)["x"] is unset


def test_a_process_puts_the_defaults_of_its_own_function_in() -> None:
    arrived = pickle.loads(pickle.dumps(marked(with_markers)))
    found = Binding(with_markers).unmarked(arrived)
    assert (found["a"], found["b"], found["c"]) == (MISSING, UNSET, AUTO)


def test_a_default_counts_by_its_digest_and_without_one_as_a_marker() -> None:
    arguments = marked(with_markers)
    arrived = pickle.loads(pickle.dumps(arguments))
    assert digest(arguments["c"]) == digest(arrived["c"]) == digest(AUTO)
    assert digest(arguments["a"]) == digest(arrived["a"]) == hash_leaf(b"marker", b"").hex()
    register_digest(Unset, lambda value: "unset")
    try:
        assert digest(arguments["b"]) == digest(UNSET)
    finally:
        forget(Unset)


class Off(Unset):
    def __bool__(self) -> bool:
        return False


OFF = Off()


def test_code_may_compare_with_a_marker_and_the_class_of_the_marker_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def uses(x: Any) -> bool:
        return bool(UNSET)

    before = code_digests(uses, INPUTS + TASK_CODE, "uses")
    monkeypatch.setitem(globals(), "UNSET", OFF)
    assert code_digests(uses, INPUTS + TASK_CODE, "uses") != before
