"""Parameters pickled by an earlier version can be read, even if Penstock's classes have moved."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from penstock import IsolationLevel, StoredResult
from penstock.locks import FileSystemLockManager, RedisLockManager, StorageLockManager
from penstock.process import former_homes
from penstock.runners import DaskRunner, ProcessRunner, RayRunner, ThreadRunner
from penstock.storage import LocalStore
from penstock.storage.formats.pickles import load

PICKLED = Path(__file__).parent / "parameters.pkl"
CLASSES = {
    "stored": StoredResult,
    "folder": LocalStore,
    "threads": ThreadRunner,
    "processes": ProcessRunner,
    "dask": DaskRunner,
    "ray": RayRunner,
    "file locks": FileSystemLockManager,
    "redis locks": RedisLockManager,
    "store locks": StorageLockManager,
}


def test_parameters_of_an_earlier_version_can_be_read() -> None:
    read = load(PICKLED.read_bytes())
    assert {name: type(read[name]) for name in CLASSES} == CLASSES
    assert read["level"] is IsolationLevel.SERIALIZABLE
    assert read["stored"].record.key == "0" * 64


@pytest.mark.parametrize("former", sorted(former_homes._FORMER))
def test_each_former_module_path_resolves(former: str) -> None:
    if former.rpartition(".")[2] in ("s3", "gcs", "azure"):
        pytest.importorskip("fsspec")
    assert importlib.import_module(former_homes.home_of(former))
