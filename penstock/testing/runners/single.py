"""Tests of runners: single calls, which may wait in the engine for the values of others."""

from __future__ import annotations

import functools
import random
from typing import Any

import pytest

from penstock.errors import UpstreamFailed
from penstock.settings import Settings
from penstock.testing.runners import tasks
from penstock.testing.runners.support import RunnerBench

t: Any = tasks


class SingleCallTests(RunnerBench):
    """Runs without bundles."""

    @pytest.fixture
    def single(self, _tools: None) -> Settings:
        """Return settings without bundles."""
        self.settings = self.settings.with_values(bundle_seconds=0)
        return self.settings

    @pytest.mark.usefixtures("single")
    def test_a_chain_of_single_calls_passes_each_value_on(self) -> None:
        log = self.log
        assert self.value(lambda: _chain(log, 30)) == 30
        assert self.executions() == {"add": 30}

    @pytest.mark.usefixtures("single")
    def test_large_values_pass_from_one_single_call_to_the_next(self) -> None:
        log, size = self.log, 300_000

        def along() -> Any:
            text = t.text(log, size)
            return t.length(log, text), t.length(log, t.show(log, text))

        assert self.value(along) == ((size, True), (size + 2, False))

    @pytest.mark.usefixtures("single")
    def test_a_failing_single_call_stops_its_dependents(self) -> None:
        log = self.log

        def broken() -> Any:
            bad = t.fail(log, "broken")
            below = [t.double(log, bad), t.add(log, t.double(log, 4), t.double(log, bad))]
            errors = [b.result(raise_on_failure=False) for b in below]
            return [isinstance(e, UpstreamFailed) for e in errors], bad.result(raise_on_failure=False) is None

        assert self.value(broken) == ([True, True], False)
        assert self.executions() == {"fail": 1, "double": 1}

    @pytest.mark.usefixtures("single")
    def test_retrying_a_single_call_reruns_no_other(self) -> None:
        log = self.log
        flaky = t.flaky.with_options(retries=2)

        def chain() -> Any:
            x = t.double(log, flaky(log, "flaky", 2))
            return t.double(log, t.double(log, x))

        assert self.value(chain) == 16
        assert self.executions() == {"flaky": 2, "double": 3}

    @pytest.mark.usefixtures("single")
    @pytest.mark.parametrize("seed", range(3))
    def test_any_graph_of_single_calls_has_the_right_values(self, seed: int) -> None:
        log, rng = self.log, random.Random(seed)
        inputs = [sorted(rng.sample(range(n), min(n, rng.randint(0, 3)))) for n in range(40)]

        def any_graph() -> Any:
            nodes: list[Any] = []
            for n, wanted in enumerate(inputs):
                nodes.append(t.total(log, [nodes[i] for i in wanted]) if wanted else t.double(log, n))
            return nodes

        expected: list[int] = []
        for n, wanted in enumerate(inputs):
            expected.append(sum(expected[i] for i in wanted) if wanted else 2 * n)
        assert self.value(any_graph) == expected
        assert sum(self.executions().values()) == 40

    @pytest.mark.usefixtures("single")
    def test_a_worker_that_dies_in_a_chain_of_single_calls_loses_no_value(self) -> None:
        if not self.kills_workers:
            pytest.skip("its workers are not processes of their own")
        log = self.log

        def chain() -> Any:
            return t.double(log, t.double(log, t.add(log, t.die_at_first(log), t.double(log, 1))))

        assert self.value(chain) == 16
        assert self.executions()["die_at_first"] == 2


def _chain(log: str, links: int) -> Any:
    return functools.reduce(lambda x, _: t.add(log, x, 1), range(links), 0)
