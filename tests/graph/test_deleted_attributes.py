"""Attributes that a program deletes from a class count in TASK_CODE; what decorators or metaclasses remove does not."""

from __future__ import annotations

import pytest

from penstock.digests.code.syntax import class_syntax
from penstock.digests.definitions.assigned import bindings
from penstock.digests.definitions.attached import attached
from penstock.digests.definitions.deleted import deleted
from penstock.digests.definitions.mentioned import UNBOUND
from penstock.digests.names import is_project_module
from penstock.digests.sources import task_code
from tests.graph.edits import Project, changes

HEAD = """
    import abc, collections, contextlib, dataclasses, decimal, enum, functools, re, sys, typing

    class B:
        K = L = M = N = 1
        def m(self): return 1
        def __len__(self): return 1
        p = property(lambda self: 1)
        s = staticmethod(lambda *a: 1)
        def __m(self): return 1

        class Inner:
            K = 1

"""
CLASS = """
    class A(B):
        K = 2
        L: int = 3
        M, N = 4, frozenset({{1}})
        R = re.compile("a")
        def m(self): return 2
        def __len__(self): return 2
        @property
        def p(self): return 2
        @p.setter
        def p(self, value): pass
        @staticmethod
        def s(): return 2
        @functools.cached_property
        def c(self): return 2
        @abc.abstractmethod
        def a(self): return 2
        def __m(self): return 2
        def own(self): return self.__m()

        class Inner(B.Inner):
            K = 2

    {deletion}

    def f():
        return {use}
"""
DELETIONS = {
    "a method": ("del A.m", "A().m()"),
    "a method by its name": ("delattr(A, 'm')", "A().m()"),
    "a constant": ("del A.K", "A.K"),
    "an annotated constant": ("del A.L", "A.L"),
    "a constant of a tuple": ("del A.M", "A.M"),
    "a constant of a call": ("del A.N", "A.N"),
    "a constant of the standard library": ("del A.R", "A.R"),
    "a property": ("del A.p", "A().p"),
    "a static method": ("del A.s", "A.s()"),
    "a cached property": ("del A.c", "A().c"),
    "an abstract method": ("del A.a", "A.a"),
    "a special method": ("del A.__len__", "len(A())"),
    "a private method": ("del A._A__m", "A().own()"),
    "an attribute of an inner class": ("del A.Inner.K", "A.Inner.K"),
    "an inner class": ("del A.Inner", "A.Inner.K"),
}


@pytest.mark.parametrize("what", DELETIONS)
def test_the_line_that_deletes_an_attribute_counts(project: Project, what: str) -> None:
    deletion, use = DELETIONS[what]
    assert changes(project, HEAD + CLASS.format(deletion=deletion, use=use), f"{deletion}\n", "\n")


def test_an_attribute_that_is_deleted_while_the_program_runs_counts(project: Project) -> None:
    module = project(m=HEAD + CLASS.format(deletion="", use="A().m()"))
    before = task_code(module.f)
    del module.A.m
    assert task_code(module.f) != before


def test_a_deleted_attribute_that_nobody_reads_does_not_count(project: Project) -> None:
    assert not changes(project, HEAD + CLASS.format(deletion="del A.K", use="A().m()"), "del A.K\n", "\n")


@pytest.mark.parametrize(
    "how", ["@dataclasses.dataclass\n    class A", "class A(abc.ABC)", "class A(typing.Generic[typing.TypeVar('T')])"]
)
def test_methods_deleted_from_classes_that_python_makes_count(project: Project, how: str) -> None:
    text = HEAD + f"    {how}:\n        def m(self): return 2\n\n    del A.m\n\n    def f():\n        return A.m\n"
    assert changes(project, text, "del A.m\n", "\n")


UNTOUCHED = {
    "a condition": "class C:\n    if sys.version_info < (3, 0):\n        a = 1\n        def f(self): pass\n",
    "a loop variable": "class C:\n    for i in range(3):\n        pass\n    del i\n",
    "a name that the body deletes": "class C:\n    a = 1\n    b = a + 1\n    del a\n",
    "a name that the body may delete": "class C:\n    a = 1\n    if a:\n        del a\n",
    "a name that the body removes": "class C:\n    a = 1\n    locals().pop('a')\n",
    "a global name": "class C:\n    global a\n    a = 1\n",
    "an error": "class C:\n    try:\n        1 / 0\n    except ZeroDivisionError as e:\n        pass\n",
    "a qualified name": "class C:\n    __qualname__ = 'C'\n    __module__ = __name__\n    __slots__ = ()\n",
    "a dataclass": (
        "@dataclasses.dataclass\nclass C:\n    a: int\n    b: list = dataclasses.field(default_factory=list)\n"
        "    c: int = dataclasses.field(init=False)\n    d: dataclasses.InitVar[int] = 3\n"
    ),
    "a dataclass with slots": (
        "@dataclasses.dataclass(slots=True)\nclass D:\n    a: int = 1\n\n"
        "@dataclasses.dataclass(slots=True)\nclass C(D):\n    a: int = 2\n    b: int = 3\n"
        "    c: list = dataclasses.field(default_factory=list)\n"
    ),
    "an enum": (
        "class C(enum.Enum):\n    _ignore_ = ['i', 'f']\n    i = 1\n    A = 1\n    B = A\n    D = enum.auto()\n"
        "    def f(self): pass\n    def _missing_(cls, value): pass\n"
    ),
    "flags": "class C(enum.IntFlag):\n    A = 1\n    B = 2\n    BOTH = 3\n    NONE = 0\n",
    "a named tuple": "class C(typing.NamedTuple):\n    a: int\n    b: int = 2\n    def f(self): pass\n",
    "a typed dict": "class C(typing.TypedDict, total=False):\n    a: int\n",
    "a protocol": "class C(typing.Protocol):\n    a: int = 1\n    def f(self): pass\n",
    "an abstract class": "class C(abc.ABC):\n    a = 1\n    @abc.abstractmethod\n    def f(self): pass\n",
    "a decorator that removes": (
        "def removing(cls):\n    del cls.a\n    return cls\n\n@removing\nclass C:\n    a = 1\n    def f(self): pass\n"
    ),
    "a metaclass that removes": (
        "class M(type):\n    def __new__(meta, name, bases, held):\n        held.pop('a')\n"
        "        return super().__new__(meta, name, bases, held)\n\nclass C(metaclass=M):\n    a = 1\n"
    ),
    "a base class that removes": (
        "class D:\n    def __init_subclass__(cls):\n        del cls.a\n\n"
        "class C(D):\n    a = 1\n    def f(self): pass\n"
    ),
    "a decorator of a method that removes": (
        "class hook:\n    def __init__(self, fn): pass\n    def __set_name__(self, owner, name): delattr(owner, name)\n"
        "\nclass C:\n    @hook\n    def f(self): pass\n    g = hook(1)\n"
    ),
    "a compiled class": "class attrgetter:\n    def f(self): pass\n\nfrom operator import attrgetter as C\n",
    "another class of its name": (
        "class C:\n    a = 1\n    def f(self): pass\n\nC = type('C', (C,), {'__module__': __name__})\n"
    ),
}
OF_PACKAGES = {
    "attrs": (
        "import attrs\n\n@attrs.define\nclass C:\n    a: int\n    b: int = 1\n    c: list = attrs.field(factory=list)\n"
        "    d = attrs.field(default=1)\n    @d.validator\n    def check(self, attribute, value): pass\n"
        "    @functools.cached_property\n    def e(self): return 1\n"
    ),
    "pydantic": (
        "import pydantic\n\nclass C(pydantic.BaseModel):\n    model_config = {}\n    a: int = 1\n"
        "    _b: int = pydantic.PrivateAttr(1)\n    c: list = pydantic.Field(default_factory=list)\n"
        "    @pydantic.field_validator('a')\n    @classmethod\n    def check(cls, a): return a\n"
    ),
    "msgspec": "import msgspec\n\nclass C(msgspec.Struct):\n    a: int = 1\n    b: list = []\n    def f(self): pass\n",
}


@pytest.mark.parametrize("what", UNTOUCHED)
def test_a_class_that_nobody_touched_has_no_deleted_attributes(project: Project, what: str) -> None:
    imports = "import abc, dataclasses, enum, functools, sys, typing\n\n"
    assert _deleted(project(m=imports + UNTOUCHED[what]).C) == []


def test_the_statement_of_another_class_of_its_name_says_nothing_about_a_class(project: Project) -> None:
    module = project(m="class C(type('C', (), {'__module__': __name__})):\n    def f(self): pass\n")
    tree = class_syntax(module.C)
    assert list(deleted(module.C.__base__, tree, bindings(tree))) == []


@pytest.mark.parametrize("package", [pytest.param(name, marks=pytest.mark.needs(name)) for name in OF_PACKAGES])
def test_a_class_that_a_package_makes_has_no_deleted_attributes(project: Project, package: str) -> None:
    assert _deleted(project(m="import functools\n" + OF_PACKAGES[package]).C) == []


def _deleted(cls: type) -> list[str]:
    return [name for name, item in attached(cls, is_project_module) if item is UNBOUND]
