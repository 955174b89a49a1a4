"""Modules whose files were edited after they were loaded, and modules whose names the program has bound again."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from penstock import task
from penstock.digests.code.loaded import note_sources
from penstock.digests.sources import task_code
from penstock.errors import DigestError

NAMES = ("edited_conf", "edited_job")


class Modules:
    """A folder on the path with the two modules, which can be imported, edited and reloaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._times = iter(range(1_000_000_000, 2_000_000_000, 100))

    def write(self, text: str, name: str = "edited_conf") -> Path:
        path = self.folder / f"{name}.py"
        path.write_text(text)
        time = next(self._times)
        os.utime(path, (time, time))
        return path

    def load(self, text: str, name: str = "edited_conf") -> ModuleType:
        self.write(text, name)
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module(name)


@pytest.fixture(params=["byte code", "no byte code"])
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Modules]:
    monkeypatch.setattr(sys, "dont_write_bytecode", request.param == "no byte code")
    monkeypatch.setattr(sys, "pycache_prefix", None)
    monkeypatch.syspath_prepend(tmp_path)
    yield Modules(tmp_path)
    for name in NAMES:
        sys.modules.pop(name, None)


HEAD = "import dataclasses, enum, typing\n"
JOB = "import edited_conf\ndef f(x):\n    return x + {}\n"
EDITS = {
    "an enum": ("class C(enum.Enum):\n    A = {}\n", "edited_conf.C.A.value"),
    "a computed attribute": ("class C:\n    K = int('{}')\n", "edited_conf.C.K"),
    "a product": ("class C:\n    K = [{}] * 2\n", "edited_conf.C.K[0]"),
    "a field": ("@dataclasses.dataclass\nclass C:\n    k: int = {}\n", "edited_conf.C().k"),
    "a factory": (
        "@dataclasses.dataclass\nclass C:\n    k: list = dataclasses.field(default_factory=lambda: [{}])\n",
        "edited_conf.C().k[0]",
    ),
    "a named tuple": ("class C(typing.NamedTuple):\n    k: int = {}\n", "edited_conf.C().k"),
    "bases": ("class B1:\n    K = 1\nclass B7:\n    K = 7\nclass C(B{}):\n    pass\n", "edited_conf.C.K"),
    "keywords": (
        "class B:\n    def __init_subclass__(cls, k):\n        cls.K = k\nclass C(B, k={}):\n    pass\n",
        "edited_conf.C.K",
    ),
    "a whole module": ("K = {}\n", "getattr(edited_conf, 'K')"),
}


@pytest.mark.parametrize("kind", EDITS)
def test_a_class_or_module_edited_after_it_was_loaded_is_an_error_until_it_is_reloaded(
    modules: Modules, kind: str
) -> None:
    text, use = EDITS[kind]
    conf = modules.load(HEAD + text.format(1))
    job = modules.load(JOB.format(use), "edited_job")
    task(job.f)
    modules.write(HEAD + text.format(7))
    with pytest.raises(DigestError, match="has changed since it was loaded"):
        task_code(job.f)
    importlib.reload(conf)
    reloaded = task_code(job.f)
    assert job.f(0) == 7
    modules.load(HEAD + text.format(7))
    assert task_code(modules.load(JOB.format(use), "edited_job").f) == reloaded


def test_an_edit_is_noticed_even_if_nothing_was_defined_between_import_and_edit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    monkeypatch.syspath_prepend(tmp_path)
    modules = Modules(tmp_path)
    modules.load("class C:\n    K = [1] * 2\n")
    modules.write("class C:\n    K = [7] * 2\n")
    job = modules.load(JOB.format("edited_conf.C.K[0]"), "edited_job")
    with pytest.raises(DigestError, match="has changed since it was loaded"):
        task_code(job.f)


def test_byte_code_that_python_takes_for_that_of_a_newer_file_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    monkeypatch.syspath_prepend(tmp_path)
    modules = Modules(tmp_path)
    path = Path(str(modules.load("class C:\n    K = [1] * 2\n").__file__))
    stamp = path.stat()
    path.write_text("class C:\n    K = [7] * 2\n")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    sys.modules.pop("edited_conf")
    assert importlib.import_module("edited_conf").C.K == [1, 1]
    job = modules.load(JOB.format("edited_conf.C.K[0]"), "edited_job")
    with pytest.raises(DigestError, match="has changed since it was loaded"):
        task_code(job.f)


def test_a_class_kept_from_before_the_reload_of_its_module_is_an_error(modules: Modules) -> None:
    conf = modules.load(HEAD + "class C(enum.Enum):\n    A = 1\n")
    job = modules.load("from edited_conf import C\ndef f(x):\n    return x + C.A.value\n", "edited_job")
    task(job.f)
    modules.write(HEAD + "class C(enum.Enum):\n    A = 7\n")
    importlib.reload(conf)
    with pytest.raises(DigestError, match="has changed since it was loaded"):
        task_code(job.f)
    importlib.reload(job)
    assert job.f(0) == 7
    task_code(job.f)


CLASS = "class C:\n    K = [1] * 2\n\n    def g(self):\n        return 1\n"


@pytest.mark.parametrize(
    "after",
    [CLASS, CLASS.replace("[1] * 2", "[1]*2  # twice"), CLASS + "\n\nclass D:\n    K = 1\n", CLASS.rstrip("\n")],
    ids=["touched", "formatted", "another class", "no last line end"],
)
@pytest.mark.parametrize("use", ["edited_conf.C.K[0]", "edited_conf.C().g()"])
def test_touching_formatting_and_other_edits_do_not_matter_to_a_class(modules: Modules, after: str, use: str) -> None:
    modules.load(CLASS)
    job = modules.load(JOB.format(use), "edited_job")
    task(job.f)
    modules.write(after)
    edited = task_code(job.f)
    modules.load(CLASS)
    assert task_code(modules.load(JOB.format(use), "edited_job").f) == edited


def test_a_touched_or_reformatted_module_that_is_used_as_a_whole_has_the_same_code(modules: Modules) -> None:
    modules.load("K = 1\ndef h(x):\n    return x\n")
    job = modules.load("import edited_conf as c\ndef f(x):\n    m = c\n    return m.h(x) + m.K\n", "edited_job")
    task(job.f)
    modules.write("K = 1  # one\ndef h(x):\n    return x\n")
    assert len(task_code(job.f)) == 40


@pytest.mark.parametrize("writes", [True, False])
def test_byte_code_of_an_older_file_that_cannot_be_replaced_is_no_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: bool
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    monkeypatch.syspath_prepend(tmp_path)
    modules = Modules(tmp_path)
    modules.load("class C:\n    K = [1] * 2\n")
    monkeypatch.setattr(sys, "dont_write_bytecode", not writes)
    if writes:
        monkeypatch.setattr(os, "access", lambda *_, **__: False)  # a folder that only its owner may write to
        monkeypatch.setattr("importlib._bootstrap_external.SourceFileLoader.set_data", lambda *_, **__: None)
    conf = modules.load("class C:\n    K = [7] * 2\n")
    assert conf.C.K == [7, 7]
    job = modules.load(JOB.format("edited_conf.C.K[0]"), "edited_job")
    assert len(task_code(job.f)) == 40


def test_modules_in_zip_files_and_without_source_are_never_taken_for_edited(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("edited_conf.py", "class C:\n    K = [1] * 2\n")
        archive.writestr("edited_job.py", JOB.format("edited_conf.C.K[0]"))
    program = "import edited_job\nfrom penstock.digests.sources import task_code\nprint(task_code(edited_job.f))"
    found = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(tmp_path / "all.zip")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert len(found.stdout.strip()) == 40


def test_lazy_modules_are_not_loaded_to_note_their_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lazy(ModuleType):
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(f"{name} was read")

    monkeypatch.setitem(sys.modules, "edited_lazy", Lazy("edited_lazy"))
    note_sources("edited_lazy")


# -- names bound again at run time

SETTINGS = (
    "LEVEL = 0\nTIMES = 60 * 60\nTABLE = {'a': 1}\nOPEN: int\nfrom os.path import join\ndef h(x):\n    return x\n"
)
USES = {
    "getattr": "import edited_conf as c\ndef f(x):\n    return getattr(c, 'NAME')\n",
    "a computed name": "import edited_conf as c\ndef f(x, name='NA' + 'ME'):\n    return getattr(c, name)\n",
    "vars": "import edited_conf as c\ndef f(x):\n    return vars(c)['NAME']\n",
    "an alias": "import edited_conf as c\ndef f(x):\n    m = c\n    return m.NAME\n",
    "an argument": "import edited_conf as c\ndef g(m):\n    return m.NAME\ndef f(x):\n    return g(c)\n",
    "a default": "import edited_conf as c\ndef f(x, m=c):\n    return m.NAME\n",
    "a container": "import edited_conf as c\nL = [c]\ndef f(x):\n    return L[0].NAME\n",
}


def _replacement(x: int) -> int:
    return x + 100


@pytest.mark.parametrize("modules", ["no byte code"], indirect=True)
@pytest.mark.parametrize(
    ("use", "name", "value"),
    [
        *((use, "LEVEL", 5) for use in USES),
        ("an alias", "LEVEL", False),
        ("an alias", "TIMES", 60),
        ("an alias", "TABLE", {"a": 2}),
        ("an alias", "OPEN", 1),
        ("an alias", "ADDED", 1),
        ("an alias", "h", _replacement),
        ("an alias", "h", len),
        ("an alias", "join", _replacement),
    ],
)
def test_what_the_program_sets_in_a_module_used_as_a_whole_counts(
    modules: Modules, use: str, name: str, value: Callable[..., Any] | int
) -> None:
    conf = modules.load(SETTINGS)
    job = modules.load(USES[use].replace("NAME", name), "edited_job")
    as_written = task_code(job.f)
    before = vars(conf).get(name)
    setattr(conf, name, value)
    assert task_code(job.f) != as_written
    if before is None:
        delattr(conf, name)
    else:
        setattr(conf, name, before)
    assert task_code(job.f) == as_written


@pytest.mark.parametrize("modules", ["no byte code"], indirect=True)
@pytest.mark.parametrize(
    ("text", "names"),
    [
        (SETTINGS, "h join LEVEL TABLE TIMES"),
        ("import os, os.path as p\nfrom os import *\n", "os p sep"),
        ("A, (B, *C) = 1, (2, 3)\nfor I in range(3): pass\n", "A B C I"),
        ("try:\n    from nowhere import h\nexcept ImportError:\n    def h(x): return x\n", "h"),
        ("X = 1\nX += 1\nif X:\n    Y = 2\nelse:\n    Y = 3\nwith open(__file__) as F: pass\n", "X Y F"),
        ("for n in 'ab':\n    globals()[n] = 1\n", "a b"),
        ("import functools\n@functools.cache\ndef h(x): return x\ndef d(x): return x\nd = functools.cache(d)\n", "h d"),
        ("import typing, enum\nclass N(typing.NamedTuple):\n    a: int\nclass E(enum.Enum):\n    A = 1\n", "N E"),
        ("match 1, 2:\n    case [a, *b]: pass\n    case c: pass\n", "a b"),
        ("def __getattr__(name):\n    globals()[name] = 1\n    return 1\n", "lazy"),
        ("import sys\nsys.modules[__name__].late = 1\n", "late"),
        ("N = float('nan')\nL = [1, len]\nD = dict(a=1)\nS = {1, 2}\nT = (1, 'a')\n", "N L D S T"),
        ("Z = -0.0\nU = not 1\nP = 2 ** 10\nR = [1] * 3\nif P == 1:\n    P = 1 / 0\n", "Z U P R"),
    ],
)  # fmt: skip
def test_a_module_that_is_as_its_source_says_has_no_names_set(modules: Modules, text: str, names: str) -> None:
    from penstock.digests.definitions.attached import attached, is_asked

    conf = modules.load(text)
    for name in names.split():
        getattr(conf, name)
    asked = frozenset(names.split())
    assert [name for name, _ in attached(conf, lambda _: True) if is_asked(name, conf, asked)] == []
