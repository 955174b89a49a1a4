"""Run the quick tests at other versions than those of the development environment.

    python -m tests.versions.quick lowest|latest [FOLDER]

`lowest` is the oldest Python with the lower bounds of pyproject.toml, `latest` a newer Python with the latest releases.
The environment is created in FOLDER (default: build/versions), or reused if it has the same versions. If there is no
such Python, nothing is tested and a message says so; in CI (CI=true or 1) that is a failure.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.versions.environments import LATEST_PYTHON, LOWEST_PYTHON, ROOT, environment, requirements

VERSIONS = {"lowest": LOWEST_PYTHON, "latest": LATEST_PYTHON}


def main(which: str, folder: Path, pytest: list[str]) -> int:
    try:
        python = environment(folder / which, VERSIONS[which], requirements(lowest=which == "lowest"))
    except FileNotFoundError as error:
        print(f"\n*** NOT TESTED at the {which} versions: {error} ***\n", file=sys.stderr)
        return 1 if os.environ.get("CI") in ("1", "true") else 0
    installs = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--editable"]
    subprocess.run([*installs, str(ROOT)], check=True)
    command = [str(python), "-m", "pytest", "-m", "not slow", "-p", "no:cacheprovider", *pytest]
    # mypy does not vary here; boto3 needs one version of botocore, and s3fs another
    command += ["--ignore=tests/test_typing.py", "--ignore=tests/storage/test_deadlines.py"]
    return subprocess.call(command, cwd=ROOT)


if __name__ == "__main__":
    if not sys.argv[1:] or sys.argv[1] not in VERSIONS:
        sys.exit(f"usage: python -m tests.versions.quick {'|'.join(VERSIONS)} [FOLDER [PYTEST OPTION …]]")
    where = Path(sys.argv[2]) if sys.argv[2:] else ROOT / "build" / "versions"
    sys.exit(main(sys.argv[1], where, sys.argv[3:]))
