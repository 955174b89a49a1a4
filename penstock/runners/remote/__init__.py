"""What runners for clusters have in common, on both sides: the base of an engine, and of what its workers do.

An engine subclasses `RemoteEngine` (or `QueueingEngine`, `CollectingEngine`) and sends bundles. Its workers say what
came with one (`Delivery`; a `Parcel` has it all) and perform it with a `BundleWorker`. Nothing here knows an engine.
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
        if name in names:  # on use: what is here is imported by settings of runners that may never open
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(name)
