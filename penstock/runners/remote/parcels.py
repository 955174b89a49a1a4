"""What travels to a worker as one message: a bundle and all that it needs, in it or beside it."""

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
from penstock.worker.shipping.shared_buffers import Packed, PackedValue
from penstock.worker.shipping.values import Pickled
from penstock.worker.shipping.wire import pack_outcomes

Blob = bytes | tuple[int, ...]
"""Bytes, or where they are, in parts, among what the engine brought along."""


class Parcel(NamedTuple):
    """A bundle on its way: nothing in it is the user's, except inside of bytes."""

    run: str
    """Unique for each engine."""
    setup: Blob
    tasks: Mapping[int, Blob]
    """The tasks of the bundle's calls, by number."""
    bundle: Blob
    arguments: Mapping[int, Blob]
    """Its large arguments, pickled."""
    extras: tuple[Any, ...] = ()
    """What the engine's worker has to know besides."""

    def packed(self) -> bytes:
        """What `unpacked_parcel` reads."""
        return pickle.dumps(tuple(self))


def performed(
    parcel: Parcel,
    brought: Sequence[Any] = (),
    *,
    worker_class: type[BundleWorker] = BundleWorker,
    stopped: Callable[[], bool] = lambda: False,
) -> tuple[bytes, dict[int, Pickled | Packed]]:
    """On a worker: the outcomes of a bundle, packed for `RemoteEngine.landed`, and the values that stay, by node.

    For workers that perform several bundles at a time in threads: what a thread logs is told as its bundle's.
    """
    delivery = ParcelDelivery(parcel, brought)
    with ExitStack() as using:
        found = opened(delivery, delivery.bundle(), using)
        if isinstance(found, Failure):
            return pack_outcomes(found, []), {}
        run, bundle = found
        with collected_logs(enabled=run.from_elsewhere) as logs:
            outcomes, values = worker_class(run, delivery).outcomes_and_values(bundle, stopped)
        return pack_outcomes(outcomes, logs), values


def unpacked_parcel(data: bytes) -> Parcel:
    """Raises nothing of the user's."""
    return Parcel(*pickle.loads(data))


class ParcelDelivery(Delivery):
    """A parcel, and what the engine brought along with it: first the flight's `sources`, then parts of blobs."""

    def __init__(self, parcel: Parcel, brought: Sequence[Any]) -> None:
        """A source is a value that a bundle left, or a dict of them by `Kept.item`."""
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
        """The bundle, packed."""
        return self._bytes(self._parcel.bundle)

    def argument(self, handle: Argument) -> Any:
        return cloudpickle.loads(self._bytes(self._parcel.arguments[handle.number]))

    def value(self, handle: Brought) -> Pickled | Packed | None:
        found = self._brought[handle.place]
        value: Pickled | PackedValue | None = found.get(handle.item) if isinstance(found, dict) else found
        return value.packed if isinstance(value, PackedValue) else value

    def _bytes(self, blob: Blob) -> bytes:
        return blob if isinstance(blob, bytes) else b"".join(self._brought[place] for place in blob)
