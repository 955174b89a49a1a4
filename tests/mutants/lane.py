"""A copy of the tree with a warm process: each request is a mutant and its tests, which run in a fork.

The process imports the packages that tests use, but not Penstock, so that each fork imports the mutant. So do the
processes that tests start: the copy is their working folder and first on their PYTHONPATH.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.mutants.sample import ROOT

WARM = ["hypothesis", "numpy", "pandas", "pyarrow", "pyarrow.parquet", "pyarrow.dataset", "msgspec", "blake3"]
WARM += ["cloudpickle", "click", "rich", "rich.progress", "fsspec", "psutil", "asyncio"]
TEST_SECONDS = 30
"""A quick test that takes longer hangs, even on a busy machine."""


class Lane:
    """A client of a warm process in its own copy of the tree."""

    def __init__(self, tree: Path) -> None:
        _copy(tree)
        environment = {**os.environ, "PYTHONPATH": str(tree), "CI": "true"}
        command = [sys.executable, "-m", "tests.mutants.lane"]
        self._process = subprocess.Popen(
            command, cwd=tree, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, file: str, mutant: bytes | None, tests: list[str], seconds: float) -> dict[str, Any]:
        """Run tests against a mutant of a file, or the unchanged source, until one fails: `{"failed": …, "how": …}`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        text = None if mutant is None else mutant.decode()
        request = {"file": file, "mutant": text, "tests": tests, "seconds": seconds}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _copy(tree: Path) -> None:
    """Copy all files that git tracks or would add, as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    subprocess.run(["rm", "-rf", str(tree)], check=True)
    tree.mkdir(parents=True)
    files = [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    copy = ["cp", "--parents", "-p", "-t", str(tree), *files]
    subprocess.run(copy, cwd=ROOT, check=True)


class _Recorder:
    """Record the first test that fails, and do not shrink its example."""

    def __init__(self) -> None:
        self.failed: str | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self) -> None:
        import hypothesis

        phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
        base = hypothesis.settings.get_profile("penstock")
        hypothesis.settings.register_profile("mutants", base, phases=phases, database=None)
        hypothesis.settings.load_profile("mutants")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self.failed is None:
            self.failed = report.nodeid


def _answer(request: dict[str, Any], stamp: int) -> dict[str, Any]:
    path = Path(request["file"])
    before, times = path.read_bytes(), path.stat()
    if request["mutant"] is not None:
        path.write_text(request["mutant"], encoding="utf-8")
        os.utime(path, (stamp, stamp))  # never the byte code of another mutant: it is cached by time and size
    try:
        return _forked(request["tests"], request["seconds"])
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _forked(tests: list[str], seconds: float) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.close(reading)
        log = os.open("lane.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, target in ((0, nothing), (1, log), (2, log)):
            os.dup2(target, number)
        recorder = _Recorder()
        # Assertions of loaded modules cannot be rewritten; the warning about it would be an error here.
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--timeout={TEST_SECONDS}"]
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        code = 99
        try:
            code = int(pytest.main([*options, *tests], plugins=[recorder]))
        finally:
            os.write(writing, json.dumps({"code": code, "failed": recorder.failed}).encode())
            os._exit(0)
    os.close(writing)
    ready, _, _ = select.select([reading], [], [], seconds)
    said = os.read(reading, 10_000) if ready else b""
    os.close(reading)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if not said:
        return {"failed": None, "how": "hung" if not ready else "died"}
    heard = json.loads(said)
    how = {0: "passed", 1: "failed", 4: "not collected", 5: "no such test"}.get(heard["code"], "broken")
    return {"failed": heard["failed"], "how": how}


def main() -> None:
    for name in WARM:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    began = int(time.time())
    for count, line in enumerate(sys.stdin, 1):
        print(json.dumps(_answer(json.loads(line), began - 10_000_000 + count)), flush=True)


if __name__ == "__main__":
    main()
