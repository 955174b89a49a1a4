"""Hostile objects on Dask, passed in every way."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.runners import DaskRunner
from tests.runners.hostile_flows import check, every_way, quietly

pytestmark = [pytest.mark.evidence, pytest.mark.slow, pytest.mark.needs("distributed"), quietly]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    distributed = importlib.import_module("distributed")
    folder = str(tmp_path_factory.mktemp("dask"))
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", local_directory=folder
    ) as started:
        yield started


@every_way
def test_hostile_objects_on_dask(cluster: Any, tmp_path: Path, call: Any, kind: str) -> None:
    check(DaskRunner(cluster=cluster), tmp_path, call, kind)
