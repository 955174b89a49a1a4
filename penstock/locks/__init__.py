"""Locks with leases, so that concurrent runs do not compute the same key at the same time."""

import importlib
from typing import TYPE_CHECKING, Any

from penstock.locks.addresses import lock_manager_from
from penstock.locks.base import Holder, Lease, LockManager, LockOutcome, Session, Wakeup
from penstock.storage.stores.base import Reach

Outcome = LockOutcome
"""The older name of `LockOutcome`."""

if TYPE_CHECKING:
    from penstock.locks.filesystem import FileSystemLockManager
    from penstock.locks.memory import MemoryLockManager
    from penstock.locks.redis.manager import RedisLockManager
    from penstock.locks.slots import SlotLockManager
    from penstock.locks.storage import StorageLockManager

__all__ = [
    "FileSystemLockManager",
    "Holder",
    "Lease",
    "LockManager",
    "LockOutcome",
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

_ON_USE = {
    "FileSystemLockManager": "penstock.locks.filesystem",
    "MemoryLockManager": "penstock.locks.memory",
    "RedisLockManager": "penstock.locks.redis.manager",
    "SlotLockManager": "penstock.locks.slots",
    "StorageLockManager": "penstock.locks.storage",
}


def __getattr__(name: str) -> Any:
    # A run uses one of the managers; programs that run no flow need none.
    if name not in _ON_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    manager = globals()[name] = getattr(importlib.import_module(_ON_USE[name]), name)
    return manager
