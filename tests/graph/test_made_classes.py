"""Classes of every kind that functions make: keys tell two of one function apart, also in other processes."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest

pytest.importorskip("attrs")
pytest.importorskip("pydantic")

from penstock import INPUTS, TASK_CODE, TASK_SOURCE, flow, task
from penstock.digests.python import digest
from penstock.digests.sources import task_code, task_source
from penstock.digests.walk import Walk, hash_type
from penstock.errors import DigestError
from penstock.process.main_modules import main_module
from tests.graph.edits import Project
from tests.graph.kinds_of_made_classes import MAKERS, NAMED, Struct

PRINTS = """
import json
from penstock.digests.python import digest
from tests.graph.kinds_of_made_classes import MAKERS
print(json.dumps({name: digest(make(1)) for name, make in MAKERS.items()}))
"""

WITHOUT_SOURCE = ("defstruct", "pydantic_type")


def user_of(cls: Any) -> Callable[[], Any]:
    def use() -> Any:
        return cls

    return use


@pytest.mark.parametrize("name", MAKERS)
def test_two_classes_of_one_function_have_two_digests(name: str) -> None:
    make = MAKERS[name]
    assert digest(make(1)) == digest(make(1)) != digest(make(2))


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("of", [task_code, task_source], ids=["TASK_CODE", "TASK_SOURCE"])
def test_code_that_uses_two_classes_of_one_function_differs(name: str, of: Callable[[Any], str]) -> None:
    make = MAKERS[name]
    if of is task_code and name in WITHOUT_SOURCE:
        with pytest.raises(DigestError, match="the source of class 'C' is not available"):
            of(user_of(make(1)))
        return
    assert of(user_of(make(1))) == of(user_of(make(1))) != of(user_of(make(2)))


def test_classes_that_functions_make_have_one_digest_in_all_processes() -> None:
    found = subprocess.run([sys.executable, "-c", PRINTS], check=True, capture_output=True, text=True)
    assert json.loads(found.stdout) == {name: digest(make(1)) for name, make in MAKERS.items()}


@pytest.mark.parametrize("name", NAMED)
def test_the_name_of_a_class_at_the_top_level_identifies_it(name: str) -> None:
    assert digest(type(NAMED[name])) == hash_type(type(NAMED[name])).hex()


def test_on_a_worker_classes_of_the_script_that_calls_made_count_by_name() -> None:
    cls = type("Row", (), {"x": 1})
    cls.__module__ = "__main__"
    assert digest(cls) != hash_type(cls).hex()
    with main_module("the_drivers_script"):
        assert digest(cls) == hash_type(cls).hex()


def test_a_name_with_another_class_in_its_module_does_not_identify_a_class(project: Project) -> None:
    m = project(m="A = type('C', (), {'x': 1})\nC = type('C', (), {'x': 2})\nB = type('C', (), {'x': 3})\n")
    assert digest(m.C) == hash_type(m.C).hex()
    assert len({digest(cls) for cls in (m.A, m.B, m.C)}) == 3


def test_an_object_of_a_class_of_before_a_reload_keeps_its_digest(project: Project) -> None:
    m = project(m="import dataclasses\n@dataclasses.dataclass\nclass C:\n    x: int = 1\n")
    before = digest(old := m.C())
    m.C = type("C", (), {"__module__": "m"})
    assert digest(old) == before


@pytest.mark.parametrize("cls", [Struct, MAKERS["struct"](1)], ids=["at the top level", "made by a function"])
def test_a_struct_class_is_an_argument(cls: Any) -> None:
    @task(cache_policy=INPUTS)
    def default(kind: Any) -> int:
        return int(kind().x)

    assert flow(lambda: default(cls))() == 1


@pytest.mark.parametrize("policy", [INPUTS + TASK_CODE, TASK_CODE + TASK_SOURCE, TASK_SOURCE], ids=str)
def test_tasks_that_close_over_two_named_tuples_of_one_function_have_their_own_results(policy: Any) -> None:
    def reading(cls: Any) -> Any:
        @task(cache_policy=policy, key_name="reads a default")
        def read() -> int:
            return int(cls().x)

        return read

    one, two = (reading(MAKERS["named_tuple"](v)) for v in (1, 2))
    assert flow(lambda: [one(), two()])() == [1, 2]


OBJECTS = """
import collections, dataclasses, enum
from typing import NamedTuple

def make():
    {made}
        def norm(self):
            return 1
    return {value}
"""


@pytest.mark.parametrize(
    ("made", "value"),
    [
        ("@dataclasses.dataclass\n    class P:\n        x: int = 1", "P()"),
        ("class P(NamedTuple):\n        x: int = 1", "P()"),
        ("class P(enum.Enum):\n        X = 1", "P.X"),
        ("class P(list):\n        pass", "P()"),
        ("import attrs\n    @attrs.define\n    class P:\n        x: int = 1", "P()"),
        ("import msgspec\n    class P(msgspec.Struct):\n        x: int = 1", "P()"),
        ("from pydantic import BaseModel\n    class P(BaseModel):\n        x: int = 1", "P()"),
    ],
    ids=["dataclass", "named tuple", "enum", "list", "attrs", "msgspec", "pydantic"],
)
def test_methods_of_the_class_of_an_object_count_if_a_function_makes_it(
    project: Project, made: str, value: str
) -> None:
    text = OBJECTS.format(made=made, value=value)
    before = digest(project(m=text).make())
    assert before == digest(project(m=text).make())
    assert before != digest(project(m=text.replace("return 1", "return 2")).make())


def test_many_objects_of_a_class_digest_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    at = Walk.at
    monkeypatch.setattr(Walk, "at", lambda walk, step, value: seen.append(step) or at(walk, step, value))
    cls = MAKERS["named_tuple"](1)
    digest([cls(n) for n in range(100)])
    assert seen.count(".__class__") == 1


def test_state_that_an_object_in_a_class_hides_is_told(project: Project) -> None:
    m = project(
        m="""
        import array
        class Hidden(array.array):
            pass
        def make(item):
            class C:
                x = item
            return C
        """
    )
    with pytest.raises(DigestError, match="has no stable digest"):
        digest(m.make(m.Hidden("i", [1])))


def test_what_is_beside_a_lock_in_a_class_counts(project: Project) -> None:
    m = project(
        m="""
        class Held:
            def __init__(self, v, lock):
                self.v, self.lock = v, lock
        def make(item):
            class C:
                x = item
            return C
        """
    )
    lock = threading.Lock()
    for beside in (
        lambda v: [v, lock],
        lambda v: {"v": v, "lock": [lock]},
        lambda v: {v, lock},
        lambda v: m.Held(v, lock),
        lambda v: [(m.Held([v, lock], lock), lock)],
    ):
        assert digest(m.make(beside(1))) == digest(m.make(beside(1))) != digest(m.make(beside(2)))


def test_a_class_inside_without_a_digest_is_told(project: Project) -> None:
    m = project(
        m="""
        def make(lock):
            class C:
                class D:
                    def m(self):
                        return lock
            return C
        """
    )
    with pytest.raises(DigestError, match=r"a value of type thread\.lock"):
        digest(m.make(threading.Lock()))


def test_a_list_that_contains_itself_is_told(project: Project) -> None:
    m = project(m="def make(item):\n    class C:\n        x = item\n    return C\n")
    item: list[Any] = [threading.Lock()]
    item.append(item)
    with pytest.raises(DigestError):
        digest(m.make(item))


@dataclasses.dataclass
class Scale:
    factor: int


def scaling(factor: int) -> Any:
    @dataclasses.dataclass
    class Scaled(Scale):
        def scaled(self, x: int) -> int:
            return x * factor

    return Scaled(0)


@pytest.mark.slow
def test_an_object_whose_class_has_lost_its_source_has_a_digest() -> None:
    def read_back(value: object) -> str:
        return subprocess.run(
            [sys.executable, "-c", READS, cloudpickle.dumps(value).hex()], check=True, capture_output=True, text=True
        ).stdout

    assert read_back(scaling(2)) == read_back(scaling(2)) != read_back(scaling(3))


READS = """
import sys, pickle
from penstock.digests.python import digest
print(digest(pickle.loads(bytes.fromhex(sys.argv[1]))))
"""
