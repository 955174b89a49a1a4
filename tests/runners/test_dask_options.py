"""The options of a DaskRunner, and which Dask workers get which calls: without Dask."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest

from penstock import flow, task
from penstock.errors import ConfigurationError, RunnerError
from penstock.runners import DaskRunner, runner_from
from penstock.runners.dask.capacity import ANYWHERE, Placement, Workers
from penstock.runners.prefetch import MAX_AHEAD


def worker(host: str = "a", threads: int = 1, memory: float = 8e9, **resources: float) -> dict[str, Any]:
    return {"host": host, "nthreads": threads, "memory_limit": memory, "resources": resources}


def workers(*each: dict[str, Any], patience: float = 60.0) -> Workers:
    made = Workers(patience=patience, this_machine=False)
    made.update({f"w{n}": facts for n, facts in enumerate(each)}, now=0.0)
    return made


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("dask", "DaskRunner(LocalCluster)"),
        ("dask?workers=2", "DaskRunner(LocalCluster, workers=2)"),
        ("dask+tcp://host:8786", "DaskRunner('tcp://host:8786')"),
        ("dask+tls://host:8786", "DaskRunner('tls://host:8786')"),
    ],
)
def test_an_address_names_a_runner(address: str, expected: str) -> None:
    assert repr(runner_from(address)) == expected


@pytest.mark.parametrize(
    "options",
    [
        {"address": "tcp://host:1", "cluster": object()},
        {"address": "tcp://host:1", "workers": 2},
        {"workers": 0},
        {"workers": "2"},
        {"cluster": object(), "n_workers": 2},
        {"worker_timeout": 0},
    ],
)
def test_contradictory_arguments_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        DaskRunner(**options)


@pytest.mark.needs("distributed")
@pytest.mark.parametrize(
    ("runner", "meant"),
    [(DaskRunner(n_worker=2), "n_workers"), (DaskRunner("tcp://127.0.0.1:9", secuirty=1), "security")],
)
def test_a_mistyped_option_is_named_before_anything_starts(runner: DaskRunner, meant: str) -> None:
    with pytest.raises(ConfigurationError, match="has no option") as raised:
        flow(runner=runner)(lambda: task(abs)(-1))()
    assert raised.value.hint == f"did you mean {meant}?"


def test_a_runner_is_pickled_as_its_settings() -> None:
    there = pickle.loads(pickle.dumps(DaskRunner("tcp://host:8786", worker_timeout=5, timeout=3)))
    assert (there.address, there.worker_timeout, there.options) == ("tcp://host:8786", 5.0, {"timeout": 3})


def test_the_reach_of_workers_follows_from_the_arguments() -> None:
    assert DaskRunner().reach == "host"
    assert DaskRunner(processes=False).reach == "process"
    assert DaskRunner("tcp://127.0.0.1:8786").reach == "network"
    assert DaskRunner(cluster_class=dict).reach == "network"


def test_before_the_first_worker_any_resource_can_be_requested() -> None:
    unknown = Workers(patience=1.0, this_machine=False)
    assert unknown.capacity["slots"] == 1
    assert unknown.capacity.get("gpu", 0) == math.inf


def test_capacity_counts_threads_memory_and_declared_resources() -> None:
    there = workers(worker("a", 2, 4e9, GPU=1), worker("b", 4, 8e9, GPU=2))
    assert {name: there.capacity[name] for name in ("cpu", "memory", "gpu")} == {"cpu": 6, "memory": 12e9, "gpu": 3}
    assert there.capacity["slots"] == 12  # for each thread, one running call and one waiting there


def test_calls_without_requirements_run_anywhere() -> None:
    assert workers(worker()).place({"slots": 1.0}) == ANYWHERE


def test_declared_resources_are_requested_by_dasks_name_for_them() -> None:
    there = workers(worker(GPU=1), worker())
    assert there.place({"slots": 1.0, "gpu": 1.0}) == Placement(resources=(("GPU", 1.0),))


def test_undeclared_memory_keeps_calls_off_smaller_workers() -> None:
    there = workers(worker(memory=4e9), worker(memory=16e9))
    assert there.place({"memory": 8e9}) == Placement(workers=("w1",))
    assert there.place({"memory": 2e9}) == ANYWHERE


def test_resources_that_only_several_workers_have_together_are_refused() -> None:
    there = workers(worker("a", GPU=1), worker("b", GPU=1))
    with pytest.raises(RunnerError, match=r"no worker of the cluster has all of gpu 2 \(the most is 1\)"):
        there.place({"gpu": 2.0})


def test_a_lost_worker_is_awaited_and_then_forgotten() -> None:
    there = workers(worker(), worker(GPU=1), patience=10.0)
    there.update({"w0": worker()}, now=5.0)
    assert there.place({"gpu": 1.0}) is None
    assert there.capacity["gpu"] == 1
    there.update({"w0": worker()}, now=20.0)
    with pytest.raises(RunnerError):
        there.place({"gpu": 1.0})
    assert there.capacity["gpu"] == 0


def test_a_placement_runs_where_a_worker_has_its_resources() -> None:
    there = workers(worker(GPU=1), worker())
    assert there.runs(ANYWHERE)
    assert there.runs(Placement(resources=(("GPU", 1.0),)))
    assert not there.runs(Placement(resources=(("GPU", 1.0),), workers=("w1",)))
    there.update({}, now=1.0)
    assert not there.runs(ANYWHERE)


def test_short_calls_are_sent_ahead_until_long_calls_or_bundles_end_that() -> None:
    there = workers(worker(threads=2))
    for _ in range(100):
        there.learn(1, 0.0001)
    assert there.capacity["slots"] == 2 * (1 + MAX_AHEAD)
    there.learn(50, 0.1)
    assert there.capacity["slots"] == 4
