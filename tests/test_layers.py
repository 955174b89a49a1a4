"""The layers of ARCHITECTURE.md, checked by import-linter with the contracts in pyproject.toml."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import penstock

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"

linted = pytest.mark.needs("importlinter")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Return what import-linter prints about the package `penstock` in `folder`."""
    program = "from importlinter.cli import lint_imports_command as main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache", "--config", str(PYPROJECT)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with a copy of the package to break."""
    source = Path(penstock.__file__).parent
    shutil.copytree(source, tmp_path / "penstock", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def append(file: Path, line: str) -> None:
    file.write_text(f"{file.read_text()}\n{line}\n")


@linted
@pytest.mark.slow
def test_every_contract_is_kept() -> None:
    answer = lint(Path(penstock.__file__).parent.parent)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@linted
@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("storage/stores/base.py", "import penstock.locks.base", "Imports only point downwards"),
        ("graph/graphs.py", "import penstock.storage.stores.base", "Imports only point downwards"),
        ("locks/base.py", "import penstock.locks.memory", "No cycle anywhere"),
        ("graph/graphs.py", "import threading", "The graph and digests are pure"),
        ("runners/base.py", "def _():\n    import dask", "Engines and services"),
        ("storage/stores/base.py", "import penstock.storage.records.names", "Results know formats"),
        ("runners/ray/capacity.py", "import penstock.runners.dask.capacity", "Engines know nothing"),
        ("runners/remote/machines.py", "import penstock.runners.local.threads", "What engines for clusters share"),
        ("driver/loop.py", "import penstock.runners.prefetch", "The driver knows what an engine is"),
    ],
)
def test_an_import_against_the_layers_is_caught(copy: Path, module: str, line: str, contract: str) -> None:
    append(copy / "penstock" / module, line)
    answer = lint(copy)
    assert answer.returncode == 1
    broken = [said for said in answer.stdout.splitlines() if " BROKEN" in said]
    assert any(said.startswith(contract) for said in broken), answer.stdout + answer.stderr


@linted
@pytest.mark.slow
def test_a_module_outside_the_layers_is_caught(copy: Path) -> None:
    (copy / "penstock" / "homeless.py").write_text('"""Nobody said where this belongs."""\n')
    assert "homeless" in lint(copy).stdout


@pytest.mark.skipif(os.environ.get("PENSTOCK_CORE_ONLY") == "1", reason="the documentation is not beside these tests")
def test_the_architecture_page_draws_the_layers_of_the_contract() -> None:
    contracts = tomllib.loads(PYPROJECT.read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each["id"] == "layers")
    table = (PYPROJECT.parent / "ARCHITECTURE.md").read_text().partition("| layer |")[2].partition("\n\n")[0]
    rows = [row.replace("\\|", "").partition(" | ")[0] for row in table.splitlines()[2:]]
    assert [re.findall(r"`(\w+)`", row) for row in rows] == [re.findall(r"\w+", layer) for layer in layers]
