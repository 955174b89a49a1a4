"""Which tests run which line, and how long each takes: a run of tests with a coverage context for each.

As a pytest plugin (`-p tests.mutants.reach`) it names the contexts, those of processes that tests start included.
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
"""So many tests are tried first: most mutants fall to one of them."""

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
    """Run tests and keep what they reach; beside what is known already if some are named."""
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
        # A test that fails while it is traced is left in: it proves something only if it passes untraced.
        subprocess.run([*command, *selected], cwd=ROOT, env={**os.environ, "CI": "true"}, check=False)
    combine = [sys.executable, "-m", "coverage", "combine", f"--rcfile={config}", "--quiet"]
    subprocess.run([*combine, *(["--append"] if tests else [])], cwd=ROOT, check=True)


class Reach:
    """The tests to try for each of some mutants, the most telling first."""

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
                # What runs when a module is imported concerns whoever uses the module.
                concerned = anywhere if tests <= {""} and (tests or not change.function) else tests
                self._tests[change] = concerned & self.times.keys()
                self._reached.update(self._tests[change])

    def tests(self, change: Change) -> list[str]:
        """Quick tests that reach little come first; as many as take `seconds` in all."""
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
    """Where the tests of a module are."""
    room = Path(file).parts[1]
    return {"digests": ("tests/graph/",), "storage": ("tests/storage/",)}.get(room, (f"tests/{room}/",))
