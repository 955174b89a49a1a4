"""Small promises about code: what was changed after its definition, what cannot be read, what notes may show."""

from __future__ import annotations

import array
import ast
import bisect
import collections
import functools
import io
import linecache
import operator
import os
import struct
import sys
import types
import zoneinfo
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from penstock.digests import python
from penstock.digests.code import syntax
from penstock.digests.code.cells import newest_fit
from penstock.digests.code.syntax import class_syntax, function_code_digest, function_syntax, module_syntax
from penstock.digests.definitions import own_class
from penstock.digests.definitions.attached import attached
from penstock.digests.definitions.behind import home_of, own_package
from penstock.digests.python import digest, register_digest
from penstock.digests.sources import Reach, task_source
from penstock.errors import DigestError
from penstock.graph.code import reading
from penstock.graph.code.reading import read_code, told

# -- changes after the definition


def _project(module: str) -> bool:
    return module == __name__


def _names(cls: type) -> list[str]:
    return [name for name, _ in attached(cls, _project)]


def _other(self: Any) -> int:
    return 3


def _shelf() -> list[int]:
    return []


class Varied:
    """A body with every kind of statement."""

    import os as system
    from os import path

    one, two = 1, [2]
    for number in (1, 2):
        last = number
    declared: int
    stated: int = 4
    shelf = _shelf()
    groups = collections.defaultdict(list)  # noqa: RUF012
    handlers = dict(a=[_other, len])  # noqa: C408, RUF012

    @functools.singledispatchmethod
    def show(self, value: object) -> str:
        return "object"

    @show.register
    def _(self, value: int) -> str:
        return "int"


def test_a_class_that_nobody_touched_has_nothing_attached_whatever_its_body_says() -> None:
    assert _names(Varied) == []


def test_an_implementation_registered_from_outside_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shows:
        @functools.singledispatchmethod
        def show(self, value: object) -> str:
            return "object"

        @show.register
        def _(self, value: int) -> str:
            return "int"

    assert _names(Shows) == []

    @Shows.show.register  # type: ignore[attr-defined]
    def outside(self: Any, value: str) -> str:
        return "str"

    assert len(_names(Shows)) == 1


def test_a_method_replaced_by_one_of_the_project_counts_even_if_that_calls_it() -> None:
    class Scales:
        def scaled(self) -> int:
            return 2

    before = Scales.scaled
    Scales.scaled = functools.cache(before)  # type: ignore[method-assign]
    assert _names(Scales) == []  # the wrapper of a package has the definition in it

    @functools.wraps(before)
    def doubled(self: Any) -> int:
        return 2 * before(self)

    Scales.scaled = doubled  # type: ignore[method-assign]
    assert _names(Scales) == ["scaled"]
    Scales.scaled = _other  # type: ignore[method-assign, assignment]
    assert _names(Scales) == ["scaled"]


def test_a_constant_replaced_by_something_without_a_digest_counts() -> None:
    class Settings:
        level = 1
        lazy = 2

    Settings.level = io.StringIO()  # type: ignore[assignment]
    assert _names(Settings) == ["level"]
    Settings.level = 1
    Settings.lazy = functools.cached_property(lambda self: 2)  # type: ignore[assignment]
    assert _names(Settings) == []  # what a decorator made of it says nothing


def test_a_function_put_into_a_registry_of_a_class_counts_at_any_depth() -> None:
    class Registry:
        handlers = dict(a=[len])  # noqa: C408, RUF012
        queue = collections.deque(maxlen=3)  # noqa: RUF012

    assert _names(Registry) == []
    Registry.handlers["a"].append(("nested", {_other}))  # type: ignore[arg-type]
    assert _names(Registry) == ["handlers"]
    Registry.handlers["a"].pop()
    Registry.queue.append(_other)
    assert _names(Registry) == ["queue"]


# -- sources


def _cell(statement: str) -> ast.ClassDef:
    (found,) = ast.parse(statement).body
    assert isinstance(found, ast.ClassDef)
    return found


def test_a_cell_without_the_methods_of_a_class_did_not_define_it() -> None:
    plain = _cell("class Shop:\n    'About.'\n    tax = 1\n")
    full = _cell("class Shop:\n    tax = 1\n    def total(self): ...\n    def __init__(self): ...\n")
    fields = _cell("class Shop:\n    tax: int = 1\n    rate: int\n")

    def total(self: Any) -> None: ...

    assert newest_fit(type("Shop", (), {"tax": 1}), [plain, full, fields]) == [plain]
    assert newest_fit(type("Shop", (), {"tax": 1, "total": total}), [plain, full]) == [full]
    annotated = type("Shop", (), {"tax": 1, "__annotations__": {"tax": int, "rate": int}})
    assert newest_fit(annotated, [fields, full]) == [fields]


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Run a text as a notebook runs a cell; `kept` is the text that is found later."""
    monkeypatch.setattr(linecache, "cache", dict(linecache.cache))

    def run(name: str, text: str, *, kept: str | None = None) -> dict[str, Any]:
        source = text if kept is None else kept
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        scope: dict[str, Any] = {"__name__": "penstock_no_such_module"}
        exec(compile(text, name, "exec"), scope)
        return scope

    return run


def test_code_that_its_source_no_longer_holds_is_an_error_not_a_guess(cell: Callable[..., dict[str, Any]]) -> None:
    moved = cell("<small cell 1>", "def f(x):\n    return x\n", kept="\n\n\ndef f(x):\n    return x\n")["f"]
    with pytest.raises(DigestError, match="not where its code says"):
        function_syntax(moved)


def test_a_function_of_a_cell_that_awaits_is_found(cell: Callable[..., dict[str, Any]]) -> None:
    text = "def f(x):\n    return x\n"
    awaiting = cell("<small cell 7>", text, kept=text + "await something()\n")["f"]
    assert function_code_digest(awaiting) == function_code_digest(cell("<small cell 8>", text)["f"])


def test_two_lambdas_on_a_line_that_cannot_be_told_apart_are_an_error(cell: Callable[..., dict[str, Any]]) -> None:
    one, two = cell("<small cell 2>", "both = [lambda x: x + 1, lambda x: x + 2]\n")["both"]
    assert function_code_digest(one) != function_code_digest(two)
    code = one.__code__.replace(co_filename="<small cell 2>", co_linetable=b"", co_name="<lambda>")
    blind = types.FunctionType(code, one.__globals__)
    assert all(None in position for position in code.co_positions())
    with pytest.raises(DigestError, match="ambiguous"):
        function_syntax(blind)


def test_a_class_of_a_cell_is_found_beside_a_cell_that_never_ran(cell: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(SyntaxError):
        cell("<small cell 3>", "class Shop(:\n")
    shop = cell("<small cell 4>", "class SmallShop:\n    tax = 1\n")["SmallShop"]
    assert class_syntax(shop).name == "SmallShop"
    with pytest.raises(DigestError, match="not available"):
        class_syntax(type("NeverWritten", (), {}))


def test_a_module_without_source_is_an_error_and_an_empty_file_is_not(tmp_path: Any) -> None:
    module = types.ModuleType("penstock_made_module")
    with pytest.raises(DigestError, match="penstock_made_module"):
        module_syntax(module)
    (tmp_path / "empty.py").touch()
    module.__file__ = os.fspath(tmp_path / "empty.py")
    assert module_syntax(module).body == []


def test_digests_of_code_are_the_same_after_the_cache_was_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syntax, "_functions", {})
    before = [function_code_digest(fn) for fn in (_other, _names, _cell)]
    monkeypatch.setattr(syntax, "_functions", {})
    monkeypatch.setattr(syntax, "_MAX_REMEMBERED", 1)
    assert [function_code_digest(fn) for fn in (_other, _names, _cell, _other)] == [*before, before[0]]
    assert len(syntax._functions) == 1


# -- values


def test_an_array_has_the_same_digest_on_a_big_endian_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    there = array.array("i", [1, 2, 3])
    little = digest(there)
    there.byteswap()  # its memory on such a machine
    monkeypatch.setattr(python, "struct", types.SimpleNamespace(pack=lambda form, value: struct.pack(">H", value)))
    assert digest(there) == little
    there.byteswap()
    assert there.tolist() == [1, 2, 3]  # digesting changes no value


def test_a_time_zone_without_a_name_has_no_digest() -> None:
    with open(os.path.join(zoneinfo.TZPATH[0], "UTC"), "rb") as file:
        unnamed = zoneinfo.ZoneInfo.from_file(file)
    with pytest.raises(DigestError, match="without a key"):
        digest(unnamed)


@pytest.mark.needs("typing_extensions")
def test_the_default_of_a_type_variable_counts() -> None:
    from typing_extensions import TypeVar as WithDefault

    plain, one, two = TypeVar("T"), WithDefault("T", default=int), WithDefault("T", default=str)  # type: ignore[misc]
    assert len({digest(plain), digest(one), digest(two)}) == 3


@pytest.mark.needs("numpy")
def test_a_registered_digest_replaces_the_one_found_before(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    monkeypatch.setattr("penstock.objects.registrations._own", {})
    monkeypatch.setattr(python, "_BRANCHES", dict(python._BRANCHES))
    values = np.arange(3), np.arange(4)
    assert digest(values[0]) != digest(values[1])
    register_digest(np.ndarray, lambda value: "any array")
    assert digest(values[0]) == digest(values[1])


# -- notes of code


def _shown(text: str) -> str:
    return reading._source(ast.parse(text))


@pytest.mark.parametrize(
    "text",
    [
        "password: str = 'hunter2'",
        "config['password'] = 'hunter2'",
        "config['password']: str = 'hunter2'",
        "def f(*, token='hunter2', n=1): ...",
        "def f(a, token='hunter2', /, n=1): ...",
        "class C:\n    api_key = f('hunter2')",
        "connect(password='hunter2')",
        "if password == 'hunter2': ...",
        "config = {'password': 'hunter2'}",
    ],
)
def test_a_secret_in_code_is_in_no_note(text: str) -> None:
    shown = _shown(text)
    assert shown
    assert "hunter2" not in shown
    assert "'plain'" in _shown(f"{text}\nother = 'plain'")  # other values are shown


def test_code_too_deep_to_write_as_text_has_none() -> None:
    tree: ast.expr = ast.Constant(1)
    for _ in range(3 * sys.getrecursionlimit()):
        tree = ast.UnaryOp(ast.USub(), tree)
    assert reading._source(ast.Expression(tree)) == ""


def test_methods_and_functions_among_values_are_told_by_name() -> None:
    class Loud:
        def __repr__(self) -> str:
            raise RuntimeError("not for notes")

        def shout(self) -> None: ...

    text = told("handlers", [Loud().shout, _other])
    assert text.startswith("[")
    assert "Loud.shout" in text
    assert f"{__name__}._other" in text
    assert told("password", "hunter2") == reading.HIDDEN


def test_code_that_is_no_longer_what_a_digest_covered_is_not_noted() -> None:
    own = task_source(_other)
    note = read_code(_other, "task_source", own)
    assert note is not None
    assert note.digest == own
    assert read_code(_other, "task_source", "0" * 40) is None
    made: dict[str, Any] = {}
    exec("def from_text(x):\n    return x\n", made)
    assert read_code(made["from_text"], "task_code", "0" * 40) is None


class Marker:
    """Has no digest of its own."""


UNSET = Marker()


def test_a_marker_in_the_notes_of_code_is_told_by_its_class() -> None:
    assert reading._digest_of(object(), "x") == "marker"
    assert reading._digest_of(UNSET, "x").endswith(":Marker")


def test_only_pairs_of_names_and_parts_are_assigned_one_by_one() -> None:
    def assigned(text: str) -> list[tuple[str, str]]:
        return [(name, ast.unparse(value)) for name, value in own_class._assigned(ast.parse(text).body[0])]

    assert assigned("a, b = 1, 2") == [("a", "1"), ("b", "2")]
    assert assigned("a, b = both()") == []
    assert assigned("a[0] = 1, 2") == []


def test_a_special_method_that_was_set_later_is_attached() -> None:
    class Sized:
        def __len__(self) -> int:
            return 1

    assert [name for name, _ in attached(Sized, lambda _: True)] == []
    Sized.__len__ = lambda self: 2  # type: ignore[method-assign]
    assert [name for name, _ in attached(Sized, lambda _: True)] == ["__len__"]


def added(x: int, y: int) -> int:
    return x + y


@pytest.mark.parametrize(
    "called",
    [functools.partial(added, 1), operator.itemgetter(0), bisect.bisect_right],
    ids=["partial", "itemgetter", "builtin"],
)
def test_no_code_of_python_itself_is_a_piece_of_a_task(called: Any) -> None:
    # It differs between versions of Python.
    root, *others = [value for value, _ in Reach(called).pieces()]
    assert root is called
    assert {home_of(value).partition(".")[0] for value in others} <= {"penstock", "tests"}


def test_of_a_partial_the_package_of_its_function_counts() -> None:
    assert own_package(functools.partial(functools.partial(told, 1), 2)) == "penstock"
    assert own_package(functools.partial(len)) is None
