"""What a worker process needs to know of a run, packed by the driver, and whether that worker can serve it."""

from __future__ import annotations

import os
import pickle
import platform
import sys
from dataclasses import replace
from typing import NamedTuple

from penstock.errors import RunnerError
from penstock.storage.stores.base import Store
from penstock.worker.messages import Preparation, WorkerContext
from penstock.worker.shipping.code_packing import Shipment
from penstock.worker.shipping.values import pickled

THIS_PROCESS = os.urandom(8).hex()


class WorkerSetup(NamedTuple):
    """What a worker needs to know of a run. It travels as a tuple, and what needs more than Penstock as bytes."""

    versions: tuple[str, str]
    """The driver's."""
    process: str
    """The driver's."""
    paths: tuple[str, ...]
    """The driver's import path: folders that are here too are searched last."""
    evidence: str | None
    """Something that is in the run's store, by name; None if nobody can look at another store by mistake."""
    context: bytes
    """The `WorkerContext`, pickled: it may need what was shipped."""
    shipped: Shipment | None
    """Packages of the project that travel along."""

    @property
    def from_elsewhere(self) -> bool:
        """Whether the driver is another process than this one."""
        return self.process != THIS_PROCESS


def packed_setup(
    context: WorkerContext, *, prepare: Preparation | None, shipped: Shipment | None, elsewhere: bool
) -> bytes:
    """What `read_setup` reads. `elsewhere`: workers may be on machines that have another store at the same address.

    Raises `RunnerError` if the run cannot be sent.
    """
    setup = WorkerSetup(
        versions=versions(),
        process=THIS_PROCESS,
        paths=tuple(path for path in sys.path if path),
        evidence=context.evidence() if elsewhere else None,
        context=pickled(replace(context.travelling(), setup=prepare), "the run"),
        shipped=shipped,
    )
    return pickle.dumps(tuple(setup))


def read_setup(data: bytes) -> WorkerSetup:
    """Raises `RunnerError` if this worker is of another version than the driver."""
    versions_there, *rest = pickle.loads(data)
    check_versions(versions_there)
    return WorkerSetup(versions_there, *rest)


def versions() -> tuple[str, str]:
    """Of Python, as far as functions that travel by value need the same, and of Penstock."""
    penstock: str = sys.modules["penstock"].__version__
    return f"{sys.version_info.major}.{sys.version_info.minor}", penstock


def check_versions(of_driver: tuple[str, str]) -> None:
    """Raise `RunnerError` unless this process has the driver's versions."""
    if tuple(of_driver) != versions():
        ours, theirs = ("Python {} and Penstock {}".format(*each) for each in (versions(), of_driver))
        raise RunnerError(
            "a worker has other versions than the driver",
            where=f"{platform.node()}:{os.getpid()}",
            because=f"{ours} on the worker, {theirs} at the driver",
            hint="install the same Python and Penstock everywhere",
        )


def check_store(store: Store, evidence: str | None) -> None:
    """Raise `RunnerError` if the evidence is not there: then this is another store than the driver's."""
    if evidence is not None and store.get(evidence) is None:
        raise RunnerError(
            "a worker does not see the run's store",
            where=store.url,
            because=f"on {platform.node()} it has nothing of this run",
            hint="use a store that all machines reach: a shared folder or a bucket, with PENSTOCK_STORE or store=",
        )
