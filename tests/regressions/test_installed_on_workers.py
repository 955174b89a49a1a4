"""State of installed packages: what they change in themselves stops no worker, and what the program sets there does."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from penstock.errors import RunnerError
from penstock.runners import ProcessRunner

pytestmark = pytest.mark.slow
Project = Callable[..., ModuleType]

INSTALLED = """
    import functools

    class Option:
        seen = False

    class Model:
        options = {"loss": [Option()]}
        limit = 10
        unit = "m"
        made = 0
        fitted = False
        names = {}

        def fit(self):
            Model.made += 1
            Model.fitted = True
            Model.names[len(Model.names)] = "a name"
            Model.options["loss"][0].seen = True
            return self

        def predict(self, n):
            return min(n, self.limit)

    def checks(options):
        def decorate(fn):
            @functools.wraps(fn)
            def wrapper(n):
                for each in options:
                    notice(each)
                return fn(n)
            return wrapper
        return decorate

    def notice(option):
        option.seen = True

    @checks([Option()])
    def score(n):
        return n
"""
USES = """
    from ready_made import Model, score
    from penstock import INPUTS, TASK_CODE, flow, task
    from penstock.runners import ProcessRunner

    @task(cache_policy=INPUTS + TASK_CODE)
    def using(n):
        return score(Model().fit().predict(n))

    @task(cache_policy=INPUTS + TASK_CODE)
    def again(n):
        return score(Model().fit().predict(n))

    @flow(runner=ProcessRunner(1))
    def pipeline(n):
        return again(using(n))

    def mine(self, n):
        return 0
"""


@pytest.fixture
def uses(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A project's module that uses a package in `site-packages`."""
    installed = tmp_path / "site-packages"
    installed.mkdir()
    (installed / "ready_made.py").write_text(textwrap.dedent(INSTALLED))
    (installed / "extends.py").write_text("import ready_made\nready_made.Model.extra = lambda self: 1\n")
    monkeypatch.syspath_prepend(installed)
    yield project(uses_ready_made=USES)
    for name in ("ready_made", "extends"):
        sys.modules.pop(name, None)


def test_what_a_package_changes_in_its_classes_and_functions_stops_no_worker(uses: Any) -> None:
    for number in range(3):
        assert uses.pipeline(number) == number
        assert uses.using.fn(number) == number


def test_methods_that_another_package_adds_in_the_driver_alone_stop_no_worker(uses: Any) -> None:
    importlib.import_module("extends")
    assert uses.pipeline(3) == 3


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda uses: setattr(uses.Model, "limit", 2), "Model.limit"),
        (lambda uses: setattr(uses.Model, "unit", "km"), "Model.unit"),
        (lambda uses: setattr(uses.Model, "predict", uses.mine), "Model.predict"),
    ],
    ids=["number", "text", "method"],
)
def test_what_only_the_driver_sets_in_a_class_of_a_package_is_reported(
    uses: Any, change: Callable[[Any], None], named: str
) -> None:
    change(uses)
    with pytest.raises(RunnerError, match=rf"other code than the driver: .*{named}"):
        uses.pipeline(1)


@pytest.mark.needs("sklearn")
def test_a_model_that_the_driver_or_a_worker_has_fitted_before_can_be_fitted_by_workers(project: Project) -> None:
    """scikit-learn marks the options of some of its estimators at their first use."""
    fits = project(fits=FITS)
    runner = ProcessRunner(1)
    assert fits.pipeline.with_options(runner=runner)(0.5) == [1.0, 1.0]
    fits.score.fn(0.5)
    assert fits.pipeline.with_options(runner=runner)(0.25) == [1.0, 1.0]


FITS = """
    import numpy as np
    from penstock import INPUTS, TASK_CODE, flow, task
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    X = np.arange(20.0).reshape(-1, 1)

    @task(cache_policy=INPUTS + TASK_CODE)
    def score(c):
        return float(LogisticRegression(C=c).fit(X, X[:, 0] > 9).score(X, X[:, 0] > 9))

    @task(cache_policy=INPUTS + TASK_CODE)
    def boosted(c, after):
        LogisticRegression(C=c).fit(X, X[:, 0] > 9)
        return float(GradientBoostingClassifier(n_estimators=3).fit(X, X[:, 0] > 9).score(X, X[:, 0] > 9))

    @flow
    def pipeline(c):
        first = score(c)
        return [first, boosted(c, first)]
"""
