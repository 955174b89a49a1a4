"""Fixtures of regression tests: a record of what ran in any process, project folders to edit, runners."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def note(tmp_path: Path) -> Callable[[object], None]:
    """Record that a task runs, in whatever process that is."""
    path = str(tmp_path / "ran.txt")

    def note(what: object) -> None:
        with open(path, "a") as file:
            file.write(f"{what}\n")

    return note


@pytest.fixture
def ran(tmp_path: Path) -> Callable[[], list[str]]:
    """Return what was recorded since the last call."""
    path = tmp_path / "ran.txt"

    def ran() -> list[str]:
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    return ran


@pytest.fixture(params=["threads", pytest.param("processes", marks=pytest.mark.slow)])
def runner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each local runner in turn, chosen in the settings."""
    monkeypatch.setenv("PENSTOCK_RUNNER", f"{request.param}?workers=2")
    return request.param


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModuleType]]:
    """Write modules and import the first one. A second call gives the project after an edit."""
    before = set(sys.modules)
    versions = iter(range(1000))

    def forget() -> None:
        for name in set(sys.modules) - before:
            if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]

    def write(**files: str) -> ModuleType:
        forget()
        folder = tmp_path / f"version-{next(versions)}"
        folder.mkdir()
        for name, text in files.items():
            (folder / f"{name}.py").write_text(textwrap.dedent(text))
        monkeypatch.syspath_prepend(folder)
        importlib.invalidate_caches()
        return importlib.import_module(next(iter(files)))

    yield write
    forget()
