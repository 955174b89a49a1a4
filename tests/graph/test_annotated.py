"""TASK_CODE: what counts of the classes that annotations of parameters name: the names that the code reads."""

from __future__ import annotations

import pytest

from penstock.digests.sources import task_code
from penstock.errors import DigestError
from penstock.graph.code.reading import read_code
from tests.graph.edits import Project, changes, digest_of

ROWS = """\
import threading
LOCK = threading.Lock()
BASE = 1

class Row:
    RATE = 1

    def scaled(self):
        return self.RATE * 3

    def unread(self):
        return 7

class Locked:
    def g(self):
        with LOCK:
            return BASE + 4

Rows = list[Row]
Later = list["Row"]
"""
ANNOTATIONS = [
    *("Row", "list[Row]", "Row | None", "Optional[Row]", "'Row'", "'list[Row]'", "list['Row']", "Rows", "Later"),
    *("Annotated[Row, 'the row']", "Callable[[Row], int]", "r.Row", "dict[str, list[r.Row]]", "Kind", "New"),
]
IMPORTS = """\
import r
from typing import Annotated, Callable, NewType, Optional, TypeVar
from r import Later, Locked, Row, Rows
Kind = TypeVar("Kind", bound=Row)
New = NewType("New", Row)
"""


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"], ids=["", "future"])
@pytest.mark.parametrize("annotation", ANNOTATIONS)
def test_what_code_reads_of_an_annotated_class_counts(project: Project, annotation: str, future: str) -> None:
    text = f"{future}{IMPORTS}def f(x: {annotation}, y=1):\n    return x.scaled()\n"
    assert changes(project, text, "* 3", "* 4", r=ROWS)
    assert changes(project, text, "RATE = 1", "RATE = 2", r=ROWS)
    assert not changes(project, text, "return 7", "return 8", r=ROWS)


@pytest.mark.parametrize(
    "text",
    [
        "def f(*x: Row):\n    return x.scaled()\n",
        "def f(*, x: Row = None):\n    return x.scaled()\n",
        "def g(x: Row):\n    return x.scaled()\ndef f(x):\n    return g(x)\n",
        "def f(x):\n    def g(x: Row):\n        return x.scaled()\n    return g(x)\n",
        "class G:\n    def g(self, x: Row):\n        return x.scaled()\ndef f(x):\n    return G().g(x)\n",
        "class C:\n    def f(self, x):\n        self.g(x)\n    def g(self, x: Row):\n        return x.scaled()\n",
    ],
    ids=["more arguments", "by name", "a helper", "an inner function", "a class", "a method"],
)
def test_the_annotations_of_all_reached_functions_count(project: Project, text: str) -> None:
    assert changes(project, IMPORTS + text, "* 3", "* 4", r=ROWS)


@pytest.mark.parametrize(
    "text",
    [
        "def f(x) -> Row:\n    return x.scaled()\n",
        "def f(x):\n    y: Row = x\n    return y.scaled()\n",
        "def g(x: Row):\n    return x.scaled()\ndef f(x):\n    return x.scaled()\n",
        "def f(x: 'no type', y: 'Missing', z: list['r.Missing']):\n    return x.scaled()\n",
    ],
    ids=["the result", "a variable", "another function", "unknown names"],
)
def test_other_annotations_do_not_count(project: Project, text: str) -> None:
    assert not changes(project, IMPORTS + text, "* 3", "* 4", r=ROWS)


def test_names_that_only_type_checkers_import_are_nothing(project: Project) -> None:
    head = "from __future__ import annotations\nfrom typing import TYPE_CHECKING\n"
    text = f"{head}if TYPE_CHECKING:\n    from r import Row\ndef f(x: Row, y: list[Row]):\n    return x.scaled()\n"
    assert not changes(project, text, "* 3", "* 4", r=ROWS)


def test_annotations_with_other_classes_keep_the_digest(project: Project) -> None:
    text = "import datetime\ndef f(x: int, y: list[datetime.date]):\n    return x.scaled()\n"
    plain = digest_of(project, m="def f(x, y):\n    return x.scaled()\n")
    assert digest_of(project, m=text) == plain


def test_an_annotation_whose_class_the_code_names_keeps_the_digest(project: Project) -> None:
    text = IMPORTS + "def f(x{}):\n    return isinstance(x, Row)\n"
    assert digest_of(project, m=text.format(": Row"), r=ROWS) == digest_of(project, m=text.format(""), r=ROWS)


def test_what_only_an_annotation_leads_to_and_has_no_digest_is_left_out(project: Project) -> None:
    text = IMPORTS + "def f(x: Locked):\n    return x.g()\n"
    assert changes(project, text, "+ 4", "+ 5", r=ROWS)
    assert changes(project, text, "BASE = 1", "BASE = 2", r=ROWS)
    named = IMPORTS + "def f(x: Locked):\n    return isinstance(x, Locked)\n"
    with pytest.raises(DigestError, match="'LOCK', which 'Locked' uses"):
        digest_of(project, m=named, r=ROWS)


def test_an_annotated_class_without_a_source_is_left_out(project: Project) -> None:
    text = "def f(x: Row):\n    return x.g()\n"
    module = project(m="exec('class Row:\\n    def g(self):\\n        return 1')\n" + text)
    assert task_code(module.f) == digest_of(project, m=text.replace(": Row", ""))


def test_the_class_without_what_the_code_reads_of_it_does_not_count(project: Project) -> None:
    text = IMPORTS + "def f(x: Row):\n    return x\n"
    assert digest_of(project, m=text, r=ROWS) == digest_of(project, m=text.replace(": Row", ""), r=ROWS)


SHOP = """\
from dataclasses import dataclass, field

class Base:
    FEE = 1

    def fee(self):
        return self.FEE + self.more()

    def more(self):
        return 10

@dataclass
class Shop(Base):
    net: int = 3
    tax: int = field(init=False, default=5)

    def more(self):
        return 20

    @property
    def gross(self):
        return self.net + 30

    @classmethod
    def make(cls):
        return cls()
"""


@pytest.mark.parametrize(
    ("read", "old", "new", "counts"),
    [
        ("shop.fee()", "FEE = 1", "FEE = 2", True),
        ("shop.fee()", "return 20", "return 21", True),
        ("shop.fee()", "return 10", "return 11", False),
        ("shop.gross", "+ 30", "+ 31", True),
        ("shop.make().gross", "+ 30", "+ 31", True),
        ("shop.net", "net: int = 3", "net: int = 4", False),
        ("shop.tax", "default=5", "default=6", True),
        ("helper(shop)", "+ 30", "+ 31", True),
    ],
)
def test_names_mean_what_objects_of_the_class_have(
    project: Project, read: str, old: str, new: str, counts: bool
) -> None:
    text = f"from s import Shop\ndef helper(any):\n    return any.gross\ndef f(shop: Shop):\n    return {read}\n"
    assert changes(project, text, old, new, s=SHOP) is counts


def test_a_changed_method_of_an_annotated_class_is_noted_under_its_name(project: Project) -> None:
    module = project(m=IMPORTS + "def f(x: Row):\n    return x.scaled()\n", r=ROWS)
    note = read_code(module.f, "task_code", task_code(module.f))
    assert note is not None
    assert [(each.kind, each.shown) for each in note.pieces[1:]] == [
        ("function", "r.Row.scaled"),
        ("name", "Row.scaled of m"),
        ("constant", "self.RATE of r.Row.scaled"),
        ("constant", "Row.RATE of m"),
    ]
