"""TASK_SOURCE and TASK_CODE: what changes the digest of a function, and what does not."""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from penstock.digests.sources import importable_name, task_code, task_source
from penstock.errors import DigestError

Project = Callable[..., ModuleType]


def _differ(project: Project, digest: Callable[..., str], one: dict[str, str], other: dict[str, str]) -> bool:
    first = digest(project(**one).f)
    return first != digest(project(**other).f)


PLAIN = "def f(x, y=1):\n    return x + y\n"


@pytest.mark.parametrize(
    "text",
    [
        "def f(x, y=1):\n    # why\n    return x + y  # because\n",
        "def f(x,\n      y = 1):\n\n    return (x\n            + y)\n",
        'def f(x, y=1):\n    """What it does."""\n    return x + y\n',
        "def f(x: int, y: int = 1) -> int:\n    return x + y\n",
        "import functools\n\n@functools.lru_cache\ndef f(x, y=1):\n    return x + y\n",
        "import functools\nX = 1\n\n@functools.lru_cache(\n    maxsize=3\n)\ndef f(x, y=1):\n    return x + y\n",
        "def g(x, y=1):\n    return x + y\nf = g\n",
        "def f(x, y=1):\n    z: int\n    return x + y\n",
    ],
    ids=["comments", "formatting", "docstring", "annotations", "decorator", "other decorator", "name", "declaration"],
)
@pytest.mark.parametrize("digest", [task_source, task_code])
def test_edits_without_effect_keep_the_digest(project: Project, digest: Callable[..., str], text: str) -> None:
    assert not _differ(project, digest, {"m": PLAIN}, {"m": text})


@pytest.mark.parametrize(
    "text",
    [
        "def f(x, y=1):\n    return x - y\n",
        "def f(x, y=2):\n    return x + y\n",
        "def f(x, *, y=1):\n    return x + y\n",
        "def f(x, y=1.0):\n    return x + y\n",
        "async def f(x, y=1):\n    return x + y\n",
        "def f(x, y=1):\n    'doc'\n    'not a doc'\n    return x + y + 0\n",
    ],
    ids=["body", "default", "kind of parameter", "type of default", "async", "statement"],
)
@pytest.mark.parametrize("digest", [task_source, task_code])
def test_edits_with_an_effect_change_the_digest(project: Project, digest: Callable[..., str], text: str) -> None:
    assert _differ(project, digest, {"m": PLAIN}, {"m": text})


@pytest.mark.parametrize("digest", [task_source, task_code])
def test_a_default_counts_by_value_and_not_by_expression(project: Project, digest: Callable[..., str]) -> None:
    text = "Y = {value}\ndef f(x, y=Y):\n    return x + y\n"
    assert _differ(project, digest, {"m": text.format(value=1)}, {"m": text.format(value=2)})


@pytest.mark.parametrize("digest", [task_source, task_code])
def test_closures_over_different_values_differ(project: Project, digest: Callable[..., str]) -> None:
    text = "def make(rate):\n    def f(x):\n        return x * rate\n    return f\nf, g = make(2), make(3)\n"
    module = project(m=text)
    assert digest(module.f) != digest(module.g)
    assert digest(module.f) == digest(module.make(2))


def test_a_closure_that_refers_to_itself_has_a_digest(project: Project) -> None:
    text = (
        "def make():\n    def fact(n):\n        return n and n * fact(n - 1)\n    return fact\nf, g = make(), make()\n"
    )
    module = project(m=text)
    assert task_source(module.f) == task_source(module.g)
    assert task_code(module.f) == task_code(module.g)


def test_the_error_for_a_closure_variable_without_a_digest_names_it(project: Project) -> None:
    module = project(m="def make(it):\n    def f():\n        return next(it)\n    return f\nf = make(iter([1]))\n")
    with pytest.raises(DigestError) as caught:
        task_source(module.f)
    assert "__closure__['it']" in caught.value.where


def test_a_sentinel_as_default_is_accepted(project: Project) -> None:
    text = "MISSING = object()\ndef f(x=MISSING):\n    return x is MISSING\n"
    assert not _differ(project, task_code, {"m": text}, {"m": text})


# -- TASK_CODE -------------------------------------------------------------------------------------------------------

TASK = "import helpers\nfrom helpers import first\n\ndef f(x):\n    return first(x)\n"
HELPERS = "from deep import second\n\ndef first(x):\n    return second(x) + 1\n"
DEEP = "RATE = {rate}\n\ndef second(x, y={default}):\n    return x {op} RATE\n"


@pytest.mark.parametrize("change", [{"op": "-"}, {"rate": "0.2"}, {"default": "7"}])
def test_an_edit_two_calls_deep_changes_task_code_and_not_task_source(project: Project, change: dict[str, str]) -> None:
    plain = {"rate": "0.1", "default": "1", "op": "*"}
    one = {"m": TASK, "helpers": HELPERS, "deep": DEEP.format(**plain)}
    other = {"m": TASK, "helpers": HELPERS, "deep": DEEP.format(**(plain | change))}
    assert _differ(project, task_code, one, other)
    assert not _differ(project, task_source, one, other)


def test_comments_in_a_helper_do_not_change_task_code(project: Project) -> None:
    deep = DEEP.format(rate="0.1", default="1", op="*")
    one = {"m": TASK, "helpers": HELPERS, "deep": deep}
    assert not _differ(project, task_code, one, one | {"deep": "# a note\n" + deep})


REACHED = {
    "attribute of a module": ("import h\ndef f(x):\n    return h.g(x)\n", "def g(x):\n    return x {}\n"),
    "submodule": ("import p.h\ndef f(x):\n    return p.h.g(x)\n", "def g(x):\n    return x {}\n"),
    "nested function": ("from h import g\ndef f(x):\n    def inner():\n        return g(x)\n    return inner()\n",
                        "def g(x):\n    return x {}\n"),
    "lambda": ("from h import g\ndef f(xs):\n    return map(lambda x: g(x), xs)\n", "def g(x):\n    return x {}\n"),
    "comprehension": ("from h import g\ndef f(xs):\n    return [g(x) for x in xs]\n", "def g(x):\n    return x {}\n"),
    "import inside": ("def f(x):\n    from h import g\n    return g(x)\n", "def g(x):\n    return x {}\n"),
    "module imported inside": ("def f(x):\n    import h as k\n    return k.g(x)\n", "def g(x):\n    return x {}\n"),
    "class": ("from h import G\ndef f(x):\n    return G().g(x)\n",
              "class G:\n    def g(self, x):\n        return x {}\n"),
    "base class": ("from h import G\ndef f(x):\n    return G().g(x)\n",
                   "class B:\n    def g(self, x):\n        return x {}\nclass G(B):\n    pass\n"),
    "class of an object": ("from h import o\ndef f(x):\n    return o.g(x)\n",
                           "import dataclasses\n@dataclasses.dataclass\nclass G:\n    a: int = 1\n    def g(self, x):\n"
                           "        return x {}\no = G()\n"),
    "table of functions": ("from h import T\ndef f(x):\n    return T['g'](x)\n",
                           "def g(x):\n    return x {}\nT = {{'g': [g]}}\n"),
    "partial": ("from h import p\ndef f(x):\n    return p()\n",
                "import functools\ndef g(x):\n    return k(x)\ndef k(x):\n    return x {}\n"
                "p = functools.partial(g, 1)\n"),
    "wrapped by a library": ("from h import g\ndef f(x):\n    return g(x)\n",
                             "import functools\n@functools.lru_cache\ndef g(x):\n    return x {}\n"),
    "context manager": ("from h import g\ndef f(x):\n    with g(x):\n        return 1\n",
                        "import contextlib\n@contextlib.contextmanager\ndef g(x):\n    yield x {}\n"),
    "project decorator": ("from h import g\ndef f(x):\n    return g(x)\n",
                          "import functools\ndef deco(fn):\n    @functools.wraps(fn)\n    def inner(x):\n"
                          "        return fn(x) {}\n    return inner\n@deco\ndef g(x):\n    return x\n"),
    "default": ("from h import g\ndef f(x, how=g):\n    return how(x)\n",
                "def k(x):\n    return x {}\ndef g(x):\n    return k(x)\n"),
    "constant": ("import h\ndef f(x):\n    return x, h.C\n", "C = {{'a': (1 {},)}}\n"),
    "module as a value": ("import h\ndef f(x):\n    return getattr(h, 'g')(x)\n", "def g(x):\n    return x {}\n"),
}  # fmt: skip


@pytest.mark.parametrize("case", REACHED)
def test_task_code_follows_all_reachable_project_code(project: Project, case: str) -> None:
    task, helper = REACHED[case]
    name = "p__h" if case == "submodule" else "h"
    more = {"p____init__": ""} if case == "submodule" else {}
    assert _differ(
        project,
        task_code,
        {"m": task, name: helper.format("+ 1"), **more},
        {"m": task, name: helper.format("+ 2"), **more},
    )
    assert not _differ(
        project,
        task_code,
        {"m": task, name: helper.format("+ 1"), **more},
        {"m": task, name: helper.format("+ 1"), **more},
    )


@pytest.mark.parametrize("digest", [task_source, task_code])
def test_tasks_in_globals_and_closures_count_by_their_functions(project: Project, digest: Callable[..., str]) -> None:
    # Penstock's own objects are recognised by their package and their attribute `fn`.
    ours = "class Task:\n    __module__ = 'penstock.tasks'\n    def __init__(self, fn):\n        self.fn = fn\n"
    helper = ours + "def made(x):\n    return x {}\ninner = Task(made)\n"
    task = (
        "import h\ndef make(inner):\n    def f(x):\n        return inner.fn(x), h.inner.fn(x)\n    return f\n"
        "f = h.Task(make(h.inner))\n"
    )
    one, other = helper.format("+ 1"), helper.format("+ 2")
    assert _differ(project, digest, {"m": task, "h": one}, {"m": task, "h": other})
    assert not _differ(project, digest, {"m": task, "h": one}, {"m": task, "h": one})


def test_unreachable_project_code_does_not_count(project: Project) -> None:
    task = "import h\ndef f(x):\n    g = 1\n    return h.used(x) + g\n"
    helper = "def used(x):\n    return x\n\ndef g(x):\n    return x {}\n"
    assert not _differ(
        project, task_code, {"m": task, "h": helper.format("+ 1")}, {"m": task, "h": helper.format("+ 2")}
    )


def test_mutually_recursive_functions_have_a_digest_that_depends_on_both(project: Project) -> None:
    text = "def f(n):\n    return n and g(n - 1)\n\ndef g(n):\n    return n and f(n - {})\n"
    assert not _differ(project, task_code, {"m": text.format(1)}, {"m": text.format(1)})
    assert _differ(project, task_code, {"m": text.format(1)}, {"m": text.format(2)})


def test_the_standard_library_and_installed_packages_count_by_name(project: Project) -> None:
    text = "{}\ndef f(x):\n    return run(x)\n"
    one, same, other = (
        "from shutil import which as run",
        "import shutil\nrun = shutil.which",
        "from shutil import rmtree as run",
    )
    assert not _differ(project, task_code, {"m": text.format(one)}, {"m": text.format(same)})
    assert _differ(project, task_code, {"m": text.format(one)}, {"m": text.format(other)})


def test_a_logger_among_the_globals_is_accepted(project: Project) -> None:
    text = "import logging\nlogger = logging.getLogger(__name__)\ndef f(x):\n    logger.info('x')\n    return x\n"
    assert len(task_code(project(m=text).f)) == 40


def test_the_error_for_a_constant_without_a_digest_names_it(project: Project) -> None:
    module = project(
        m="import h\ndef f(x):\n    with h.LOCK:\n        return x\n", h="import threading\nLOCK = threading.Lock()\n"
    )
    with pytest.raises(DigestError) as caught:
        task_code(module.f)
    assert "'h.LOCK'" in caught.value.what
    assert "'f'" in caught.value.what
    assert "register_digest" in caught.value.hint


def test_a_given_rule_decides_what_project_code_is(project: Project) -> None:
    task, helper = "import h\ndef f(x):\n    return h.g(x)\n", "def g(x):\n    return x {}\n"
    one = task_code(project(m=task, h=helper.format("+ 1")).f, lambda module: module == "m")
    assert one == task_code(project(m=task, h=helper.format("+ 2")).f, lambda module: module == "m")


def test_installed_modules_of_the_tasks_own_package_are_followed(tmp_path: Path, project: Project) -> None:
    task, helper = "from pk.h import g\ndef f(x):\n    return g(x)\n", "def g(x):\n    return x {}\n"

    def installed(op: str) -> str:
        project(unused="")
        folder = tmp_path / f"site-packages{len(op)}" / "site-packages"
        (folder / "pk").mkdir(parents=True)
        for name, text in {"__init__": "", "m": task, "h": helper.format(op)}.items():
            (folder / "pk" / f"{name}.py").write_text(text)
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
        try:
            return task_code(importlib.import_module("pk.m").f)
        finally:
            sys.path.remove(str(folder))

    assert installed("+ 1") != installed("+ 22")


def test_relative_imports_inside_functions_are_followed(project: Project) -> None:
    task, helper = "def f(x):\n    from .h import g\n    return g(x)\n", "def g(x):\n    return x {}\n"

    def digest(op: str) -> str:
        files = {"pk__m": task, "pk__h": helper.format(op), "pk____init__": ""}
        return task_code(project(**files).f)

    assert digest("+ 1") != digest("+ 2")


def test_implementations_registered_with_an_installed_function_are_followed(tmp_path: Path, project: Project) -> None:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "shows.py").write_text("import functools\n@functools.singledispatch\ndef show(x):\n    return x\n")
    sys.path.insert(0, str(folder))
    text = "import shows\n@shows.show.register\ndef _(x: int):\n    return x {}\ndef f(x):\n    return shows.show(x)\n"
    try:
        assert _differ(project, task_code, {"m": text.format("+ 1")}, {"m": text.format("+ 2")})
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("shows", None)


# -- finding the source ----------------------------------------------------------------------------------------------


def test_each_of_several_lambdas_on_one_line_is_found(project: Project) -> None:
    module = project(
        m="f, g, h = (lambda x: x + 1), (lambda x: x + 2), (lambda x: x + 1)\nn = lambda x: (lambda y: x + y)\n"
    )
    assert task_source(module.f) != task_source(module.g)
    assert task_source(module.f) == task_source(module.h)
    assert task_source(module.n) != task_source(module.n(1))


def test_a_function_without_source_is_an_error_with_a_fix() -> None:
    scope: dict[str, Callable[[int], int]] = {}
    exec("def f(x):\n    return x", scope)
    with pytest.raises(DigestError, match="is not available") as caught:
        task_source(scope["f"])
    assert "define it in a file" in caught.value.hint


@pytest.mark.slow
def test_at_a_prompt_without_source_the_error_names_the_policy_that_works_there(tmp_path: Path) -> None:
    typed = """
import sys
from penstock import INPUTS, TASK_CODE, TASK_SOURCE, CacheKey, task

@task(cache_policy=INPUTS + POLICY)
def double(x):
    print("ran")
    return 2 * x

print("value", double(4), double(4))
"""
    environment = {**os.environ, "PENSTOCK_HOME": str(tmp_path), "PYTHON_BASIC_REPL": "1"}
    for policy, said in (
        ("CacheKey('v1')", ["ran", "value 8 8"]),
        ("TASK_CODE", ["because: this prompt keeps no source", "use cache_policy=INPUTS + CacheKey('v1')"]),
        ("TASK_SOURCE", ["because: this prompt keeps no source", "use cache_policy=INPUTS + CacheKey('v1')"]),
    ):
        if sys.version_info >= (3, 13) and policy != "CacheKey('v1')":
            continue  # this prompt keeps its source
        done = subprocess.run(
            [sys.executable, "-i"],
            input=typed.replace("POLICY", policy),
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
            timeout=120,
        )
        for text in said:
            assert text in done.stdout + done.stderr


def test_a_notebook_cell_has_source() -> None:
    import linecache

    def run(text: str, name: str) -> str:
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        scope: dict[str, Callable[[int], int]] = {}
        exec(compile(text, name, "exec"), scope)
        return task_source(scope["f"])

    one = run("def f(x):\n    return x\n", "<ipython-input-1>")
    assert one == run("# again\ndef f(x):\n    return x\n", "<ipython-input-2>")
    assert one != run("def f(x):\n    return x + 1\n", "<ipython-input-3>")


def test_source_changed_since_it_was_loaded_is_an_error_and_not_a_wrong_key(project: Project) -> None:
    module = project(m="def f(x):\n    return x + 1\n")
    path = Path(str(module.__file__))
    path.write_text("def f(x):\n    return x + 2000\n")
    os.utime(path, (1, 1))
    with pytest.raises(DigestError, match="has changed since it was loaded"):
        task_source(module.f)


def test_a_class_changed_since_it_was_loaded_is_an_error_and_not_a_wrong_key(project: Project) -> None:
    text = "class C:\n    def g(self):\n        return {}\n\ndef f(x):\n    return C().g()\n"
    module = project(m=text.format(1))
    Path(str(module.__file__)).write_text(text.format(2000))
    task_source(module.f)
    with pytest.raises(DigestError, match="has changed since it was loaded"):
        task_code(module.f)


@pytest.mark.parametrize("digest", [task_source, task_code])
def test_code_digested_before_its_file_changed_keeps_its_digest(project: Project, digest: Callable[..., str]) -> None:
    text = "class C:\n    def g(self):\n        return {}\n\ndef f(x):\n    return C().g() + {}\n"
    module = project(m=text.format(11, 12))
    before = digest(module.f)
    Path(str(module.__file__)).write_text("\n" + text.format(2000, 2001))
    assert digest(module.f) == before


@pytest.mark.parametrize("fn", [len, str.upper, sum])
def test_builtins_are_digested_by_name(fn: Callable[..., object]) -> None:
    assert task_source(fn) == task_source(fn)
    assert task_source(fn) != task_source(max)


def test_a_callable_object_counts_with_its_state_and_code(project: Project) -> None:
    text = (
        "from dataclasses import dataclass\n@dataclass\nclass F:\n    rate: int\n    def __call__(self, x):\n"
        "        return x * self.rate {}\nf = F({})\n"
    )
    assert _differ(project, task_source, {"m": text.format("+ 1", 1)}, {"m": text.format("+ 2", 1)})
    assert _differ(project, task_source, {"m": text.format("+ 1", 1)}, {"m": text.format("+ 1", 2)})
    assert not _differ(project, task_source, {"m": text.format("+ 1", 1)}, {"m": text.format("+ 1", 1)})


def test_a_sum_of_many_terms_causes_no_recursion_error(project: Project) -> None:
    text = "def f(x):\n    return " + " + ".join(["x"] * 700) + "\n"
    assert len(task_source(project(m=text).f)) == 40


def test_f_strings_are_digested_by_their_parts(project: Project) -> None:
    text = "def f(x):\n    return {}\n"
    one = {"m": text.format("""f"a{x!r:>10}" "b" f"{x}" """)}
    assert not _differ(project, task_source, one, {"m": text.format("""f'a{x!r:>10}b{x}'""")})
    assert _differ(project, task_source, one, {"m": text.format("""f'a{x!r:>11}b{x}'""")})


# -- names -----------------------------------------------------------------------------------------------------------

SCRIPT = """
import sys
from penstock.digests.python import digest
from penstock.digests.sources import importable_name, task_source
import dataclasses

def f(x):
    return x

@dataclasses.dataclass
class C:
    a: int

def show():
    print(importable_name(f), task_source(f), digest(f), digest(C(1)))

if __name__ == "__main__":
    show()
"""


def test_a_script_its_import_and_python_m_have_the_same_names(tmp_path: Path) -> None:
    (tmp_path / "weekly.py").write_text(SCRIPT)
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, str(tmp_path)])}
    calls = (["weekly.py"], [str(tmp_path / "weekly.py")], ["-m", "weekly"], ["-c", "import weekly; weekly.show()"])
    said = {
        subprocess.run(
            [sys.executable, *call], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        ).stdout
        for call in calls
    }
    assert len(said) == 1
    assert said.pop().startswith("('weekly', 'f')")


def test_importable_names_consist_of_module_and_qualified_name() -> None:
    class Own:
        def method(self) -> None: ...

    here = "test_importable_names_consist_of_module_and_qualified_name.<locals>"
    assert importable_name(Own.method) == (__name__, f"{here}.Own.method")
    assert importable_name(textwrap.dedent) == ("textwrap", "dedent")


def test_imports_of_installed_packages_inside_functions_are_not_executed_for_keys(project: Project) -> None:
    module = project(m="def f():\n    from hypothesis.provisional import urls\n    return urls\n")
    before = task_code(module.f)
    assert "hypothesis.provisional" not in sys.modules
    importlib.import_module("hypothesis.provisional")
    assert task_code(module.f) == before


def test_a_class_without_methods_is_found_in_its_notebook_cell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import linecache

    notebook = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", notebook)
    monkeypatch.setattr(linecache, "cache", {})

    def run(number: int, text: str) -> None:
        cell = f"<ipython-input-{number}>"
        linecache.cache[cell] = (len(text), None, text.splitlines(keepends=True), cell)
        exec(compile(text, cell, "exec"), vars(notebook))

    run(1, "import enum\nclass Size(enum.Enum):\n    SMALL = 1\n")
    run(2, "def f(x):\n    return Size.SMALL, x\n")
    one = task_code(notebook.f)
    run(3, "import enum\nclass Size(enum.Enum):\n    SMALL = 2\n")
    two = task_code(notebook.f)
    assert two != one  # the latest matching cell
    with pytest.raises(ZeroDivisionError):
        run(4, "import enum\nclass Size(enum.Enum):\n    SMALL = 3\n    1 / 0\n")
    assert task_code(notebook.f) == two
    del linecache.cache["<ipython-input-1>"]
    assert task_code(notebook.f) == two


CELL_CLASSES = {
    "data class": ("@dataclass\nclass R:\n    n: int\n", "@dataclass\nclass R:\n    n: int\n    m: int = 1\n"),
    "enum": ("class R(enum.Enum):\n    A = 1\n", "class R(enum.Enum):\n    A = 2\n"),
    "named tuple": ("class R(NamedTuple):\n    n: int\n", "class R(NamedTuple):\n    n: int\n    m: int = 0\n"),
    "with a method": (
        "@dataclass\nclass R:\n    n: int\n    def f(self):\n        return 1\n",
        "@dataclass\nclass R:\n    n: int\n    def f(self):\n        return 2\n",
    ),
}


@pytest.mark.needs("IPython")
@pytest.mark.parametrize("kind", CELL_CLASSES)
def test_a_notebook_class_counts_as_in_its_latest_cell(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from IPython.core import interactiveshell as interactive

    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # the shell installs its own there
    shell = interactive.InteractiveShell(history_manager=None)
    monkeypatch.setattr(interactive.InteractiveShell, "_instance", shell)
    first, second = CELL_CLASSES[kind]

    def run(text: str) -> None:
        shell.run_cell(text, store_history=True).raise_error()

    run("import enum\nfrom dataclasses import dataclass\nfrom typing import NamedTuple")
    run(first)
    run("def f(x):\n    return R, x")
    one = task_code(shell.user_ns["f"])
    run(second)
    assert task_code(shell.user_ns["f"]) != one
    run(first)
    assert task_code(shell.user_ns["f"]) == one


# -- growth ----------------------------------------------------------------------------------------------------------


def test_a_module_is_parsed_once_for_all_its_functions(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    import linecache

    from penstock.digests.code import syntax

    visited: list[int] = []
    first_line = syntax._first_line
    monkeypatch.setattr(syntax, "_first_line", lambda node: (visited.append(1), first_line(node))[1])
    text = "".join(f"def f{n}(x):\n    return x + {n}\n\nclass C{n}:\n    pass\n\n" for n in range(60))
    module = project(m=text + "f = f0\n")
    assert len({task_source(getattr(module, f"f{n}")) for n in range(60)}) == 60
    assert len({task_source(getattr(module, f"C{n}")) for n in range(60)}) == 60
    assert len(visited) <= 60 + 60
    filename = str(module.__file__)
    assert syntax._source_text(filename, vars(module)) is syntax._source_text(filename, vars(module))
    linecache.clearcache()
    assert syntax._source_text(filename, vars(module)) == text + "f = f0\n"


# -- changes beside definitions

_DISPATCH = "import functools\n\n@functools.singledispatch\ndef h(x):\n    return 0\n\n"
_TAKEN = "class A:\n    subs = []\n    def __init_subclass__(cls):\n        A.subs.append(cls)\n\n"

EDITS_BESIDE = {
    "an implementation of a singledispatch function": (
        _DISPATCH + "@h.register\ndef _(x: int):\n    return {0}\n\ndef f():\n    return h(1)\n"
    ),
    "the class of an implementation": (
        _DISPATCH + "@h.register(({0}, int, float)[{0}])\ndef _(x):\n    return 1\n\ndef f():\n    return h(1)\n"
    ),
    "a dispatched function in a table": (
        _DISPATCH + "@h.register\ndef _(x: int):\n    return {0}\n\nD = dict(a=h)\n\ndef f():\n    return D['a'](1)\n"
    ),
    "a later implementation of a dispatched method": (
        "import functools\n\nclass A:\n    @functools.singledispatchmethod\n    def h(self, x):\n        return 0\n\n"
        "@A.h.register(int)\ndef _(self, x):\n    return {0}\n\ndef f():\n    return A().h(1)\n"
    ),
    "a class that registered itself": (
        _TAKEN + "class B(A):\n    def m(self):\n        return {0}\n\ndef f():\n    return A.subs[0]().m()\n"
    ),
    "a function in a class's registry": (
        "class A:\n    plugins = dict()\n\ndef h():\n    return {0}\n\nA.plugins['h'] = h\n\n"
        "def f():\n    return A.plugins['h']()\n"
    ),
    "a class attribute set later": "class B:\n    v = 0\n\nB.v = {0}\n\ndef f():\n    return B.v\n",
    "a new class attribute": "class B:\n    pass\n\nsetattr(B, 'v', {0})\n\ndef f():\n    return getattr(B, 'v')\n",
    "an attribute asked elsewhere": (
        "class B:\n    pass\n\nB.v = {0}\n\ndef made():\n    return B()\n\ndef f():\n    return made().v\n"
    ),
    "an attribute of a class within a class": (
        "class A:\n    class B:\n        v = 0\n\nA.B.v = {0}\n\ndef f():\n    return A.B.v\n"
    ),
    "a method set later": (
        "class B:\n    def m(self):\n        return 0\n\ndef g(self):\n    return {0}\n\nB.m = g\n\n"
        "def f():\n    return B().m()\n"
    ),
    "an implementation registered with an installed function": (
        "import functools, json\n\nshown = functools.singledispatch(json.dumps)\n\n"
        "@shown.register\ndef _(value: int):\n    return helper()\n\ndef helper():\n    return {0}\n\n"
        "def f():\n    return shown(1)\n"
    ),
    "an attribute of a function": "def h():\n    pass\n\nh.k = {0}\n\ndef f():\n    return h.k\n",
    "a default of a made dataclass": (
        "import dataclasses\n\nC = dataclasses.make_dataclass('C', [('a', int, {0})])\n\ndef f():\n    return C().a\n"
    ),
    "a default of a made tuple": (
        "import collections\n\nN = collections.namedtuple('N', 'a', defaults=[{0}])\n\ndef f():\n    return N().a\n"
    ),
    "a field of a made tuple": (
        "import typing\n\nN = typing.NamedTuple('N', [('a{0}', int)])\n\ndef f():\n    return N(1)._asdict()\n"
    ),
    "a member of a made enum": "import enum\n\nE = enum.Enum('E', 'A B{0}')\n\ndef f():\n    return list(E)\n",
    "an attribute of a made class": "C = type('C', (), dict(v={0}))\n\ndef f():\n    return C.v\n",
    "a method of a made class": (
        "def h():\n    return {0}\n\nC = type('C', (), dict(m=lambda self: h()))\n\ndef f():\n    return C().m()\n"
    ),
}


@pytest.mark.parametrize("what", EDITS_BESIDE)
def test_task_code_notices_changes_made_beside_a_definition(project: Project, what: str) -> None:
    text = EDITS_BESIDE[what]
    assert _differ(project, task_code, {"m": text.replace("{0}", "1")}, {"m": text.replace("{0}", "2")})


@pytest.mark.parametrize("what", EDITS_BESIDE)
def test_changes_made_beside_a_definition_have_a_stable_digest(project: Project, what: str) -> None:
    text = EDITS_BESIDE[what].replace("{0}", "1")
    assert not _differ(project, task_code, {"m": text}, {"m": f"# moved\n{text}"})


@pytest.mark.parametrize(
    "text",
    [
        "class B:\n    v = [1, {'a': (2, 3)}]\n    w: int = 2\n\ndef f():\n    return B.v, B.w\n",
        "def h():\n    return 1\n\nclass B:\n    table = {'h': h, 'l': lambda: 1}\n\ndef f():\n    return B.table\n",
        "import enum\n\nclass E(enum.IntEnum):\n    A = 1\n\ndef f():\n    return E.A.value\n",
        "import dataclasses as d\n\n@d.dataclass(slots=True)\nclass D:\n    a: int = 1\n\ndef f():\n    return D().a\n",
        "import typing\n\nclass N(typing.NamedTuple):\n    a: int = 1\n\ndef f():\n    return N().a\n",
        "class B:\n    __x = 1\n    def m(self):\n        return self.__x\n\ndef f():\n    return B().m()\n",
        "import functools\n\nclass B:\n    @functools.cache\n    def m(s):\n        return 1\n\ndef f():\n    B.m\n",
    ],
)
def test_the_content_of_a_class_statement_counts_once(project: Project, text: str) -> None:
    from penstock.digests.names import own_module
    from penstock.digests.sources import Reach

    fn = project(m=text).f
    with own_module(fn.__module__):
        pieces = [value for value, _ in Reach(fn).pieces()]
    assert len(pieces) == len({id(value) for value in pieces})


def test_additions_to_a_definition_without_a_digest_are_ignored(project: Project) -> None:
    text = "import threading\n\ndef h():\n    pass\n\nh.lock = threading.Lock()\n\ndef f():\n    return h.lock\n"
    assert task_code(project(m=text).f)


GUARD = threading.Lock()


@functools.cache
def made_guard() -> threading.Lock:
    return threading.Lock()


def test_a_hint_for_a_constant_without_a_digest_proposes_what_works() -> None:
    with pytest.raises(DigestError, match="create it in a function that the task calls") as raised:
        task_code(lambda: GUARD)
    assert "argument" not in raised.value.hint
    assert raised.value.__cause__ is None  # it said the same, with another hint
    assert task_code(lambda: made_guard())
