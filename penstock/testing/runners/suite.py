"""The conformance suite for runners, as a class to subclass.

    class TestMyRunner(RunnerTests):
        kills_workers = True    # its workers are processes, and a dead one is noticed

        def make_runner(self, workers):
            return MyRunner(workers)

The flows, values and counts are the same on every runner. Tasks leave a mark in a folder whenever they run, so that
executions are counted wherever they happen. Override `make_store` for a store that workers on other machines can reach.
`penstock.testing.runners.kills` contains slower tests: random flows while workers are killed.
"""

from __future__ import annotations

from penstock.testing.runners.arguments import ArgumentTests
from penstock.testing.runners.failures import FailureTests
from penstock.testing.runners.graphs import GraphTests
from penstock.testing.runners.hostile import HostileTests
from penstock.testing.runners.nested import NestedWorkTests
from penstock.testing.runners.results import ResultTests
from penstock.testing.runners.single import SingleCallTests
from penstock.testing.runners.values import ValueTests


class RunnerTests(
    GraphTests,
    ResultTests,
    FailureTests,
    HostileTests,
    ValueTests,
    ArgumentTests,
    SingleCallTests,
    NestedWorkTests,
):
    """Tests that every `Runner` must pass.

    Subclass it as `Test…` and override `make_runner`; see `RunnerBench` for the other hooks.
    """
