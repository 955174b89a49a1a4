"""TASK_CODE: what counts of the class of a method, which it uses without naming it."""

from __future__ import annotations

import textwrap

import pytest

from penstock.digests.sources import task_code, task_source
from penstock.errors import DigestError
from penstock.graph.code.reading import read_code
from tests.graph.edits import Project, changes, digest_of, task_in

READS = {
    "a constant": ("RATE = 1", "return self.RATE"),
    "a constant of another method": ("RATE = 1\n    def g(self):\n        return self.RATE", "return self.g()"),
    "a method": ("def g(self):\n        return 1", "return self.g()"),
    "a private method": ("def __g(self):\n        return 1", "return self.__g()"),
    "a property": ("@property\n    def g(self):\n        return 1", "return self.g"),
    "a cached property": ("@functools.cached_property\n    def g(self):\n        return 1", "return self.g"),
    "a class method": ("@classmethod\n    def g(cls):\n        return 1", "return self.g()"),
    "a constant of a class method": (
        "RATE = 1\n    @classmethod\n    def g(cls):\n        return cls.RATE",
        "return self.g()",
    ),
    "a static method": ("@staticmethod\n    def g(x):\n        return 1", "return self.g(2)"),
    "a partial method": (
        "def h(self, x):\n        return x\n    g = functools.partialmethod(h, 1)",
        "return self.g()",
    ),
    "a dispatching method": (
        "@functools.singledispatchmethod\n    def g(self, x):\n        return x\n"
        "    @g.register\n    def _(self, x: int):\n        return 1",
        "return self.g(2)",
    ),
    "another task": ("@task\n    def g(self):\n        return 1", "return self.g()"),
    "a function of the module": ("g = helper", "return self.g()"),
    "a decorated method": (
        "@deco\n    def g(self):\n        return self.h()\n    def h(self):\n        return 1",
        "self.g()",
    ),
    "the class by type()": ("RATE = 1", "return type(self).RATE"),
    "the class by __class__": ("RATE = 1", "return self.__class__.RATE"),
    "self in an inner function": ("RATE = 1", "return [lambda: self.RATE]"),
    "the class by another name": ("RATE = 1", "cls = type(self)\n        return cls.RATE"),
    "self by another name": ("RATE = 1", "me = self\n        return me.RATE"),
    "self by names of names": ("RATE = 1", "me, n = self, 5\n        kind = type(me)\n        kind.RATE"),
    "a constant that is a table of functions": ("TABLE = [lambda x: 1]", "return self.TABLE[0](x)"),
}
HEAD = """\
import functools
from penstock import task

def helper(self):
    return 1

def deco(fn):
    @functools.wraps(fn)
    def inner(*args):
        return fn(*args)
    return inner

"""


@pytest.mark.parametrize("case", READS)
def test_what_a_task_method_reads_through_self_counts(project: Project, case: str) -> None:
    body, read = READS[case]
    text = HEAD + f"class C:\n    {body}\n    @task\n    def f(self, x):\n        {read}\n"
    old, new = ("= 1", "= 2") if "= 1" in body else ("return 1", "return 2")
    if case == "a partial method":
        old, new = "(h, 1)", "(h, 2)"
    if "lambda x" in body:
        old, new = "x: 1", "x: 2"
    assert changes(project, text, old, new)
    assert not changes(project, text, "def helper", "OTHER = 5\ndef helper")


@pytest.mark.parametrize(
    ("decorators", "parameters"),
    [
        ("@classmethod\n    @task", "cls, x"),
        ("@task\n    @classmethod", "cls, x"),
        ("@task\n    @functools.lru_cache", "cls, x"),
        ("@task\n    @deco", "cls, x"),
        ("@task", "this, /, x"),
        ("", "self, x"),
    ],
)
def test_each_form_of_a_task_method_counts_with_its_class(project: Project, decorators: str, parameters: str) -> None:
    first = parameters.partition(",")[0]
    text = f"{HEAD}class C:\n    RATE = 1\n    {decorators}\n    def f({parameters}):\n        return {first}.RATE\n"
    assert changes(project, text, "RATE = 1", "RATE = 2")


@pytest.mark.parametrize("decorators", ["@staticmethod\n    @task", "@task\n    @staticmethod"])
def test_the_first_parameter_of_a_static_method_is_not_of_its_class(project: Project, decorators: str) -> None:
    text = f"{HEAD}class C:\n    RATE = 1\n    {decorators}\n    def f(x):\n        return x.RATE\n"
    assert not changes(project, text, "RATE = 1", "RATE = 2")


def test_a_method_of_an_inner_class_counts_with_it(project: Project) -> None:
    text = (
        "class O:\n    class C:\n        RATE = {}\n        @task\n        def f(self):\n            return self.RATE\n"
    )
    one, other = (task_code(project(m=HEAD + text.format(rate)).O.C.f.fn) for rate in (1, 2))
    assert one != other


BASES = """
    from penstock import task
    from b import Base

    class C(Base):
        @task
        def f(self):
            return self.run()

        def step(self):
            return 10

        def unread(self):
            return 100
"""
BASE = textwrap.dedent("""
    import functools

    def deco(fn):
        @functools.wraps(fn)
        def inner(*args):
            return fn(*args)
        return inner

    class Base:
        RATE = 1

        @deco
        def run(self):
            return self.step() + self.RATE

        def step(self):
            return 20
""")


@pytest.mark.parametrize(("old", "new"), [("RATE = 1", "RATE = 2"), ("self.step() +", "self.step() -"), ("10", "11")])
def test_methods_of_base_classes_count_with_what_they_read_of_the_tasks_class(
    project: Project, old: str, new: str
) -> None:
    assert changes(project, BASES, old, new, b=BASE)


@pytest.mark.parametrize(("old", "new"), [("100", "101"), ("20", "21")], ids=["an unread method", "an overridden one"])
def test_what_a_task_method_does_not_read_of_its_class_does_not_count(project: Project, old: str, new: str) -> None:
    assert not changes(project, BASES, old, new, b=BASE)


def test_super_is_looked_up_behind_the_class_of_the_method(project: Project) -> None:
    text = """
        from penstock import task

        def rate():
            return {"a": 1}

        class Base:
            RATES = rate()

        class C(Base):
            RATES = None

            @task
            def f(self):
                return super().RATES
    """
    assert changes(project, text, '"a": 1', '"a": 2')
    module = project(m=textwrap.dedent(text))
    before = task_code(module.C.f.fn)
    module.Base.RATES["a"] = 5  # only the value shows it
    assert task_code(module.C.f.fn) != before


def test_editing_another_task_of_the_class_does_not_change_the_digest(project: Project) -> None:
    text = HEAD + (
        "class C:\n    RATE = 1\n    @task\n    def f(self):\n        return self.RATE\n"
        "    @task\n    def g(self):\n        return self.RATE + 2\n"
    )
    assert not changes(project, text, "RATE + 2", "RATE + 3")


def test_methods_that_use_each_other_have_a_digest(project: Project) -> None:
    text = HEAD + (
        "class C:\n    @task\n    def f(self, n):\n        return n and self.g(n - 1)\n"
        "    def g(self, n):\n        return self.f(n) + 1\n"
    )
    assert changes(project, text, "+ 1", "+ 2")


def test_constants_of_the_class_without_a_digest_are_left_out(project: Project) -> None:
    text = HEAD + (
        "import threading\nclass C:\n    LOCK = threading.Lock()\n    RATE = 1\n    @task\n    def f(self):\n"
        "        with self.LOCK:\n            return self.RATE\n"
    )
    assert changes(project, text, "RATE = 1", "RATE = 2")


def test_methods_of_the_class_without_a_digest_are_refused(project: Project) -> None:
    text = HEAD + (
        "import threading\nLOCK = threading.Lock()\nclass C:\n    @task\n    def f(self):\n        return self.g()\n"
        "    @task\n    def g(self):\n        return LOCK\n"
    )
    with pytest.raises(DigestError, match=r"'LOCK', which 'C\.g' uses"):
        digest_of(project, m=text)


def test_names_of_instances_and_of_installed_bases_are_nothing(project: Project) -> None:
    text = HEAD + (
        "import dataclasses, logging\n@dataclasses.dataclass\nclass C(logging.Filter):\n    x: int\n    @task\n"
        "    def f(self):\n        return {}\n"
    )
    reading = (
        "self.x, self.missing, self.filter, self.__doc__, self.__eq__, self.__init__, self.__class__, self.__dict__"
    )
    module = project(m=text.format(reading))
    note = read_code(module.C.f.fn, "task_code", task_code(module.C.f.fn))
    assert note is not None
    assert [piece.name for piece in note.pieces] == ["the task"]


def test_a_changed_constant_of_the_class_is_noted_under_its_name(project: Project) -> None:
    text = HEAD + "class C:\n    RATE = 1\n    @task\n    def f(self):\n        return self.RATE\n"
    module = project(m=text)
    note = read_code(module.C.f.fn, "task_code", task_code(module.C.f.fn))
    assert note is not None
    assert [(each.kind, each.shown, each.text) for each in note.pieces[1:]] == [("constant", "self.RATE of m.C.f", "1")]


def test_task_source_does_not_count_the_class(project: Project) -> None:
    text = HEAD + "class C:\n    RATE = {}\n    @task\n    def f(self):\n        return self.RATE\n"
    one, other = (task_source(task_in(project(m=text.format(rate)))) for rate in (1, 2))
    assert one == other
