"""Objects with `__wrapped__` and state of their own: both count in TASK_CODE, what they wrap and what they hold."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock.digests.sources import task_code, task_source, told_by_name
from penstock.graph.code.reading import read_code
from tests.graph.edits import Project, changes, task_in

HEAD = """
    import dataclasses, functools

    def rate(): return 20

    def h(x, k=1): return x * k + rate()

    def other(x, k=1): return x - k

    def wrapping(function):
        @functools.wraps(function)
        def wrapped(*args, **named):
            return function(*args, **named) + 100
        return wrapped

    @dataclasses.dataclass
    class Case:
        k: int

        @wrapping
        def run(self, x): return x * self.k + rate()

        @functools.lru_cache
        def cached(self, x): return x * self.k + rate()

        @classmethod
        @wrapping
        def made(cls, x): return cls(x).k + rate()

        def __hash__(self): return 1

    @dataclasses.dataclass
    class Wrapper:
        k: int

        def __call__(self, x): return self.__wrapped__(x) * self.k + more()

    def more(): return 40

"""
USE = "\n    def f(x=3):\n        return p(x)\n"
PARTIALS = {
    "wraps": "p = functools.wraps(h)(functools.partial(h, k=2))",
    "update_wrapper": "p = functools.partial(h, k=2)\n    functools.update_wrapper(p, h)",
    "of something else": "p = functools.wraps(other)(functools.partial(h, k=2))",
    "of a partial": "p = functools.partial(functools.wraps(h)(functools.partial(h, k=2)))",
    "wrapped twice": "p = functools.wraps(h)(functools.partial(functools.wraps(h)(functools.partial(h, k=2)), 1))",
    "cached": "p = functools.lru_cache(functools.wraps(h)(functools.partial(h, k=2)))",
    "in a list": "q = [functools.wraps(h)(functools.partial(h, k=2))]\n    def p(x): return q[0](x)",
    "in a default": "def p(x, q=functools.wraps(h)(functools.partial(h, k=2))): return q(x)",
}


@pytest.mark.parametrize("how", PARTIALS)
@pytest.mark.parametrize("edit", [("k=2", "k=3"), ("x * k", "x + k"), ("return 20", "return 30")], ids=str)
def test_a_partial_that_names_what_it_wraps_counts_with_its_arguments(
    project: Project, how: str, edit: tuple[str, str]
) -> None:
    assert changes(project, HEAD + "    " + PARTIALS[how] + "\n" + USE, *edit)


def test_what_a_partial_says_it_wraps_counts(project: Project) -> None:
    assert changes(project, HEAD + "    " + PARTIALS["of something else"] + "\n" + USE, "x - k", "x + k")


@pytest.mark.parametrize("digest", [task_code, task_source])
def test_arguments_of_a_task_that_is_a_wrapping_partial_count(project: Project, digest: Callable[..., str]) -> None:
    text = HEAD + "    f = functools.wraps(h)(functools.partial(h, k={k}))\n"
    assert digest(project(m=text.replace("{k}", "2")).f) != digest(project(m=text.replace("{k}", "3")).f)


def test_no_name_tells_what_a_wrapping_partial_holds(project: Project) -> None:
    text = "import functools\n\ndef h(x, k=1): return x\n\nf = functools.wraps(h)(functools.partial(h, k=2))\n"
    assert not told_by_name(project(package__m=text).f)


def test_arguments_that_are_changed_in_a_wrapping_partial_count(project: Project) -> None:
    module = project(m=HEAD + "    " + PARTIALS["wraps"] + "\n" + USE)
    before = task_code(module.f)
    module.p.keywords.update(k=3)
    assert task_code(module.f) != before


@pytest.mark.parametrize("method", ["Case(2).run", "Case(2).cached"])
@pytest.mark.parametrize(
    "edit", [("Case(2)", "Case(4)"), ("x * self.k", "x + self.k"), ("return 20", "return 30")], ids=str
)
def test_a_bound_method_that_is_decorated_counts_with_its_object(
    project: Project, method: str, edit: tuple[str, str]
) -> None:
    assert changes(project, f"{HEAD}\n    p = {method}\n{USE}", *edit)


@pytest.mark.parametrize("method", ["Case(2).run", "Case.made"])
def test_the_decorator_of_a_bound_method_counts(project: Project, method: str) -> None:
    assert changes(project, f"{HEAD}\n    p = {method}\n{USE}", "+ 100", "+ 200")


def test_a_bound_class_method_that_is_decorated_counts_with_its_class(project: Project) -> None:
    text = HEAD + "    class D(Case):\n        k = 5\n\n    class E(Case):\n        k = 6\n\n    p = D.made\n" + USE
    assert changes(project, text, "p = D.made", "p = E.made")


@pytest.mark.parametrize(
    "edit", [("Wrapper(2)", "Wrapper(3)"), ("* self.k", "+ self.k"), ("return 20", "return 30"), ("40", "50")], ids=str
)
@pytest.mark.parametrize("use", [USE, "f = p"])
def test_an_object_of_the_project_that_wraps_counts_with_its_class(
    project: Project, edit: tuple[str, str], use: str
) -> None:
    text = HEAD + "    p = Wrapper(2)\n    functools.update_wrapper(p, h)\n    " + use.strip("\n ") + "\n"
    assert changes(project, text, *edit)


def test_annotations_that_a_wrapper_has_copied_do_not_count(project: Project) -> None:
    text = HEAD + "    class Row:\n        K = 1\n\n    def g(x: Row): return x\n\n    p = Wrapper(2)\n"
    assert not changes(project, text + "    functools.update_wrapper(p, g)\n" + USE, "K = 1", "K = 2")


def test_caches_of_different_sizes_share_keys(project: Project) -> None:
    text = HEAD + "    p = functools.lru_cache(maxsize=3)(h)\n" + USE
    assert not changes(project, text, "maxsize=3", "maxsize=4")


INSTALLED = """
    class Deco:
        def __init__(self, function, **held):
            self.__wrapped__ = self.function = function
            self.calls = []
            self.seen = {}
            vars(self).update(held)

        def __call__(self, *args):
            self.calls.append(args)
            self.seen[args] = args
            return self.on(self.function(*args))
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the package `wrapping_package`."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "wrapping_package.py").write_text(textwrap.dedent(INSTALLED))
    monkeypatch.syspath_prepend(folder)
    yield
    sys.modules.pop("wrapping_package", None)


HOLDING = (
    "    from wrapping_package import Deco\n\n    def on(x): return x + 77\n\n"
    "    class Holder:\n        def on(self, x): return x + 77\n\n"
)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("held", ["on", "functools.partial(on)", "Holder().on", "Holder"])
@pytest.mark.parametrize("edit", [("x + 77", "x + 78"), ("x * k", "x + k"), ("return 20", "return 30")], ids=str)
def test_code_of_the_project_in_an_installed_wrapper_counts(project: Project, held: str, edit: tuple[str, str]) -> None:
    assert changes(project, f"{HEAD}{HOLDING}    p = Deco(h, on={held})\n{USE}", *edit)
    assert changes(project, f"{HEAD}{HOLDING}    f = Deco(h, on={held})\n", *edit)


@pytest.mark.usefixtures("installed")
def test_what_an_installed_wrapper_collects_does_not_count(project: Project) -> None:
    module = project(m=f"{HEAD}{HOLDING}    p = Deco(h, on=on)\n{USE}")
    before = task_code(module.f)
    module.f()
    assert module.p.calls
    assert task_code(module.f) == before


@pytest.mark.needs("wrapt")
def test_the_wrapper_that_a_decorator_of_wrapt_calls_counts(project: Project) -> None:
    text = HEAD + (
        "    import wrapt\n\n    @wrapt.decorator\n    def deco(wrapped, instance, args, named):\n"
        "        return wrapped(*args) + 77\n\n    @deco\n    def p(x): return h(x)\n"
    )
    assert changes(project, text + USE, "+ 77", "+ 78")
    assert changes(project, text + USE, "return 20", "return 30")


@pytest.mark.parametrize("use", [USE, "    f = p\n"])
@pytest.mark.parametrize("what", ["functools.wraps(h)(functools.partial(h, k=2))", "Case(2).run", "list[Case]"])
def test_the_code_note_covers_what_wrapping_objects_and_aliases_hold(project: Project, what: str, use: str) -> None:
    fn = task_in(project(m=f"{HEAD}\n    p = {what}\n{use}"))
    note = read_code(fn, "task_code", task_code(fn))
    assert note is not None
    assert any("rate" in piece.name for piece in note.pieces)
