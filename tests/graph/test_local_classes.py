"""Classes that a function makes: what each call puts into them counts, though their statement is the same."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from penstock import INPUTS, TASK_CODE, TASK_SOURCE, flow, task
from penstock.digests.python import digest
from penstock.errors import DigestError
from tests.graph.edits import Project, changes

HEAD = """
import dataclasses
import enum
import functools

class One:
    VALUE = 1

class Two:
    VALUE = 2

def one():
    return 1

def two():
    return 2

"""
MADE = {
    "a closure": ("class A:\n        def m(self):\n            return k", "2", "3", "A().m()"),
    "a function in a closure": ("class A:\n        def m(self):\n            return k()", "one", "two", "A().m()"),
    "an attribute": ("class A:\n        K = k", "2", "3", "A.K"),
    "a default": ("class A:\n        def m(self, k=k):\n            return k", "2", "3", "A().m()"),
    "a base": ("class A(k):\n        pass", "One", "Two", "A.VALUE"),
    "a field": ("@dataclasses.dataclass\n    class A:\n        v: int = k", "2", "3", "A().v"),
    "a factory of a field": (
        "@dataclasses.dataclass\n    class A:\n        v: int = dataclasses.field(default_factory=k)",
        "one",
        "two",
        "A().v",
    ),
    "a property": ("class A:\n        @property\n        def m(self):\n            return k", "2", "3", "A().m"),
    "a cached property": (
        "class A:\n        @functools.cached_property\n        def m(self):\n            return k",
        "2",
        "3",
        "A().m",
    ),
    "a static method": ("class A:\n        @staticmethod\n        def m():\n            return k", "2", "3", "A.m()"),
    "a class method": ("class A:\n        @classmethod\n        def m(cls):\n            return k", "2", "3", "A.m()"),
    "a special method": ("class A:\n        def __len__(self):\n            return k", "2", "3", "len(A())"),
    "a member of an enum": ("class A(enum.Enum):\n        K = k", "2", "3", "A.K.value"),
    "a method of an enum": (
        "class A(enum.Enum):\n        K = 1\n        def m(self):\n            return k",
        "2",
        "3",
        "A.K.m()",
    ),
    "a class inside": (
        "class A:\n        class B:\n            def m(self):\n                return k",
        "2",
        "3",
        "A.B().m()",
    ),
}


@pytest.mark.parametrize("what", MADE)
def test_what_a_call_puts_into_a_class_counts(project: Project, what: str) -> None:
    made, old, new, use = MADE[what]
    text = f"{HEAD}def make(k):\n    {made}\n    return A\n\nA = make({old})\n\ndef f(x):\n    return {use}\n"
    assert changes(project, text, f"make({old})", f"make({new})")


def test_code_behind_what_a_call_puts_into_a_class_counts(project: Project) -> None:
    made, old, _, use = MADE["a function in a closure"]
    text = f"{HEAD}def make(k):\n    {made}\n    return A\n\nA = make({old})\n\ndef f(x):\n    return {use}\n"
    assert changes(project, text, "return 1", "return 10")


def test_the_class_of_an_object_counts(project: Project) -> None:
    made = "@dataclasses.dataclass\n    class A:\n        v: int = 1\n        def m(self):\n            return k"
    text = f"{HEAD}def make(k):\n    {made}\n    return A()\n\nA = make(2)\n\ndef f(x):\n    return A.m()\n"
    assert changes(project, text, "make(2)", "make(3)")


def test_a_class_that_a_decorator_makes_counts(project: Project) -> None:
    text = """
        def plus(k):
            def decorate(cls):
                class Plus(cls):
                    def m(self):
                        return super().m() + k
                return Plus
            return decorate

        @plus(2)
        class A:
            def m(self):
                return 10

        def f(x):
            return A().m()
    """
    assert changes(project, text, "plus(2)", "plus(3)")
    assert changes(project, text, "return 10", "return 20")


def test_which_name_has_which_class_counts(project: Project) -> None:
    made = "class A:\n        def m(self):\n            return k"
    head = f"{HEAD}def make(k):\n    {made}\n    return A\n\n"
    text = f"{head}A, B = make(2), make(3)\n\ndef f(x):\n    return [A().m(), B().m()]\n"
    assert changes(project, text, "make(2), make(3)", "make(3), make(2)")


@pytest.mark.parametrize(
    ("package", "made"),
    [
        ("attrs", "import attrs\n    @attrs.define\n    class A:\n        v: int = attrs.field(factory=k)"),
        (
            "pydantic",
            "from pydantic import BaseModel, Field\n    class A(BaseModel):\n        v: int = Field(default_factory=k)",
        ),
    ],
)
def test_a_factory_of_a_models_field_counts(project: Project, package: str, made: str) -> None:
    pytest.importorskip(package)
    text = f"{HEAD}def make(k):\n    {made}\n    return A\n\nA = make(one)\n\ndef f(x):\n    return A().v\n"
    assert changes(project, text, "make(one)", "make(two)")


def test_what_has_no_digest_in_a_class_is_left_out(project: Project) -> None:
    text = (
        "import threading\ndef make(k):\n    class A:\n        LOCK = threading.Lock()\n        K = k\n    return A\n"
    )
    assert changes(project, f"{text}A = make(2)\ndef f(x):\n    return A.K\n", "make(2)", "make(3)")


def scaled(factor: int) -> type:
    class Model:
        def predict(self, x: int) -> int:
            return x * factor

    return Model


def trainer(model: Any, policy: Any) -> Any:
    @task(cache_policy=policy)
    def predict(x: int) -> int:
        return int(model().predict(x))

    return predict


@pytest.mark.parametrize("policy", [INPUTS + TASK_CODE, INPUTS + TASK_SOURCE, INPUTS], ids=str)
def test_tasks_that_close_over_two_classes_of_one_function_have_their_own_results(policy: Any) -> None:
    double, triple = trainer(scaled(2), policy), trainer(scaled(3), policy)
    assert flow(lambda: [double(10), triple(10)])() == [20, 30]


def test_two_classes_of_one_function_are_two_arguments() -> None:
    @task(cache_policy=INPUTS)
    def predict(model: type, x: int) -> int:
        return int(model().predict(x))

    assert flow(lambda: [predict(scaled(2), 10), predict(scaled(3), 10)])() == [20, 30]


def test_equal_calls_make_equal_classes() -> None:
    assert digest(scaled(2)) == digest(scaled(2)) != digest(scaled(3))


def test_a_class_whose_methods_refer_to_it_has_a_digest() -> None:
    def make(k: int) -> type:
        class Chain:
            def __init__(self) -> None:
                super().__init__()

            def next(self) -> Chain:
                return Chain() if k else self

        return Chain

    assert digest(make(1)) == digest(make(1)) != digest(make(2))


def test_a_closure_without_a_digest_is_told() -> None:
    def make(lock: Any) -> type:
        class Guarded:
            def go(self) -> Callable[[], bool]:
                return lock.acquire

        return Guarded

    with pytest.raises(DigestError, match=r"a value of type thread\.lock"):
        digest(make(threading.Lock()))
