"""Aliases of types, such as `Box[int]`: the code of the classes inside them counts in TASK_CODE."""

from __future__ import annotations

import sys
import typing

import pytest

from penstock.digests.python import digest
from penstock.digests.sources import Reach, task_code
from tests.graph.edits import Project, changes

HEAD = """
    import collections, dataclasses, enum, functools, types, typing

    T = typing.TypeVar("T")

    class G(typing.Generic[T]):
        K = 1
        def m(self): return 20

    class Own:
        __class_getitem__ = classmethod(types.GenericAlias)
        K = 1
        def m(self): return 20

    @dataclasses.dataclass
    class Holder:
        box: object

    def helper(value): return rate() * value
    def rate(): return 20

"""
ALIASES = {
    "a generic class": ("G[int]", "A().m()"),
    "a class with its own subscripts": ("Own[int]", "A().m()"),
    "an annotated class": ("typing.Annotated[G, 1]", "A().m()"),
    "an annotated alias": ("typing.Annotated[G[int], 1]", "A.__origin__().m()"),
    "a list": ("list[G]", "typing.get_args(A)[0]().m()"),
    "a list of typing": ("typing.List[G]", "typing.get_args(A)[0]().m()"),
    "a type": ("type[G]", "typing.get_args(A)[0]().m()"),
    "a union": ("typing.Union[G, int]", "typing.get_args(A)[0]().m()"),
    "a union of an operator": ("Own | int", "typing.get_args(A)[0]().m()"),
    "an optional": ("typing.Optional[G]", "typing.get_args(A)[0]().m()"),
    "a callable": ("typing.Callable[[G], int]", "typing.get_args(A)[0][0]().m()"),
    "what a callable returns": ("typing.Callable[..., G]", "typing.get_args(A)[1]().m()"),
    "a new type": ("typing.NewType('A', G)", "A.__supertype__().m()"),
    "a nested alias": ("dict[str, list[G[int] | None]]", "typing.get_args(A)[1]().m()"),
    "a function in an annotated type": ("typing.Annotated[int, helper]", "A.__metadata__[0](1)"),
    "an alias in a list": ("[G[int]]", "A[0]().m()"),
    "an alias in a dict": ("{'a': (G[int],)}", "A['a'][0]().m()"),
    "an alias in a partial": ("functools.partial(lambda box: box().m(), G[int])", "A()"),
    "an alias in an object": ("Holder(G[int])", "A.box().m()"),
}


@pytest.mark.parametrize("what", ALIASES)
def test_code_in_an_alias_that_a_global_holds_counts(project: Project, what: str) -> None:
    alias, use = ALIASES[what]
    text = f"{HEAD}\n    A = {alias}\n\n    def f():\n        return {use}\n"
    assert changes(project, text, "return 20", "return 30")


def test_class_attributes_behind_an_alias_count(project: Project) -> None:
    text = HEAD + "    A = G[int]\n\n    def f():\n        return A.K\n"
    assert changes(project, text, "K = 1", "K = 2")


HOLDERS = {
    "a closure": "def make(box):\n        return lambda: box().m()\n\n    f = make(G[int])\n",
    "a default": "def f(box=G[int]):\n        return box().m()\n",
    "a default of a helper": "def g(box=G[int]):\n        return box().m()\n\n    def f():\n        return g()\n",
    "an attribute of a class": "class C:\n        box = G[int]\n\n        def f(self): return self.box().m()\n",
    "an attribute of a function": "def g(): pass\n    g.box = G[int]\n\n    def f():\n        return g.box().m()\n",
    "the task itself": "f = G[int]\n",
}


@pytest.mark.parametrize("what", HOLDERS)
def test_code_in_an_alias_that_something_else_holds_counts(project: Project, what: str) -> None:
    assert changes(project, HEAD + "    " + HOLDERS[what], "return 20", "return 30")


def test_what_is_set_on_a_class_behind_an_alias_counts(project: Project) -> None:
    text = HEAD + "    A = G[int]\n\n    def f():\n        return A.K + A().m()\n"
    module = project(m=text)
    before = task_code(module.f)
    module.G.K = 5
    assert task_code(module.f) != before


def test_an_alias_that_only_annotations_name_does_not_count(project: Project) -> None:
    text = HEAD + "    A = G[int]\n\n    def f(x: A) -> list[A]:\n        y: A = x\n        return [y]\n"
    assert not changes(project, text, "return 20", "return 30")


def test_edits_of_other_classes_do_not_change_the_key_of_an_alias(project: Project) -> None:
    text = HEAD + "    A = list[G | int]\n\n    def f():\n        return A\n"
    assert not changes(project, text, "def rate(): return 20", "def rate(): return 30")


def test_an_alias_of_installed_types_adds_no_names_to_a_partial(project: Project) -> None:
    module = project(m="import functools\n\ndef g(x): return x\n\nf = functools.partial(g, list[int])\n")
    names = [name for _, names in Reach(module.f).pieces() for name, _, _ in names]
    assert "g" in names
    assert not {"list", "int"} & set(names)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 has `type X = …`")
def test_what_a_type_statement_stands_for_counts(project: Project) -> None:
    text = HEAD + "    type A = list[G[int]]\n\n    def f():\n        return typing.get_args(A.__value__)[0]().m()\n"
    assert changes(project, text, "return 20", "return 30")
    assert changes(project, text, "type A = list[G[int]]", "type A = tuple[G[int]]")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 has `type X = …`")
def test_a_type_that_stands_for_itself_has_a_digest() -> None:
    made: typing.Any = vars(typing)["TypeAliasType"]
    names: dict[str, typing.Any] = {}
    exec("type Tree = list[Tree] | int\ntype Gone = nothing", names)
    assert isinstance(names["Tree"], made)
    assert digest(names["Tree"]) == digest([names["Tree"]][0])
    assert digest(names["Gone"]) != digest(names["Tree"])
