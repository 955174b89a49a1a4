"""The mutation run itself: what it changes, what it leaves alone, and that its list of reasons stays current."""

from __future__ import annotations

import textwrap

import pytest

from tests.mutants.changes import Change, changes, compiles
from tests.mutants.sample import modules, possible, room, sample
from tests.mutants.survivors import Survivor, entry, kept


def made(source: str) -> list[Change]:
    return changes("module.py", textwrap.dedent(source).encode())


def pairs(source: str) -> set[tuple[str, str]]:
    return {(change.before, change.after) for change in made(source)}


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("x = a < b", {("a < b", "(a <= b)"), ("a < b", "(a >= b)")}),
        ("x = a is None", {("a is None", "(a is not None)")}),
        ("x = a and b", {("a and b", "(a or b)")}),
        ("x = not a", {("not a", "(a)")}),
        ("if a:\n        b = c", {("a", "(not (a))")}),
        ("x = a if b else c", {("b", "(not (b))")}),
        ("x = [a for a in b if c]", {("c", "(not (c))")}),
        ("x = a + 1", {("a + 1", "(a - 1)"), ("1", "2")}),
        ("x = True", {("True", "False")}),
        ("x -= a", {("x -= a", "x += a")}),
        ("f(a)", {("f(a)", "pass")}),
        ("self.x = a", {("self.x = a", "pass")}),
        ("del x[a]", {("del x[a]", "pass")}),
        ("raise a", {("raise a", "pass")}),
        ("return a", {("return a", "return None")}),
    ],
)
def test_what_a_test_should_notice_is_changed(statement: str, expected: set[tuple[str, str]]) -> None:
    assert pairs(f"def f(self):\n    {statement}\n") == expected


@pytest.mark.parametrize(
    "statement",
    [
        '"""What it is for."""',
        "raise_(ValueError('a' + 'b', where=1 + 1))",
        "log.warning('it is %d', 1)",
        "x: tuple[int, 3] = y",
        "assert x == 1",
        "x = f'{1 + 1}'",
        "x = cast(A | B, y)",
        "x = 'a' + y",
        "return None",
    ],
)
def test_texts_and_types_are_left_alone(statement: str) -> None:
    found = pairs(f"def f(self):\n    {statement}\n")
    assert {pair for pair in found if pair[1] != "pass"} == set()


def test_code_that_only_prints_an_object_is_left_alone() -> None:
    assert pairs("class A:\n    def __repr__(self):\n        return 1 + 1\n") == set()


def test_a_change_is_made_at_its_location() -> None:
    source = "x = 'ä'\nif TYPE_CHECKING:\n    y = 1\n\ndef f(a):\n    é = a; return é == (\n        a)\n".encode()
    flip = next(change for change in changes("module.py", source) if change.after == "(é != a)")
    assert flip.applied(source) == source.replace(b"\xc3\xa9 == (\n        a)", b"(\xc3\xa9 != a)")
    assert (flip.line, flip.function, flip.text) == (6, "f", "é = a; return é == (")
    assert compiles(flip, source)


def test_a_condition_is_reached_by_its_own_lines_only() -> None:
    (flip, _) = made("def f(a):\n    if a:\n        g = a\n        return g\n")
    assert list(flip.reached) == [2]


def _with_source() -> None:
    if not modules():
        pytest.skip("there is no source tree beside the tests")


@pytest.mark.slow
def test_samples_are_reproducible_and_cover_every_room() -> None:
    _with_source()
    assert sample(40, "a") == sample(40, "a") != sample(40, "b")
    assert len(sample(40, "a")) == 40
    assert {room(change.file) for change in sample(40, "a")} == {room(file) for file in modules()}


def test_every_listed_survivor_is_still_a_possible_change_with_a_reason() -> None:
    _with_source()
    names = {change.name for found in possible().values() for change in found}
    assert [one for one in kept().values() if one.name not in names or len(one.because.split()) < 3] == []


def test_a_survivor_entry_is_read_back_as_its_change() -> None:
    import tomllib

    for change in made('def f(a):\n    return a == \'x\' or a != "\\\\" or a == "it\'s" + b\n'):
        (read,) = tomllib.loads(entry(change))["equivalent"]
        assert Survivor(**read).name == change.name
