"""Build the package that CONTRIBUTING.md shows from that page, and run the suites that it names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

BLOCK = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```', re.DOTALL | re.MULTILINE)
PAGE = Path(__file__).resolve().parent.parent / "CONTRIBUTING.md"
pytestmark = [
    pytest.mark.skipif(not PAGE.exists(), reason="an installed wheel has no documentation"),
    pytest.mark.slow,
    pytest.mark.untraced,
]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to import the package from, with its entry points as an installer writes them."""
    folder = tmp_path_factory.mktemp("extras")
    for title, text in re.findall(
        r'^```\w+ title="([^"]+)"\n(.*?)^```', PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    ):
        path = folder / title
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "penstock_extras" / "__init__.py").touch()
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    (folder / "pyproject.toml").unlink()
    installed = folder / f"penstock_extras-{project['version']}.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (installed / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


def outcome_of(package: Path, names: str) -> str:
    """Run some of the package's tests and return what pytest prints; fail unless all pass."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "penstock_extras/test_extras.py", "-k", names],
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "suite",
    [
        "TestSqliteStore",
        "TestSqliteLockManager",
        "TestPlainRunner",
        pytest.param("TestBatchRunner", marks=pytest.mark.in_ci),  # starts a process for each bundle
    ],
)
def test_the_example_parts_pass_their_suites(package: Path, suite: str) -> None:
    assert " passed" in outcome_of(package, suite)


def test_a_flow_uses_the_parts_of_another_package_by_address(package: Path) -> None:
    assert "1 passed" in outcome_of(package, "test_a_flow_uses_them_by_their_addresses")
