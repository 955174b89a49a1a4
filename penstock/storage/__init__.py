"""Where results live: stores of bytes, records over them, serializers. Knows nothing of graphs and locks."""

from penstock.storage.addresses import open_store
from penstock.storage.local import LocalStore
from penstock.storage.memory import MemoryStore
from penstock.storage.stores import (
    AppendStore,
    Listed,
    PayloadStore,
    SlotStore,
    Store,
    SweepStore,
)

__all__ = [
    "AppendStore",
    "Listed",
    "LocalStore",
    "MemoryStore",
    "PayloadStore",
    "SlotStore",
    "Store",
    "SweepStore",
    "open_store",
]
