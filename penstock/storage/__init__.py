"""Storage: stores of bytes, records of results, and serializers. Independent of graphs and locks."""

from penstock.storage.formats.base import Serializer
from penstock.storage.records.records import About
from penstock.storage.stores.addresses import open_store
from penstock.storage.stores.base import (
    MAX_RECORD_BYTES,
    AppendStore,
    Listed,
    PayloadStore,
    Reach,
    SlotStore,
    Store,
    SweepStore,
    check_name,
    check_record,
)
from penstock.storage.stores.local import LocalStore
from penstock.storage.stores.memory import MemoryStore

__all__ = [
    "MAX_RECORD_BYTES",
    "About",
    "AppendStore",
    "Listed",
    "LocalStore",
    "MemoryStore",
    "PayloadStore",
    "Reach",
    "Serializer",
    "SlotStore",
    "Store",
    "SweepStore",
    "check_name",
    "check_record",
    "open_store",
]
