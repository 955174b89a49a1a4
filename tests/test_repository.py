"""Promises of the package and its repository: the content of a wheel, the cost of an import, the form of files."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import penstock

ROOT = Path(__file__).parent.parent
PACKAGE = Path(penstock.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

HEAVY = ["pyarrow", "pandas", "polars", "numpy", "pydantic", "dask", "distributed", "ray", "redis", "s3fs", "sklearn"]
TEXT = {".py", ".md", ".toml", ".yml", ".yaml", ".cfg", ".txt", ".html", ".json", ""}


def test_import_penstock_imports_no_heavy_package() -> None:
    program = f"import sys, penstock; print(*sorted(set({HEAVY}) & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == []


def test_the_installed_version_is_that_of_the_package() -> None:
    assert importlib.metadata.version("penstock") == penstock.__version__


def test_every_module_starts_with_its_purpose() -> None:
    beginnings = {path: (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")[0] for path in MODULES}
    assert [str(path) for path, text in beginnings.items() if not re.search(r"[.:?](\s|$)", text)] == []


def test_every_folder_of_modules_is_a_package() -> None:
    # A folder without __init__.py is ignored by the layer contracts and by the type checker.
    assert [str(path.parent) for path in MODULES if not (path.parent / "__init__.py").exists()] == []


def test_modules_and_packages_are_small_enough_to_read() -> None:
    for folder in {module.parent for module in MODULES}:
        modules = list(folder.glob("*.py"))
        assert len(modules) <= 20, folder
        for module in modules:
            lines = len(module.read_text(encoding="utf-8").splitlines())
            assert lines <= (300 if "driver" in module.parts else 400), module


@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_an_engine_holds_only_its_own_code(engine: str) -> None:
    modules = (PACKAGE / "runners" / engine).rglob("*.py")
    assert sum(len(module.read_text(encoding="utf-8").splitlines()) for module in modules) < 1_000


def test_every_requirement_has_a_lower_bound_and_no_upper_bound() -> None:
    # Without lower bounds, a resolver may pick versions of ten years ago; with upper bounds, others cannot install us.
    project = PROJECT["project"]
    lists = [
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *PROJECT["dependency-groups"].values(),
    ]
    wanted = {each for one in lists for each in one if isinstance(each, str) and not each.startswith("penstock[")}
    assert [each for each in sorted(wanted) if not re.fullmatch(r"[a-z0-9-]+(\[[a-z,]+\])?>=[0-9.]+", each)] == []


def test_the_extra_all_holds_every_other_extra() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    assert set(re.split(r"[\[\],]", everything)) - {"penstock", ""} == set(extras) - {"all"}


def test_no_file_contains_a_path_of_somebodys_machine() -> None:
    private = re.compile(rf"{re.escape(str(ROOT))}\b|/(?:home|Users)/(?!me/|you/|user/)\w+/")
    found = []
    for path in sorted(ROOT.rglob("*")):
        inside = path.relative_to(ROOT)
        hidden = any(part.startswith(".") and part != ".ci" for part in inside.parts)
        if hidden or inside.parts[0] in ("build", "dist", "venv") or path.suffix not in TEXT or not path.is_file():
            continue
        found += [f"{inside}: {match[0]}" for match in private.finditer(path.read_text(errors="replace"))]
    assert found == []


@pytest.mark.slow
@pytest.mark.needs("hatchling")
def test_the_wheel_holds_every_module_its_licence_and_py_typed(tmp_path: Path) -> None:
    if not (ROOT / "penstock").is_dir():
        pytest.skip("there is no source tree beside the tests")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT, check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    in_package = {name for name in names if not name.startswith(f"penstock-{penstock.__version__}.dist-info/")}
    source = ROOT / "penstock"
    modules = {path.relative_to(ROOT).as_posix() for path in source.rglob("*.py")}
    assert {name for name in in_package if name.endswith(".py")} == modules
    assert "penstock/py.typed" in names
    assert f"penstock-{penstock.__version__}.dist-info/licenses/LICENSE" in names
    assert all(name.startswith("penstock/") for name in in_package)


def test_no_module_uses_the_random_numbers_of_the_program() -> None:
    # `random.random()` and its siblings share one generator, which users seed.
    drawing = re.compile(r"\brandom\.(?!Random\b|SystemRandom\b)[a-z]\w*\(")
    found = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for file in (ROOT / "penstock").rglob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if drawing.search(line) and not line.strip().startswith(("#", '"'))
    ]
    assert [line for line in found if "/testing/" not in line] == []
