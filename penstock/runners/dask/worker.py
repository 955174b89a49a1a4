"""The other side of DaskRunner: what runs in Dask's workers. One Dask task performs one bundle.

The scheduler gets bytes and the name of `perform`; only workers turn either into code. What came of the calls is told
by an event on the topic of the driver's client, the values that others need are what the Dask task returns.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

from penstock.runners.remote.parcels import performed, unpacked_parcel
from penstock.runners.remote.workers.batching import Batcher, Told, compressed
from penstock.runners.remote.workers.bundle_worker import BundleWorker
from penstock.runners.remote.workers.interrupting import Interrupted, interrupt, interruptible
from penstock.worker.shipping.shared_buffers import PackedValue
from penstock.worker.shipping.values import Pickled

EVENT = "penstock"
"""How our events begin: the scheduler has others on the topic of a client."""


def perform(data: bytes, *brought: Any) -> dict[int, Pickled | PackedValue]:
    """Perform a bundle: tells the driver what came of it, and returns the values to keep, by node."""
    import distributed

    parcel = unpacked_parcel(data)
    key, topic, tells = parcel.extras
    worker = distributed.get_worker()
    batcher = _batcher_of(worker)
    if tells:
        batcher.tell(topic, Told(parcel.run, "started", key[1]))
    try:
        with interruptible(key) as block:
            outcomes, values = performed(parcel, brought, worker_class=DaskBundleWorker, stopped=lambda: block.stopped)
            left = {n: value if isinstance(value, Pickled) else PackedValue(value) for n, value in values.items()}
            batcher.tell(topic, Told(parcel.run, "finished", key[1], compressed(outcomes)))
            return left
    except Interrupted:
        return {}  # the driver has forgotten this bundle


class DaskBundleWorker(BundleWorker):
    """Less travels inside of outcomes than elsewhere: they pass through the scheduler, which keeps the last 1 000."""

    inline_value = 4 * 1024
    inline_bundle = 32 * 1024


_batchers: weakref.WeakKeyDictionary[Any, Batcher] = weakref.WeakKeyDictionary()
_guard = threading.Lock()


def _batcher_of(worker: Any) -> Batcher:
    """The one batcher of a Dask worker, which interrupts bundles from then on. A process may have several workers."""
    with _guard:
        batcher = _batchers.get(worker)
        if batcher is None:
            batcher = _batchers[worker] = _new_batcher(weakref.ref(worker), worker.loop)
            _watch_for_cancelling(worker)
        return batcher


def _new_batcher(weakly: weakref.ref[Any], loop: Any) -> Batcher:
    def send(topic: str, told: Any) -> None:
        worker = weakly()
        if worker is not None:
            worker.log_event(topic, (EVENT, [tuple(each) for each in told]))

    return Batcher(send, lambda seconds, do: loop.add_callback(loop.call_later, seconds, do))


def _watch_for_cancelling(worker: Any) -> None:
    """Let this Dask worker interrupt bundles whose Dask task is cancelled, or whose driver is gone."""
    from distributed import WorkerPlugin

    class Interrupts(WorkerPlugin):
        """Dask forgets a running task that is cancelled; its thread is told here."""

        def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
            if finish == "released" and start in ("executing", "long-running"):
                interrupt(key)

    worker.loop.add_callback(worker.plugin_add, Interrupts(), "penstock-interrupts")
