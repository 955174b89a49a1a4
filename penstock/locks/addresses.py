"""Create the lock manager that a setting names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from penstock.errors import ConfigurationError
from penstock.locks.base import DEFAULT_LEASE_SECONDS, LockManager
from penstock.plugins import load_plugin, plugin_names
from penstock.redis.schemes import REDIS_SCHEMES
from penstock.storage.stores.base import Store


def lock_manager_from(setting: str, *, lease_seconds: float | None = None, store: Store | None = None) -> LockManager:
    """Create the lock manager that a setting names, without connecting to it or creating anything.

    A word without a separator is never a folder, so a misspelt name does not create locks that nobody else uses.

    Args:
        setting: `memory` (one manager for the whole process), `store` (locks in `store`), a Redis
            (`redis://host:6379/0`), a folder (`/var/lock/penstock`, `./locks`, `~/locks`, `file:///…`), or an address
            that another package adds (penstock.plugins).
        lease_seconds: The lease; by default that of the manager.
        store: The store for the setting `store`.

    Raises:
        ConfigurationError: The setting names no lock manager, or is invalid for it.
    """
    scheme, separator, _ = setting.partition("://")
    if setting == "store" and store is not None:
        from penstock.locks.storage import StorageLockManager

        return StorageLockManager(store, lease_seconds=lease_seconds)
    if opener := _OPENERS.get(scheme if separator else setting):
        return opener(setting, lease_seconds)
    if separator and (added := load_plugin("penstock.locks", scheme)):
        manager: LockManager = added(setting, lease_seconds=lease_seconds)
        return manager
    if not separator and (os.sep in setting or setting.startswith((".", "~"))):
        if re.search(r"\?\w+=[^/]*$", setting):
            hint = "write file:///folder with %3F for a ? in the name of a folder"
            raise ConfigurationError("addresses of lock folders have no options", where=setting, hint=hint)
        return _in_folder(setting, lease_seconds)
    raise ConfigurationError(
        f"no lock manager is called {scheme + '://' if separator else repr(setting)}",
        because=f"there are {', '.join(sorted([*_KNOWN, *(f'{name}://' for name in plugin_names('penstock.locks'))]))}",
        hint="for example PENSTOCK_LOCKS=/var/lock/penstock, or redis://host:6379/0",
    )


# Each kind is imported when it is used: a run uses one of them.


def _open_memory(setting: str, lease_seconds: float | None) -> LockManager:
    from penstock.locks.memory import PROCESS_WIDE
    from penstock.locks.sessions import checked_lease

    checked_lease(lease_seconds, DEFAULT_LEASE_SECONDS)
    return PROCESS_WIDE


def _in_folder(folder: str, lease_seconds: float | None) -> LockManager:
    from penstock.locks.filesystem import FileSystemLockManager

    return FileSystemLockManager(folder, lease_seconds=lease_seconds)


def _open_file(setting: str, lease_seconds: float | None) -> LockManager:
    parts = urlsplit(setting)
    if parts.query or parts.fragment:
        hint = "write %3F for a ? and %23 for a # in the name of a folder"
        raise ConfigurationError("addresses of lock folders have no options", where=setting, hint=hint)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise ConfigurationError(
            "a file address names an absolute path", where=setting, hint="three slashes: file:///var/lock/penstock"
        )
    return _in_folder(unquote(parts.path), lease_seconds)


def _open_redis(setting: str, lease_seconds: float | None) -> LockManager:
    from penstock.locks.redis.manager import RedisLockManager

    return RedisLockManager.from_url(setting, lease_seconds=lease_seconds)


_OPENERS: dict[str, Callable[[str, float | None], LockManager]] = {
    "memory": _open_memory,
    "file": _open_file,
    **dict.fromkeys(REDIS_SCHEMES, _open_redis),
}
_KNOWN = [
    "memory",
    "store",
    "file:///folder",
    "a folder (/folder, ./folder, ~/folder)",
    "redis://host",
    "rediss://host",
]
