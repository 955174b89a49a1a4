"""A consumer gets what the task returned: on every runner, cold and warm, also in a new process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from penstock.runners import ProcessRunner, ThreadRunner
from penstock.storage.formats.typed.sameness import same
from tests.roundtrip import flows, values_python
from tests.roundtrip.__main__ import run_step

pytestmark = pytest.mark.untraced

needs_all = pytest.mark.needs("pydantic", "attrs", "numpy", "pandas")


def _all() -> list[tuple[str, str]]:
    return [(group, name) for group, (make, _) in values_python.NEEDS.items() for name in make()]


def _checked(check: Any, names: list[tuple[str, str]]) -> None:
    cold = check.run(names)
    assert cold.result() == {}
    warm = check.run(names)
    assert warm.result() == {}
    assert warm.counts["hit"] == len(names)


def _picklable() -> list[tuple[str, str]]:
    """Leave out values whose own classes do not pickle them completely, because engines can only pickle."""
    every = {(group, name): value for group, (make, _) in values_python.NEEDS.items() for name, value in make().items()}
    return [each for each, value in every.items() if same(value, cloudpickle.loads(cloudpickle.dumps(value)))]


@needs_all
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("runner", [ThreadRunner(), ProcessRunner(workers=2)], ids=["threads", "processes"])
def test_a_consumer_gets_what_was_returned_cold_and_warm(runner: Any) -> None:
    _checked(flows.check.with_options(runner=runner), _all())


@needs_all
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.needs("distributed", "ray")
@pytest.mark.parametrize("engine", ["dask", pytest.param("ray", marks=pytest.mark.in_ci)])
def test_a_consumer_on_a_cluster_gets_what_was_returned_cold_and_warm(
    engine: str, request: pytest.FixtureRequest
) -> None:
    from penstock.runners import DaskRunner, RayRunner

    if engine == "ray":
        request.getfixturevalue("ray_environment")
    runner = DaskRunner(workers=2) if engine == "dask" else RayRunner(num_cpus=2)
    _checked(flows.check.with_options(runner=runner), _picklable())


@needs_all
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("trusted", [pytest.param(True, marks=pytest.mark.in_ci), False])
def test_a_new_process_with_only_the_tasks_module_reads_the_same(tmp_path: Path, trusted: bool) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    folder.chmod(0o700 if trusted else 0o777)
    environment = {**os.environ, "PENSTOCK_STORE": str(folder)}
    wanted = [(group, name) for group, name in _all() if trusted or not name.endswith("*")]
    stored = run_step("store", wanted, environment)
    assert [row["codec"] for row in stored] == [values_python.codec_of(*each) for each in wanted]
    found = run_step("read", wanted, environment)
    assert {each: place for each, place in zip(wanted, found, strict=True) if place is not None} == {}


def test_no_everyday_value_needs_a_pickle_in_an_untrusted_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o777)
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path))
    names = [("scalars", name) for name in ("Path", "date", "Decimal 1.10", "UUID", "nan", "IPv4Address")]
    names += [("containers", name) for name in ("tuple", "set of int", "dict of int keys", "bytes")]
    names += [("objects", name) for name in ("Enum", "NamedTuple", "dataclass of a tuple")]
    assert flows.check(names) == {}
    assert flows.check.run(names).counts["hit"] == len(names)
