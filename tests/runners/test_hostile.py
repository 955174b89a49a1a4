"""Hostile objects on threads and processes, passed in every way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from penstock import flow
from penstock.errors import TaskTimeout
from penstock.runners import ProcessRunner, ThreadRunner
from penstock.settings import load_settings
from tests.runners.hostile_flows import WAYS, check, every_way, outcome, quietly, raises, returns, squares, takes
from tests.runners.hostile_objects import Case, cases


@quietly
@every_way
class TestHostileObjects:
    def test_on_threads(self, tmp_path: Path, call: Any, kind: str) -> None:
        check(ThreadRunner(2), tmp_path, call, kind)

    def test_on_processes(self, tmp_path: Path, call: Any, kind: str) -> None:
        check(ProcessRunner(2), tmp_path, call, kind)


def test_there_are_many_cases() -> None:
    assert sum(len(cases(kind)) for _, kind in WAYS) > 400


def test_an_object_that_blocks_forever_is_ended_by_the_timeout(tmp_path: Path) -> None:
    """It blocks in a worker: while it is printed, pickled or unpickled there."""
    settings = load_settings(overrides={"store": str(tmp_path / "store")})

    @flow(runner=ProcessRunner(3))
    def blocked() -> tuple[list[str], list[int]]:
        calls = [
            raises.with_options(timeout_seconds=1)(Case("exception", "__str__", "blocks")),
            raises.with_options(timeout_seconds=1)(Case("exception", "__reduce_ex__", "blocks")),
            returns.with_options(timeout_seconds=1)(Case("result", "__reduce_ex__", "blocks")),
            takes.with_options(timeout_seconds=1)(Case("argument", "__setstate__", "blocks").make()),
        ]
        innocent = [squares(n) for n in range(10)]
        ended: Any = [type(outcome(call)).__name__ for call in calls]
        return ended, innocent

    run = blocked.run_with({}, settings=settings)
    ended, innocent = run.result()
    assert ended == [TaskTimeout.__name__] * 4
    assert innocent == [n * n for n in range(10)]
