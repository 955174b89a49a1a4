"""The public API. A change to it shows up as a change to these lists, for reviewers to see."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import penstock

NAMES = [
    "DEFAULT",
    "FLOW_PARAMETERS",
    "INPUTS",
    "NO_CACHE",
    "RUN_ID",
    "TASK_CODE",
    "TASK_SOURCE",
    "CacheKey",
    "CacheKeyFnPolicy",
    "CachePolicy",
    "Environment",
    "Files",
    "Flow",
    "Future",
    "IsolationLevel",
    "Plan",
    "Run",
    "Settings",
    "StoredResult",
    "Task",
    "TaskRunContext",
    "exponential_backoff",
    "flow",
    "get_run_logger",
    "load_settings",
    "register_digest",
    "stored",
    "task",
    "task_input_hash",
    "unmapped",
    "wait",
]


def test_the_public_names_are_these() -> None:
    assert sorted(penstock.__all__) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_public_name_exists_and_is_documented(name: str) -> None:
    value = getattr(penstock, name)
    assert name in dir(penstock)
    assert type(value).__doc__ or value.__doc__


def test_submodules_are_attributes_of_the_package() -> None:
    code = "import penstock; penstock.runtime.flow_run; penstock.runners.ThreadRunner; penstock.errors.PenstockError"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'tusk'"):
        _ = penstock.tusk  # type: ignore[attr-defined]


def test_using_flows_and_tasks_imports_no_heavy_package() -> None:
    heavy = ("dask", "ray", "redis", "pyarrow", "pandas", "numpy", "polars", "pydantic", "rich", "click", "asyncio")
    code = f"import sys; from penstock import flow, task; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


ON_USE = (
    "concurrent.futures.thread",
    "ctypes",
    "difflib",
    "email",
    "glob",
    "hashlib",
    "importlib.metadata",
    "mmap",
    "multiprocessing",
    "socket",
    "ssl",
    "tempfile",
    "urllib.request",
    "zipfile",
    "penstock.cli",
    "penstock.explanations",
    "penstock.digests.numpy",
    "penstock.digests.arrow",
    "penstock.digests.dask_collections",
    "penstock.graph.explained",
    "penstock.digests.frames",
    "penstock.digests.package_types",
    "penstock.graph.plans",
    "penstock.digests.polars",
    "penstock.locks.epochs",
    "penstock.locks.filesystem",
    "penstock.locks.folders",
    "penstock.locks.memory",
    "penstock.locks.redis.manager",
    "penstock.redis.address",
    "penstock.locks.slots",
    "penstock.locks.storage",
    "penstock.locks.tables",
    "penstock.previews",
    "penstock.storage.formats.arrow.schemas",
    "penstock.storage.formats.registry",
    "penstock.storage.formats.classes",
    "penstock.storage.formats.containers",
    "penstock.storage.formats.parts.datasets",
    "penstock.storage.formats.frames",
    "penstock.storage.formats.arrow.parquet",
    "penstock.storage.formats.parts.manifests",
    "penstock.storage.formats.path_results",
    "penstock.storage.results.payloads",
    "penstock.storage.formats.pickles",
    "penstock.storage.formats.typed.sameness",
    "penstock.storage.formats.typed.json",
)
"""What is imported by those who use it: the start of every program would pay for it otherwise."""


def test_using_flows_and_tasks_imports_nothing_that_only_some_runs_need() -> None:
    code = (  # Python 3.13's pathlib imports `glob`
        "import sys, pathlib; before = set(sys.modules); from penstock import flow, task; "
        f"print(*[m for m in {ON_USE} if m in sys.modules and m not in before])"
    )
    # Not under `make coverage`, which starts before the program and has imports of its own.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.split() == []


def test_lazily_imported_names_are_those_of_this_list() -> None:
    assert [name for name in ON_USE if importlib.util.find_spec(name) is None] == []


PATHS = [
    "penstock.errors.PenstockError",
    "penstock.flows.Flow",
    "penstock.locks.FileSystemLockManager",
    "penstock.locks.LockManager",
    "penstock.locks.MemoryLockManager",
    "penstock.locks.RedisLockManager",
    "penstock.locks.StorageLockManager",
    "penstock.runners.DaskRunner",
    "penstock.runners.ProcessRunner",
    "penstock.runners.RayRunner",
    "penstock.runners.Runner",
    "penstock.runners.ThreadRunner",
    "penstock.runtime.flow_run",
    "penstock.runtime.task_run",
    "penstock.storage.LocalStore",
    "penstock.storage.MemoryStore",
    "penstock.storage.Store",
    "penstock.storage.open_store",
    "penstock.testing.locks.LockManagerTests",
    "penstock.testing.runners.RunnerTests",
    "penstock.testing.stores.StoreTests",
    "penstock.transactions.IsolationLevel",
]
"""Where users import from, beside `penstock` itself: wherever our files lie, these stay."""


@pytest.mark.parametrize("path", PATHS)
def test_each_public_path_resolves(path: str) -> None:
    module, _, name = path.rpartition(".")
    assert hasattr(importlib.import_module(module), name)


def _shown() -> list[tuple[str, str, str]]:
    """Return page, module and name of every import from Penstock in the documentation's examples."""
    root = Path(__file__).parent.parent
    pages = [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").glob("*.md"))]
    found = set()
    for page in pages:
        for block in re.findall(r"```python[^\n]*\n(.*?)```", page.read_text() if page.exists() else "", re.S):
            for statement in re.findall(r"^[ ]*from penstock(?:[.][\w.]+)? import (?:\([^)]*\)|[^\n]*)", block, re.M):
                node = ast.parse(textwrap.dedent(statement)).body[0]
                assert isinstance(node, ast.ImportFrom)
                found.update((page.name, node.module or "", alias.name) for alias in node.names)
    return sorted(found)


@pytest.mark.skipif(os.environ.get("PENSTOCK_CORE_ONLY") == "1", reason="the documentation is not beside these tests")
def test_each_import_in_the_documentation_works() -> None:
    shown = _shown()
    assert len(shown) > 10
    absent = [each for each in shown if not _offers(each[1], each[2])]
    assert absent == []


def _offers(module: str, name: str) -> bool:
    if hasattr(importlib.import_module(module), name):
        return True
    return importlib.util.find_spec(f"{module}.{name}") is not None
