"""Locks with leases: who may compute a key now. One manager per reach: this process, this machine, any machine."""

from typing import TYPE_CHECKING, Any

from penstock.locks.addresses import lock_manager_from
from penstock.locks.base import Holder, Lease, LockManager, Outcome, Session, Wakeup
from penstock.locks.filesystem import FileSystemLockManager
from penstock.locks.memory import MemoryLockManager
from penstock.locks.slots import SlotLockManager
from penstock.locks.storage import StorageLockManager
from penstock.storage.stores import Reach

if TYPE_CHECKING:
    from penstock.locks.redis import RedisLockManager

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


def __getattr__(name: str) -> Any:
    # Loaded when it is first asked for: few runs have a Redis, and all of them import this.
    if name != "RedisLockManager":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from penstock.locks.redis import RedisLockManager

    globals()[name] = RedisLockManager
    return RedisLockManager
