"""Programs from Debian and Ubuntu packages, downloaded and unpacked once per machine, without root or installation.

    from tests.servers.packages import unpacked

    redis = unpacked("redis-server")
    process = subprocess.Popen([redis.program("redis-server"), ...], env=redis.environment())

`unpacked` accepts any packages, adds the dependencies that this machine lacks, and returns at once if that was done
before. It works for root and other users, and from any number of processes at once. If the packages are unavailable, it
raises `Unavailable`. Fixtures call `unpacked_or_failed`, which then fails the test, or skips it on a developer's macOS.

Files are in `$XDG_CACHE_HOME/penstock-tests` or `~/.cache/penstock-tests`; delete that folder to download them again.
`python -m tests.servers.packages redis-server` downloads ahead of the tests, which have a time limit.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


class Unavailable(Exception):
    """The packages are not available on this machine; the message says why in one sentence."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """Packages in their own folder, laid out as below `/`."""

    folder: Path

    def program(self, name: str) -> str:
        """Return the path of a program of these packages, or of the installed one."""
        for place in ("usr/bin", "usr/sbin", "usr/local/bin", "bin", "sbin"):
            if (self.folder / place / name).exists():
                return str(self.folder / place / name)
        installed = shutil.which(name)
        if installed is None:
            raise Unavailable(f"there is no program {name} in the packages in {self.folder}")
        return installed

    def libraries(self) -> list[Path]:
        """Return the folders of shared libraries."""
        triplet = f"{platform.machine()}-linux-gnu"
        return [
            self.folder / place / triplet for place in ("usr/lib", "lib") if (self.folder / place / triplet).is_dir()
        ]

    def environment(self, *libraries: Path) -> dict[str, str]:
        """Return the variables that these programs need to find their libraries, also in these folders, and PATH."""
        paths = ":".join(map(str, [*self.libraries(), *libraries]))
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "LD_LIBRARY_PATH": paths}


def unpacked_or_failed(*packages: str) -> Unpacked:
    """Like `unpacked`, for fixtures: fail the test if that is impossible, or skip it on a Mac outside CI."""
    try:
        return unpacked(*packages)
    except Unavailable as error:
        if sys.platform == "darwin" and os.environ.get("CI") != "true":
            pytest.skip(str(error))
        pytest.fail(str(error), pytrace=False)


def unpacked(*packages: str) -> Unpacked:
    """Return these packages and their dependencies, in a folder. Raise `Unavailable` if that is impossible."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise Unavailable(f"{', '.join(packages)} comes from Debian or Ubuntu packages, and this system has no apt-get")
    cache = _cache()
    # The packages needed depend on the release and on what is installed.
    release = " ".join(_told(Path("/etc/os-release"), name) for name in ("ID", "VERSION_ID"))
    name = hashlib.sha256(" ".join([release, platform.machine(), *sorted(packages)]).encode()).hexdigest()[:12]
    folder = cache / f"{packages[0]}-{name}"
    with _alone(cache / f"{folder.name}.lock"):
        if not folder.exists():
            _fetch(cache, folder, packages)
    return Unpacked(folder)


def _cache() -> Path:
    """Return a folder that is kept from run to run, if this user has one."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penstock-tests"
    try:
        home.mkdir(parents=True, exist_ok=True)
        if os.access(home, os.W_OK):
            return home
    except OSError:
        pass  # a user without a home
    cache = Path(tempfile.gettempdir()) / f"penstock-tests-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    if cache.stat().st_uid != os.getuid():
        raise Unavailable(f"{cache} is another user's, and nothing in it would be run")
    return cache


def _told(file: Path, name: str) -> str:
    found = re.search(rf'^{name}="?([^"\n]*)', file.read_text(), re.MULTILINE) if file.exists() else None
    return found.group(1) if found else ""


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process is in this block. The lock ends with the process that holds it."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(cache: Path, folder: Path, packages: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(dir=cache, prefix="unfinished-") as place:
        files, whole = Path(place, "files"), Path(place, "whole")
        _download(cache, files, packages)
        for file in sorted(files.glob("*.deb")):
            _run(["dpkg", "-x", str(file), str(whole)])
        whole.rename(folder)


def _download(cache: Path, files: Path, packages: Sequence[str]) -> None:
    """Try with the package lists of this system, then with new ones."""
    try:
        return _download_with([], files, packages)
    except Unavailable:
        own = cache / "apt"
    for name in ("lists/partial", "cache/archives/partial"):
        (own / name).mkdir(parents=True, exist_ok=True)
    options = [f"Dir::State::Lists={own}/lists", f"Dir::Cache={own}/cache"]
    with _alone(cache / "apt.lock"):
        _apt(options, "update")
        _download_with(options, files, packages)


def _download_with(options: Sequence[str], files: Path, packages: Sequence[str]) -> None:
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir()
    plan = _apt(options, "install", "--simulate", "--no-install-recommends", *packages)
    # The plan omits what is installed, but the requested packages are needed here in any case.
    names = {line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")}
    _apt(options, "download", *sorted(names | set(packages)), folder=files)


def _apt(options: Sequence[str], *words: str, folder: Path | None = None) -> str:
    settings = ["APT::Sandbox::User=root", "Acquire::Retries=3", "Debug::NoLocking=1", *options]
    return _run(["apt-get", "-q", *(part for each in settings for part in ("-o", each)), *words], folder)


def _run(command: Sequence[str], folder: Path | None = None) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=600, env={**os.environ, "LC_ALL": "C"}
    )
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())[-400:]
        raise Unavailable(f"`{' '.join(command[:1] + [w for w in command if w in _VERBS])}` failed: {said}")
    return done.stdout


_VERBS = ("install", "download", "update", "-x")


if __name__ == "__main__":
    try:
        print(unpacked(*sys.argv[1:]).folder)
    except Unavailable as error:
        sys.exit(str(error))
