"""`worker_setup=`: a function that prepares each worker process before its first call."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from penstock import flow, task
from penstock.errors import ConfigurationError, RunnerError
from penstock.runners import DaskRunner, ProcessRunner, RayRunner
from penstock.testing.runners.tasks import mark


@task
def prepared(n: int) -> tuple[int, str | None]:
    return os.getpid(), os.environ.get("TEST_PREPARED")


def preparing(log: str) -> Any:
    def prepare() -> None:
        os.environ["TEST_PREPARED"] = f"{os.getpid()}"
        mark(log, "prepared")

    return prepare


def broken() -> None:
    raise OSError("no licence")


RUNNERS = [
    pytest.param(lambda setup: ProcessRunner(2, worker_setup=setup), id="processes"),
    pytest.param(
        lambda setup: DaskRunner(workers=1, worker_setup=setup), id="dask", marks=pytest.mark.needs("distributed")
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("make", RUNNERS)
def test_each_worker_process_is_prepared_once(make: Any, tmp_path: Path) -> None:
    bound = flow(lambda: [prepared(n) for n in range(20)])
    values = make(preparing(str(tmp_path)))(bound)()
    assert all(said == str(pid) for pid, said in values)
    assert len({pid for pid, _ in values}) == len(os.listdir(tmp_path))
    assert "TEST_PREPARED" not in os.environ


@pytest.mark.slow
@pytest.mark.parametrize("make", RUNNERS)
def test_calls_fail_if_a_worker_could_not_be_prepared(make: Any) -> None:
    with pytest.raises(RunnerError, match="no licence"):
        make(broken)(flow(lambda: prepared(1)))()


@pytest.mark.parametrize("make", [ProcessRunner, DaskRunner, RayRunner])
def test_a_setup_that_is_not_callable_is_refused(make: Any) -> None:
    with pytest.raises(ConfigurationError, match="worker_setup"):
        make(worker_setup="my_package.setup").open(None, None)
