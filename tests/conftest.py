"""Rules for every test: a home of its own, and no missing package goes unnoticed.

Tests that use more than Penstock's core dependencies are marked `@pytest.mark.needs("pandas", "polars")` or call
`pytest.importorskip`. In a full environment, a missing package *fails* them: a run that skips half of its tests is not
green. With `PENSTOCK_CORE_ONLY=1` (`make core`) only the core is installed, and they are skipped.
"""

from __future__ import annotations

import gc
import importlib.util
import itertools
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import pytest

pytest_plugins = ["tests.servers.fixtures", "tests.servers.rays"]  # servers that start when a test requests them
pytest.register_assert_rewrite("penstock.testing")  # failed assertions of a shipped suite show their values

# Tests run beside each other, and threads of OpenMP spin while they wait for work. Programs of tests inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")

CORE_ONLY = os.environ.get("PENSTOCK_CORE_ONLY") == "1"

# Hypothesis examples have no deadline on a busy machine. CI tries the same examples each time, so that a failure is
# caused by the change under test. Elsewhere each run tries new ones.
hypothesis.settings.register_profile(
    "penstock",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=os.environ.get("CI") == "true",
)
hypothesis.settings.load_profile("penstock")


def pytest_report_header() -> str:
    same = os.environ.get("CI") == "true"
    return "random examples: " + ("the same each time (CI=true)" if same else "new ones in each run")


_homes = itertools.count()


@pytest.fixture(scope="session")
def _homes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("homes")


@pytest.fixture(autouse=True)
def _own_home(_homes_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests, and the processes they start, away from the settings and the store of the user who runs them."""
    for name in list(os.environ):
        if name.startswith("PENSTOCK_") and name != "PENSTOCK_CORE_ONLY":
            monkeypatch.delenv(name)
    monkeypatch.setenv("PENSTOCK_HOME", str(_homes_folder / str(next(_homes))))


@pytest.fixture(autouse=True)
def _no_modules_left(_homes_folder: Path) -> Generator[None]:
    """Forget the modules that a test has imported from temporary folders, and these folders, which all imports read."""
    before = set(sys.modules)
    yield
    temporary = str(_homes_folder.parent)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(temporary):
            del sys.modules[name]
    for path in [path for path in sys.path_importer_cache if path.startswith(temporary)]:
        del sys.path_importer_cache[path]


@pytest.fixture(scope="session", autouse=True)
def _callbacks_that_must_fail() -> Generator[None]:
    """Do not warn of callbacks that fail because of where Python calls them, which it can only print.

    Interrupts of threads may arrive in callbacks of weak references, and memory is also collected in the depth of a
    recursion, where Dask's callback of the garbage collector finds no room on the stack.
    """
    hook = sys.unraisablehook

    def heard(seen: sys.UnraisableHookArgs) -> None:
        too_deep = seen.exc_type is RecursionError and seen.object in gc.callbacks
        if not (too_deep or seen.exc_type.__name__ == "_Interrupted"):
            hook(seen)

    sys.unraisablehook = heard
    yield
    sys.unraisablehook = hook


RAY_HERE = frozenset(f"tests/runners/test_ray{rest}.py" for rest in ("", "_datasets", "_hostile"))
"""Files whose tests start Ray in their own process, besides those that end with [ray]."""

SLOW_SECONDS = 900
"""A slow test that takes longer hangs."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out campaigns unless requested (`make evidence`), and give slow tests much time on a busy machine.

    Files with slow tests come first, so that quick tests fill the gaps while the last slow file runs.
    """
    slow_files = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow_files)
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))
    if os.environ.get("PENSTOCK_EVIDENCE") == "1":
        return
    unwanted = ["evidence"] if os.environ.get("CI") == "true" else ["evidence", "in_ci"]
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in unwanted)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Keep the garbage collector from going through all modules and tests again and again."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    wanted = {package for mark in item.iter_markers("needs") for package in mark.args}
    missing = sorted(package for package in wanted if importlib.util.find_spec(package) is None)
    if missing and CORE_ONLY:
        pytest.skip(f"needs {', '.join(missing)}")
    if missing:
        pytest.fail(f"not installed: {', '.join(missing)}", pytrace=False)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Do not trace slow tests of modules marked `untraced`, nor the processes that they start."""
    measured = _coverage()
    if measured is None or not (item.get_closest_marker("untraced") and item.get_closest_marker("slow")):
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        measured.stop()
        try:
            return (yield)
        finally:
            measured.start()


def pytest_sessionfinish() -> None:
    """Save what was measured: xdist kills a worker that takes over 10 seconds to exit, before coverage would save."""
    measured = _coverage()
    if measured is not None:
        measured.save()


def _coverage() -> Any:
    """Return what traces this process, or None."""
    coverage = sys.modules.get("coverage")
    return None if coverage is None else coverage.Coverage.current()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Run each file in one process, which starts its clusters once, and all tests that start Ray there in the same one.

    Files whose programs start Rays of their own are no part of that, the longest sequence of all.
    """
    from xdist.scheduler import LoadScopeScheduling

    config.option.loadscopereorder = False  # by the number of tests; our order is better, see above

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "ray" if file in RAY_HERE or nodeid.endswith("[ray]") else file

    return ByFile(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _failed_if_missing((yield))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _failed_if_missing((yield))


Report = TypeVar("Report", pytest.CollectReport, pytest.TestReport)


def _failed_if_missing(report: Report) -> Report:
    """Turn a skip by `importorskip` into a failure in a full environment."""
    if not CORE_ONLY and report.skipped and isinstance(report.longrepr, tuple):
        path, line, reason = report.longrepr
        if "could not import" in reason:
            report.outcome = "failed"
            report.longrepr = f"{path}:{line}: {reason}"
    return report
