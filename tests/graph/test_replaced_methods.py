"""Methods that a program replaces after it defined their class count in keys; what decorators made of them does not."""

from __future__ import annotations

import importlib
import itertools
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from penstock.digests.definitions.attached import attached
from penstock.digests.names import is_project_module
from penstock.digests.sources import task_code

Load = Callable[[str], ModuleType]
_numbers = itertools.count()


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Return a function that imports the text as a new module of the project, always under the same name."""

    def loaded(text: str) -> ModuleType:
        sys.modules.pop("replacing", None)
        folder = tmp_path / str(next(_numbers))
        folder.mkdir()
        (folder / "replacing.py").write_text(textwrap.dedent(HEAD) + textwrap.dedent(text))
        monkeypatch.syspath_prepend(folder)
        return importlib.import_module("replacing")

    yield loaded
    sys.modules.pop("replacing", None)


HEAD = """
    import abc, asyncio, collections, contextlib, dataclasses, enum, functools, operator, statistics, textwrap, typing

    def wrapping(function):
        @functools.wraps(function)
        def wrapped(*args):
            return function(*args)
        return wrapped

    def bare(function):
        return lambda *args: function(*args)

    class Holding:
        def __init__(self, function):
            self.function = function
        def __get__(self, owner, kind=None):
            return self.function

    def held(function):
        holding = Holding(function)
        def called(*args):
            return holding.function(*args)
        return called

    def dropping(value):
        def drop(function):
            def dropped(*args):
                return value
            return dropped
        return drop

    def every_method(cls):
        for name, item in list(vars(cls).items()):
            if callable(item) and not name.startswith("__"):
                setattr(cls, name, wrapping(item))
        return cls

    class Wrapping(type):
        def __new__(meta, name, bases, held):
            return super().__new__(meta, name, bases, {n: wrapping(i) if n == "f" else i for n, i in held.items()})

    class WrappingBase:
        def __init_subclass__(cls):
            if "f" in vars(cls):
                cls.f = wrapping(cls.f)

"""
METHOD = "\n    def f(self): return 1\n"
CLASSES = {
    "a method": "class C:" + METHOD,
    "a coroutine": "class C:\n    async def f(self): return 1\n",
    "a static method": "class C:\n    @staticmethod\n    def f(*a): return 1\n",
    "a class method": "class C:\n    @classmethod\n    def f(cls): return 1\n",
    "a property": "class C:\n    @property\n    def f(self): return 1\n",
    "a property that can be set": (
        "class C:\n    @property\n    def f(self): return 1\n    @f.setter\n    def f(self, value): self.g = value\n"
    ),
    "one of two definitions": (
        "class C:\n    if 1 > 0:\n        def f(self): return 1\n    else:\n        @staticmethod\n"
        "        def f(): return 1\n"
    ),
    "an overloaded method": (
        "class C:\n    @typing.overload\n    def f(self, n: int): ...\n    def f(self, n=1): return 1\n"
    ),
    "a cached method": "class C:\n    @functools.cache\n    def f(self): return 1\n",
    "a cached property": "class C:\n    @functools.cached_property\n    def f(self): return 1\n",
    "a partial method": "class C:\n    @bare\n    def f(self): return 1\n    g = functools.partialmethod(f)\n",
    "a cached static method": "class C:\n    @staticmethod\n    @functools.cache\n    def f(): return 1\n",
    "a context manager": "class C:\n    @contextlib.contextmanager\n    def f(self): yield 1\n",
    "a wrapped method": "class C:\n    @wrapping\n    def f(self): return 1\n",
    "a barely wrapped method": "class C:\n    @bare\n    def f(self): return 1\n",
    "a held method": "class C:\n    @held\n    def f(self): return 1\n",
    "a method in an object": "class C:\n    @Holding\n    def f(self): return 1\n",
    "a dropped method": "class C:\n    @dropping(3)\n    def f(self): return 1\n",
    "a method wrapped in the body": "class C:" + METHOD + "    f = staticmethod(bare(f))\n",
    "a method of a dataclass": "@dataclasses.dataclass(slots=True)\nclass C:\n    n: int = 1" + METHOD,
    "a method of an ordered class": (
        "@functools.total_ordering\nclass C:\n    def __lt__(self, other): return True\n"
        "    def __eq__(self, other): return True" + METHOD
    ),
    "an abstract method": "class C(abc.ABC):\n    @abc.abstractmethod\n    def f(self): return 1\n",
    "a method of an abstract class": "class C(abc.ABC):" + METHOD,
    "a method of an enum": "class C(enum.Enum):\n    A = 1" + METHOD,
    "a method of a tuple": "class C(typing.NamedTuple):\n    n: int = 1" + METHOD,
    "a method of a generic class": "T = typing.TypeVar('T')\n\nclass C(typing.Generic[T]):" + METHOD,
    "a method of a protocol": "class C(typing.Protocol):" + METHOD,
    "a method of a subclass": "class B:" + METHOD + "\nclass C(B):" + METHOD,
    "a method of a decorated class": "@every_method\nclass C:" + METHOD,
    "a method of a class decorated by a partial": "@functools.partial(every_method)\nclass C:" + METHOD,
    "a method of a class decorated by a named partial": (
        "decorate = functools.partial(every_method)\n\n@decorate\nclass C:" + METHOD
    ),
    "a method dropped by an object": (
        "class Drop:\n    def __call__(self, function):\n        def f(*args): return 3\n        return f\n\n"
        "class C:\n    @Drop()\n    def f(self): return 1\n"
    ),
    "a method of a class decorated by something that is gone": (
        "def gone():\n    @(decorate := every_method)\n    class C:\n        def f(self): return 1\n    return C\n\n"
        "C = gone()\n"
    ),
    "a method of a class of a metaclass": "class C(metaclass=Wrapping):" + METHOD,
    "a method of a class with a making base": "class C(WrappingBase):" + METHOD,
}
ANYWHERE = [
    "staticmethod(other)",
    "classmethod(other)",
    "property(other)",
    "other",
    "lambda *a: {0}",
    "staticmethod(lambda *a: {0})",
]
USE = "\n\ndef f():\n    return C.f\n"
OTHER = "\ndef other(*a): return {0}\n\n"


@pytest.mark.parametrize("what", CLASSES)
def test_a_class_that_nobody_touched_has_no_replaced_methods(load: Load, what: str) -> None:
    module = load(CLASSES[what] + USE)
    assert replaced(module.C) == []
    assert replaced(module.Holding) == []


@pytest.mark.parametrize("how", ANYWHERE)
@pytest.mark.parametrize("what", [what for what in CLASSES if what not in ("a method wrapped in the body",)])
def test_a_replaced_method_counts_with_what_replaced_it(load: Load, what: str, how: str) -> None:
    text = CLASSES[what] + OTHER + f"C.f = {how}\n" + USE
    assert different(load, [CLASSES[what] + USE, text.replace("{0}", "5"), text.replace("{0}", "6")])
    assert not different(load, [text.replace("{0}", "5"), "# moved\n" + text.replace("{0}", "5")])


PLAIN = {
    "a static method of a package": ["staticmethod(statistics.mean)", "staticmethod(statistics.median)"],
    "a function of a package": ["statistics.mean", "statistics.median"],
    "a builtin function": ["len", "sum"],
    "a call of a package": ["operator.itemgetter(1)", "operator.itemgetter(2)"],
    "a function made by a package": ["contextlib.contextmanager(other)", "functools.wraps(len)(other)", "other"],
    "a partial function": ["functools.partial(other, 1)", "functools.partial(other, 2)"],
    "a partial method": ["functools.partialmethod(other, 1)", "functools.partialmethod(other, 2)"],
    "another kind of the same": ["staticmethod(C.f)", "classmethod(C.f)", "property(C.f)"],
    "a wrapper of the same": ["wrapping(C.f)", "bare(C.f)", "staticmethod(wrapping(C.f))"],
    "a value": ["1", "2", "None"],
    "an object without a digest": ["iter([1])"],
    "a method of another class at the same line": ["D.f"],
}


@pytest.mark.parametrize("what", PLAIN)
@pytest.mark.parametrize("of", ["a method", "a method of a dataclass"])
def test_whatever_replaces_a_plain_method_counts(load: Load, of: str, what: str) -> None:
    before = CLASSES[of] + OTHER.replace("{0}", "5") + "class D:\n    def f(self): return 2\n"
    assert different(load, [before + USE, *(f"{before}C.f = {how}\n{USE}" for how in PLAIN[what])])


def test_an_accessor_that_was_replaced_counts(load: Load) -> None:
    before = CLASSES["a property that can be set"] + OTHER
    assert different(
        load, [before + USE, f"{before}C.f = C.f.setter(other)\n{USE}", f"{before}C.f = property()\n{USE}"]
    )


def test_another_version_of_the_method_at_the_same_line_counts(load: Load, tmp_path: Path) -> None:
    text = "class C:\n    def f(self): return 1\n" + USE
    first = load(text)
    before = task_code(first.f)
    (tmp_path / "replacing_v2.py").write_text(textwrap.dedent(HEAD) + text.replace("return 1", "return 2"))
    sys.path.insert(0, str(tmp_path))
    try:
        first.C.f = importlib.import_module("replacing_v2").C.f
        assert task_code(first.f) != before
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("replacing_v2", None)


def test_a_name_of_a_decorator_that_means_something_else_decides_nothing(load: Load) -> None:
    module = load(
        "from functools import cached_property as property\n\nclass C:\n    @property\n    def f(self): return 1\n"
    )
    assert replaced(module.C) == []


@pytest.mark.needs("attrs")
def test_classes_of_attrs_have_no_replaced_methods_until_one_is(load: Load) -> None:
    text = "import attrs\n\n@attrs.frozen\nclass C:\n    n: int = 1\n    def f(self): return __class__\n" + OTHER
    assert replaced(load(text).C) == []
    assert different(load, [text + USE, text + "C.f = staticmethod(other)\n" + USE])


@pytest.mark.needs("pydantic")
def test_models_of_pydantic_have_no_replaced_methods_until_one_is(load: Load) -> None:
    text = (
        "import pydantic\n\nclass C(pydantic.BaseModel):\n    n: int = 1\n    _n: int = pydantic.PrivateAttr(1)\n"
        "    def model_post_init(self, context): self._n = 2\n    def f(self): return 1\n"
        "    @pydantic.field_validator('n')\n    @classmethod\n    def checked(cls, n): return n\n"
        "    @pydantic.computed_field\n    @property\n    def more(self) -> int: return 1\n" + OTHER
    )
    assert replaced(load(text).C) == []
    changed = text + "C.f = staticmethod(other)\n" + USE
    assert different(load, [text + USE, changed.replace("{0}", "5"), changed.replace("{0}", "6")])


def replaced(cls: type) -> list[str]:
    """Return what is attached to a class instead of its methods."""
    names = [name for name, _ in attached(cls, is_project_module)]
    return [name for name in names if name.rpartition(".")[2] in ("f", "checked", "more", "model_post_init")]


def different(load: Load, texts: list[str]) -> bool:
    """Return whether each of the modules has a key of its own."""
    found: list[Any] = [task_code(load(text.replace("{0}", "0")).f) for text in texts]
    return len(set(found)) == len(found)
