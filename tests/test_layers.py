"""The layers of ARCHITECTURE.md, as import-linter holds them by the contracts in pyproject.toml."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import penstock

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"

pytestmark = [pytest.mark.needs("importlinter"), pytest.mark.slow]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """What import-linter says about the package `penstock` in `folder`."""
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
    """A folder with a copy of the package, to be spoilt."""
    source = Path(penstock.__file__).parent
    shutil.copytree(source, tmp_path / "penstock", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def append(file: Path, line: str) -> None:
    file.write_text(f"{file.read_text()}\n{line}\n")


def test_every_contract_is_kept() -> None:
    answer = lint(Path(penstock.__file__).parent.parent)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("storage/stores.py", "import penstock.locks.base", "Imports only go down"),
        ("graph/graphs.py", "import penstock.storage.stores", "Imports only go down"),
        ("locks/base.py", "import penstock.locks.memory", "No cycle anywhere"),
        ("graph/graphs.py", "import threading", "The graph is pure"),
        ("runners/base.py", "def _():\n    import dask", "Engines and services"),
    ],
)
def test_a_spoilt_layer_is_caught(copy: Path, module: str, line: str, contract: str) -> None:
    append(copy / "penstock" / module, line)
    answer = lint(copy)
    assert answer.returncode == 1
    broken = [said for said in answer.stdout.splitlines() if " BROKEN" in said]
    assert any(said.startswith(contract) for said in broken), answer.stdout + answer.stderr


def test_a_module_without_a_place_in_the_layers_is_caught(copy: Path) -> None:
    (copy / "penstock" / "homeless.py").write_text('"""Nobody said where this belongs."""\n')
    assert "homeless" in lint(copy).stdout
