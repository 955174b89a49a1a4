"""The part of DaskRunner that runs in Dask's workers. One Dask task performs one bundle.

The scheduler receives bytes and the name of `perform`, and only workers load code from them. A worker sends the
outcomes as an event on the topic of the driver's client. The Dask task returns the values that other bundles need.
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
"""The first item of events of Penstock. The scheduler sends other events on the same topic."""


def perform(data: bytes, *brought: Any) -> dict[int, Pickled | PackedValue]:
    """Perform a bundle, send its outcomes to the driver, and return the values to keep, by node."""
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
    """A worker with smaller outcomes, because they pass through the scheduler, which keeps the last 1 000 events."""

    inline_value = 4 * 1024
    inline_bundle = 32 * 1024


_batchers: weakref.WeakKeyDictionary[Any, Batcher] = weakref.WeakKeyDictionary()
_guard = threading.Lock()


def _batcher_of(worker: Any) -> Batcher:
    """Return the batcher of a Dask worker. The first call also installs `Interrupts`. A process may have several."""
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
    """Make a Dask worker interrupt bundles whose Dask task was cancelled, or whose driver has ended."""
    from distributed import WorkerPlugin

    class Interrupts(WorkerPlugin):
        """Interrupts the thread of a running task that was cancelled, which Dask only forgets."""

        def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
            if finish == "released" and start in ("executing", "long-running"):
                interrupt(key)

    worker.loop.add_callback(worker.plugin_add, Interrupts(), "penstock-interrupts")
