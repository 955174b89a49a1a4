"""Which test runs which line, and how long it takes: a coverage context for each test.

As a pytest plugin (`-p tests.mutants.reach`) it names the contexts, also in processes that tests start.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import coverage
import pytest

from tests.mutants.changes import Change
from tests.mutants.sample import ROOMS, ROOT

FOLDER = ROOT / "build" / "mutants"
DATA = FOLDER / "reach"
TIMES = FOLDER / "times.json"
HELPING = 12
"""The number of tests tried first, which catch most mutants."""

SLOW_TOO = [
    "tests/locks/test_conformance.py",
    "tests/locks/test_redis_faults.py",
    "tests/locks/test_redis_model.py",
    "tests/locks/test_simulation.py",
    "tests/locks/test_table_simulation.py",
    "tests/storage/test_generations.py",
]
"""Whose slow tests run as well: what only a real Redis or many simulated worlds find."""

_times: dict[str, float] = defaultdict(float)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    running = coverage.Coverage.current()
    if running is None:
        return (yield)
    running.switch_context(item.nodeid)
    config = copy.copy(running.config)
    config.context = item.nodeid
    os.environ["COVERAGE_PROCESS_CONFIG"] = config.serialize()
    try:
        return (yield)
    finally:
        running.switch_context("")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _times[report.nodeid] += report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):
        known = json.loads(TIMES.read_text()) if TIMES.exists() else {}
        TIMES.write_text(json.dumps({**known, **_times}))


def measure(tests: list[str], processes: int) -> None:
    """Run tests and store what they reach. If tests are named, add to what is stored."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for left in FOLDER.glob("reach.*"):
        left.unlink()
    if not tests:
        DATA.unlink(missing_ok=True)
        TIMES.unlink(missing_ok=True)
    config = FOLDER / "coveragerc"
    included = "".join(f"\n    {ROOT / each}/*" for each in ROOMS)
    config.write_text(
        "[run]\nparallel = true\npatch = subprocess, _exit\ncore = ctrace\n"
        f"data_file = {DATA}\ninclude ={included}\ndisable_warnings = no-data-collected\n"
    )
    command = [
        sys.executable,
        "-m",
        "coverage",
        "run",
        f"--rcfile={config}",
        "-m",
        "pytest",
        "-p",
        "tests.mutants.reach",
    ]
    command += ["-q", "-p", "no:cacheprovider", "-n", str(processes)]
    for selected in [tests] if tests else [["-m", "not slow"], ["-m", "slow", *SLOW_TOO]]:
        # Tests that fail under tracing are kept: they count only if they pass without it.
        subprocess.run([*command, *selected], cwd=ROOT, env={**os.environ, "CI": "true"}, check=False)
    combine = [sys.executable, "-m", "coverage", "combine", f"--rcfile={config}", "--quiet"]
    subprocess.run([*combine, *(["--append"] if tests else [])], cwd=ROOT, check=True)


class Reach:
    """The tests to try for each of some mutants, the most promising first."""

    def __init__(self, sampled: Iterable[Change], seconds: float) -> None:
        self.times: dict[str, float] = json.loads(TIMES.read_text())
        self._seconds = seconds
        data = coverage.CoverageData(str(DATA))
        data.read()
        by_file = defaultdict(list)
        for change in sampled:
            by_file[change.file].append(change)
        self._tests: dict[Change, set[str]] = {}
        self._reached: Counter[str] = Counter()
        for file, its in by_file.items():
            lines = data.contexts_by_lineno(str(ROOT / file))
            anywhere = {test for tests in lines.values() for test in tests} - {""}
            for change in its:
                tests = {test for line in change.reached for test in lines.get(line, [])}
                # Code that runs on import concerns every user of the module.
                concerned = anywhere if "" in tests or not change.function else tests
                self._tests[change] = concerned & self.times.keys()
                self._reached.update(self._tests[change])

    def tests(self, change: Change) -> list[str]:
        """Return the tests, with quick ones that reach little first, as many as take `seconds` in total."""
        kin = _kin(change.file)

        def cost(test: str) -> float:
            return (self.times[test] + 0.02) * self._reached[test] * (1 if test.startswith(kin) else 8)

        chosen, left = [], self._seconds
        for test in sorted(self._tests[change], key=cost):
            left -= self.times[test]
            if chosen and left < 0:
                break
            chosen.append(test)
        return chosen

    def left_out(self, change: Change) -> int:
        return len(self._tests[change]) - len(self.tests(change))


def _kin(file: str) -> tuple[str, ...]:
    """Return the folder of a module's own tests."""
    room = Path(file).parts[1]
    return {"digests": ("tests/graph/",), "storage": ("tests/storage/",)}.get(room, (f"tests/{room}/",))
