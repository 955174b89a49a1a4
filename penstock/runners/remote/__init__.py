"""The base of runners for clusters, for the driver and for workers.

An engine subclasses `RemoteEngine` (or `QueueingEngine`, `CollectingEngine`) and sends bundles. A worker reads a bundle
by its `Delivery` (a `Parcel` contains everything) and performs it with a `BundleWorker`. No module here depends on a
particular cluster.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.runners.remote.collecting import CollectedFlight, CollectingEngine
    from penstock.runners.remote.delivery import Delivery
    from penstock.runners.remote.engine import RemoteEngine, run_name
    from penstock.runners.remote.machines import Machines
    from penstock.runners.remote.parcels import Parcel, performed, unpacked_parcel
    from penstock.runners.remote.queueing import QueuedFlight, QueueingEngine
    from penstock.runners.remote.settings import ClusterRunner
    from penstock.runners.remote.under_way import InFlight
    from penstock.runners.remote.workers.bundle_worker import BundleWorker, InlineWorker

__all__ = [
    "BundleWorker",
    "ClusterRunner",
    "CollectedFlight",
    "CollectingEngine",
    "Delivery",
    "InFlight",
    "InlineWorker",
    "Machines",
    "Parcel",
    "QueuedFlight",
    "QueueingEngine",
    "RemoteEngine",
    "performed",
    "run_name",
    "unpacked_parcel",
]

_HOMES = {
    "workers.bundle_worker": ("BundleWorker", "InlineWorker"),
    "collecting": ("CollectedFlight", "CollectingEngine"),
    "delivery": ("Delivery",),
    "engine": ("RemoteEngine", "run_name"),
    "machines": ("Machines",),
    "parcels": ("Parcel", "performed", "unpacked_parcel"),
    "queueing": ("QueuedFlight", "QueueingEngine"),
    "settings": ("ClusterRunner",),
    "under_way": ("InFlight",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:  # imported on use: a runner may never be opened
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(name)
