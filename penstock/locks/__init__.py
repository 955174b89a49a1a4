"""Locks with leases: who may compute a key now. One manager per reach: this process, this machine, any machine."""

from penstock.locks.addresses import lock_manager_from
from penstock.locks.base import Holder, Lease, LockManager, Outcome, Session, Wakeup
from penstock.locks.filesystem import FileSystemLockManager
from penstock.locks.memory import MemoryLockManager
from penstock.locks.redis import RedisLockManager
from penstock.locks.slots import SlotLockManager
from penstock.locks.storage import StorageLockManager
from penstock.storage.stores import Reach

__all__ = [
    "FileSystemLockManager",
    "Holder",
    "Lease",
    "LockManager",
    "MemoryLockManager",
    "Outcome",
    "Reach",
    "RedisLockManager",
    "Session",
    "SlotLockManager",
    "StorageLockManager",
    "Wakeup",
    "lock_manager_from",
]
