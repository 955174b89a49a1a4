"""A message to a worker: a bundle, with everything that it needs in the message or beside it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import cloudpickle

from penstock.runners.remote.delivery import Delivery
from penstock.runners.remote.handles import Argument, Brought
from penstock.runners.remote.workers.bundle_worker import BundleWorker, opened
from penstock.runners.remote.workers.thread_logs import collected_logs
from penstock.worker.messages import Failure
from penstock.worker.shipping.loading import loading
from penstock.worker.shipping.shared_buffers import Packed, PackedValue
from penstock.worker.shipping.values import Pickled
from penstock.worker.shipping.wire import pack_outcomes

Blob = bytes | tuple[int, ...]
"""Bytes, or the positions of their parts among what the engine sent along."""


class Parcel(NamedTuple):
    """A bundle on its way to a worker. Objects of the user are in it only as bytes."""

    run: str
    """The name of the run, unique for each engine."""
    setup: Blob
    tasks: Mapping[int, Blob]
    """The tasks of the bundle's calls, by number."""
    bundle: Blob
    arguments: Mapping[int, Blob]
    """Its large arguments, pickled."""
    extras: tuple[Any, ...] = ()
    """Other data for the engine's workers."""

    def packed(self) -> bytes:
        """Return the bytes that `unpacked_parcel` reads."""
        return pickle.dumps(tuple(self))


def performed(
    parcel: Parcel,
    brought: Sequence[Any] = (),
    *,
    worker_class: type[BundleWorker] = BundleWorker,
    stopped: Callable[[], bool] = lambda: False,
) -> tuple[bytes, dict[int, Pickled | Packed]]:
    """Perform a bundle on a worker.

    A worker may perform several bundles in threads. What a thread logs belongs to its bundle.

    Args:
        parcel: The bundle.
        brought: What the engine sent along: first the `sources` of the flight, then parts of blobs.
        worker_class: The class that performs the bundle.
        stopped: Returns whether to start no further calls.

    Returns:
        The outcomes, packed for `RemoteEngine.landed`, and the values that stay with the worker, by node.
    """
    delivery = ParcelDelivery(parcel, brought)
    with ExitStack() as using:
        with loading():
            found = opened(delivery, delivery.bundle(), using)
        if isinstance(found, Failure):
            return pack_outcomes(found, []), {}
        run, bundle = found
        with collected_logs(enabled=run.from_elsewhere) as logs:
            outcomes, values = worker_class(run, delivery).outcomes_and_values(bundle, stopped)
        return pack_outcomes(outcomes, logs), values


def unpacked_parcel(data: bytes) -> Parcel:
    """Return the parcel that `Parcel.packed` packed. Runs no code of the user."""
    return Parcel(*pickle.loads(data))


class ParcelDelivery(Delivery):
    """A parcel, and what the engine sent along: first the `sources` of the flight, then parts of blobs."""

    def __init__(self, parcel: Parcel, brought: Sequence[Any]) -> None:
        """A source is a value that a bundle left, or a dict of such values by `Kept.item`."""
        self.run = parcel.run
        self._parcel = parcel
        self._brought = brought

    def setup(self) -> bytes:
        return self._bytes(self._parcel.setup)

    def tasks(self) -> Iterable[int]:
        return self._parcel.tasks

    def task(self, number: int) -> bytes:
        return self._bytes(self._parcel.tasks[number])

    def bundle(self) -> bytes:
        """Return the packed bundle."""
        return self._bytes(self._parcel.bundle)

    def argument(self, handle: Argument) -> Any:
        with loading():
            return cloudpickle.loads(self._bytes(self._parcel.arguments[handle.number]))

    def value(self, handle: Brought) -> Pickled | Packed | None:
        found = self._brought[handle.place]
        value: Pickled | PackedValue | None = found.get(handle.item) if isinstance(found, dict) else found
        return value.packed if isinstance(value, PackedValue) else value

    def _bytes(self, blob: Blob) -> bytes:
        return blob if isinstance(blob, bytes) else b"".join(self._brought[place] for place in blob)
