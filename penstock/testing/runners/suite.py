"""What every runner has to do: a conformance suite to subclass.

    class TestMyRunner(RunnerTests):
        kills_workers = True    # its workers are processes, and a dead one is noticed

        def make_runner(self, workers):
            return MyRunner(workers)

The flows, the values and the counts are the same on every runner. Tasks leave a mark in a folder each time they run, so
that executions are counted wherever they happen; a store that workers of other machines should reach is given by
overriding `make_store`. `penstock.testing.runners.kills` has what takes longer: random flows while workers are killed.
"""

from __future__ import annotations

from penstock.testing.runners.failures import FailureTests
from penstock.testing.runners.graphs import GraphTests
from penstock.testing.runners.hostile import HostileTests
from penstock.testing.runners.nested import NestedWorkTests
from penstock.testing.runners.results import ResultTests
from penstock.testing.runners.single import SingleCallTests
from penstock.testing.runners.values import ValueTests


class RunnerTests(GraphTests, ResultTests, FailureTests, HostileTests, ValueTests, SingleCallTests, NestedWorkTests):
    """Subclass it as `Test…` and override `make_runner`."""
