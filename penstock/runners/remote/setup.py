"""What a worker process needs for a run, packed by the driver, and checks whether the worker can serve the run."""

from __future__ import annotations

import os
import pickle
import platform
import sys
from typing import NamedTuple

from msgspec.structs import replace

from penstock.errors import RunnerError
from penstock.storage.stores.base import Store
from penstock.worker.messages import Preparation, WorkerContext
from penstock.worker.shipping.code_packing import Shipment
from penstock.worker.shipping.values import pickled

THIS_PROCESS = os.urandom(8).hex()


class WorkerSetup(NamedTuple):
    """What a worker needs for a run. Sent as a tuple; fields that need more than Penstock are bytes."""

    versions: tuple[str, str]
    """The versions of the driver."""
    process: str
    """The process of the driver; see `THIS_PROCESS`."""
    paths: tuple[str, ...]
    """The import path of the driver. Workers search those folders last, if they exist."""
    evidence: str | None
    """The name of a record in the run's store; None if workers cannot mistake another store for it."""
    context: bytes
    """The pickled `WorkerContext`, which may need shipped modules."""
    shipped: Shipment | None
    """The shipped packages of the project."""

    @property
    def from_elsewhere(self) -> bool:
        """Whether the driver is another process."""
        return self.process != THIS_PROCESS


def packed_setup(
    context: WorkerContext, *, prepare: Preparation | None, shipped: Shipment | None, elsewhere: bool
) -> bytes:
    """Return the bytes that `read_setup` reads.

    Args:
        context: The context of the run.
        prepare: Called once in each worker process.
        shipped: The shipped packages.
        elsewhere: Whether workers may be on machines with another store at the same address.

    Raises:
        SerializationError: The run cannot be sent.
    """
    setup = WorkerSetup(
        versions=versions(),
        process=THIS_PROCESS,
        paths=tuple(path for path in sys.path if path),
        evidence=context.evidence() if elsewhere else None,
        context=pickled(
            replace(context.travelling(), setup=prepare), "the run", named=lambda: {"worker_setup": prepare}
        ),
        shipped=shipped,
    )
    return pickle.dumps(tuple(setup))


def read_setup(data: bytes) -> WorkerSetup:
    """Return what `packed_setup` packed.

    Raises:
        RunnerError: This worker has other versions than the driver.
    """
    versions_there, *rest = pickle.loads(data)
    check_versions(versions_there)
    return WorkerSetup(versions_there, *rest)


def versions() -> tuple[str, str]:
    """Return the version of Python that functions sent by value require, and that of Penstock."""
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
    """Raise `RunnerError` if the evidence is missing, so that this is another store than the driver's."""
    if evidence is not None and store.get(evidence) is None:
        raise RunnerError(
            "a worker does not see the run's store",
            where=store.url,
            because=f"on {platform.node()} it has nothing of this run",
            hint="use a store that all machines reach: a shared folder or a bucket, with PENSTOCK_STORE or store=",
        )
