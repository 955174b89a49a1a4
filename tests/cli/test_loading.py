"""`FILE_OR_MODULE:FLOW`: what it finds, and the errors for what it does not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from penstock.cli.loading import load_flow
from penstock.errors import FlowImportError

ONE = "from penstock import flow\n\n@flow\ndef only() -> int:\n    return 1\n"
TWO = ONE + "\n@flow\ndef other() -> int:\n    return 2\n"


def test_a_file_is_imported_under_its_name_in_its_own_folder(write, folder: Path) -> None:
    write("below/single_named.py", ONE)
    loaded = load_flow("below/single_named.py:only")
    assert loaded.fn.__module__ == "single_named"
    assert sys.modules["single_named"].only is loaded  # type: ignore[attr-defined]
    assert sys.path[0] == str(folder / "below")


def test_a_file_finds_the_modules_beside_it(write) -> None:
    write("below/helping_module.py", "VALUE = 7\n")
    write("below/helped.py", "from helping_module import VALUE\n" + ONE)
    assert load_flow("below/helped.py:only").name == "only"


def test_a_module_is_found_from_the_working_folder(write) -> None:
    write("packaged_flows/__init__.py", "")
    write("packaged_flows/inner.py", ONE)
    assert load_flow("packaged_flows.inner:only").fn.__module__ == "packaged_flows.inner"


def test_the_init_file_of_a_package_is_the_package(write) -> None:
    write("whole_package/__init__.py", "from .part import VALUE\n" + ONE)
    write("whole_package/part.py", "VALUE = 1\n")
    assert load_flow("whole_package/__init__.py:only").fn.__module__ == "whole_package"


def test_loading_twice_imports_once(write) -> None:
    write("imported_once.py", ONE)
    assert load_flow("imported_once.py:only") is load_flow("imported_once:only")


@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize("line", ["from dist_flows.part import VALUE\n", "from .part import VALUE\n"])
def test_the_error_for_a_file_that_needs_its_package_names_the_module(write, line: str, made: bool) -> None:
    if made:
        write("dist_flows/__init__.py", "")
    write("dist_flows/part.py", "VALUE = 1\n")
    write("dist_flows/whole.py", line + ONE)
    with pytest.raises(FlowImportError) as caught:
        load_flow("dist_flows/whole.py:only")
    assert caught.value.hint == "it is part of a package: name it by its module, dist_flows.whole:only"
    assert load_flow("dist_flows.whole:only").name == "only"


def test_the_only_flow_need_not_be_named(write) -> None:
    write("with_one.py", "from with_two import other\n" + ONE)
    write("with_two.py", TWO)
    assert load_flow("with_one.py").name == "only"


def test_a_flow_must_be_named_if_there_are_several(write) -> None:
    write("with_both.py", TWO)
    with pytest.raises(FlowImportError) as caught:
        load_flow("with_both.py")
    assert "with_both.py:only, with_both.py:other" in caught.value.hint


def test_a_flow_in_a_namespace_is_found_by_its_dotted_name(write) -> None:
    write("spaced.py", ONE + "\nclass Flows:\n    inner = only\n")
    assert load_flow("spaced.py:Flows.inner").name == "only"


@pytest.mark.parametrize(
    ("target", "what", "hint"),
    [
        ("flows_here.py:onyl", "no flow onyl", "flows_here.py:only"),
        ("flows_here.py:zzz", "no flow zzz", "only, other"),
        ("flows_here.py:plain", "plain is not a flow", "@flow"),
        ("flows_her.py:only", "no file", "flows_here.py"),
        ("nowhere/flows_here.py:only", "no file", ""),
        ("flows_there:only", "no module flows_there", "FILE.py:FLOW"),
        (":only", "names no flow", "FILE.py:FLOW"),
        ("flows_here.py:", "names no flow", "FILE.py:FLOW"),
        ("empty_here.py", "no flow", "@flow"),
        ("json.py:only", "cannot be imported as json", "another name"),
        (".", "no file", ""),
    ],
)
def test_the_error_for_something_missing_says_what_to_do(write, target: str, what: str, hint: str) -> None:
    write("flows_here.py", TWO + "\ndef plain():\n    return 3\n")
    write("empty_here.py", "")
    write("json.py", ONE)
    with pytest.raises(FlowImportError) as caught:
        load_flow(target)
    assert what in caught.value.what
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "where", "because", "hint"),
    [
        ("import penstock\n\nVALUE = 1 / 0\n", ":3", "ZeroDivisionError: division by zero", ""),
        ("def broken(:\n", ":1", "SyntaxError: ", "correct this line"),
        ("import json\n\njson.loads('{')\n", ":3", "JSONDecodeError: ", ""),
        ("import surely_not_installed.part\n", ":1", "ModuleNotFoundError: ", "install surely_not_installed"),
        ("raise SystemExit(3)\n", ":1", "SystemExit: 3", "__main__"),
    ],
)
def test_the_error_for_a_file_that_fails_to_import_names_the_line(
    write, text: str, where: str, because: str, hint: str
) -> None:
    path = write("does_not_import.py", text)
    with pytest.raises(FlowImportError) as caught:
        load_flow("does_not_import.py:only")
    assert caught.value.where == f"{path}{where}"
    assert because in caught.value.because
    assert hint in caught.value.hint
    assert "does_not_import" not in sys.modules


def test_the_error_for_a_module_that_fails_to_import_names_the_line(write) -> None:
    path = write("fails_inside.py", "import also_not_installed\n")
    with pytest.raises(FlowImportError) as caught:
        load_flow("fails_inside:only")
    assert caught.value.where == f"{path}:1"


def test_a_file_of_a_package_must_be_named_by_its_module(write, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("relative_flows/__init__.py", "")
    write("relative_flows/part.py", "from .nothing import x\n" + ONE)
    with pytest.raises(FlowImportError) as caught:
        load_flow("relative_flows/part.py:only")
    assert caught.value.hint.endswith("relative_flows.part:only")
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    with pytest.raises(FlowImportError) as caught:
        load_flow("../relative_flows/part.py:only")
    assert caught.value.hint.endswith(f"relative_flows.part:only (from {folder})")


def test_a_mistake_in_a_task_keeps_its_own_hint(write, call) -> None:
    write("mistaken.py", "from penstock import task\n\n@task(cache_key_fn=lambda one: one)\ndef f(x):\n    return x\n")
    said = call("run", "mistaken.py").stderr
    assert "because: cache_key_fn cannot be <lambda>: too many positional arguments\n" in said
    assert "hint: define it as fn(context, parameters)\n" in said
    assert said.count("hint:") == 1
