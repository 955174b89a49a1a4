"""Locks in a result store, so that SERIALIZABLE needs only a folder or a bucket: `StorageLockManager`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from penstock.clocks import SYSTEM_CLOCK, Clock
from penstock.locks.base import Damage, Holder, Session
from penstock.locks.folders import FolderLocks
from penstock.locks.slots import SlotLockManager
from penstock.storage import open_store
from penstock.storage.stores.base import Listed, Reach, SlotStore, Store

_FOLDER = "locks/"
_CONCURRENCY = 16
"""The number of parallel requests when many keys are locked in a remote store."""


class StorageLockManager(SlotLockManager):
    """Locks as small objects in the folder `locks` of a store.

    Guarantee: at most one session that is not `lost` holds a key, among all that use the store, if its
    `put_if_absent` is atomic and its listings show all that was written before they began. The first session tests the
    former, and raises `LockError` if it is not so. The keys of a killed holder are free within its lease plus one poll.
    A holder that was paused for longer than its lease finds its session `lost`. No clocks are compared.

    A session costs one small write per third of its lease, a lock three or four requests, and each waiter a few
    requests per poll. By default a waiter notices a release after half a second at the earliest; if many waiters wait
    for short work, use Redis.

    The default locks of a local store are also in its folder `locks`. Both are the same locks, and exclude each other
    (see `FileSystemLockManager`).

    Pickles with its store, without secrets.
    """

    def __init__(
        self,
        store: Store | str | os.PathLike[str],
        *,
        lease_seconds: float | None = None,
        poll_seconds: tuple[float, float] = (0.5, 5.0),
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Create a manager. Does not access the store.

        Args:
            store: A store, its address or its folder.
            lease_seconds: The lease of sessions that are opened without one; by default `DEFAULT_LEASE_SECONDS`.
            poll_seconds: The pause between two polls of a waiter: the first, doubled after each poll up to the second.
            clock: The clock, for tests.

        Raises:
            ConfigurationError: The address or the lease is invalid.
        """
        self._whole: Store = open_store(store) if isinstance(store, str | os.PathLike) else store
        folder = self._whole.local_path("locks")
        self.near = folder is not None or self._whole.reach == "process"
        """Whether the store is accessed without a network."""
        # All processes that reach the store share its locks. Workers that do not reach it cannot run anything.
        reach: Reach = "process" if self._whole.reach == "process" else "network"
        super().__init__(
            _Folder(self._whole),
            reach=reach,
            lease_seconds=lease_seconds,
            poll_seconds=poll_seconds,
            clock=clock,
            concurrency=1 if self.near else _CONCURRENCY,
        )
        self._in_a_folder: FolderLocks | None = None
        if folder is not None:
            self._in_a_folder = FolderLocks(
                folder, reach=reach, lease_seconds=lease_seconds, poll_seconds=poll_seconds, clock=clock
            )

    @property
    def url(self) -> str:
        """The address of the store."""
        return self._whole.url

    def open_session(
        self,
        *,
        info: dict[str, str] | None = None,
        lease_seconds: float | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> Session:
        opener = super().open_session if self._in_a_folder is None else self._in_a_folder.open_session
        return opener(info=info, lease_seconds=lease_seconds, on_lost=on_lost)

    def join_session(self, session_id: str) -> Session:
        joiner = super().join_session if self._in_a_folder is None else self._in_a_folder.join_session
        return joiner(session_id)

    def ls(self) -> list[Holder]:
        return super().ls() if self._in_a_folder is None else self._in_a_folder.ls()

    def break_lock(self, key: str, fencing_token: int) -> bool:
        breaker = super().break_lock if self._in_a_folder is None else self._in_a_folder.break_lock
        return breaker(key, fencing_token)

    def repair(self, *, dry_run: bool = False) -> list[Damage]:
        repairer = super().repair if self._in_a_folder is None else self._in_a_folder.repair
        return repairer(dry_run=dry_run)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self._whole, self._lease_seconds, self._poll_seconds)

    def __repr__(self) -> str:
        return f"StorageLockManager({self._whole.url!r})"


def _rebuilt(store: Store, lease_seconds: float | None, poll_seconds: tuple[float, float]) -> StorageLockManager:
    return StorageLockManager(store, lease_seconds=lease_seconds, poll_seconds=poll_seconds)


class _Folder:
    """The part of a store below `locks/`, as a `SlotStore`."""

    def __init__(self, store: SlotStore) -> None:
        self._store = store

    def get(self, name: str) -> bytes | None:
        return self._store.get(_FOLDER + name)

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        return self._store.get_many([_FOLDER + name for name in names])

    def put_if_absent(self, name: str, data: bytes) -> bool:
        return self._store.put_if_absent(_FOLDER + name, data)

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        self._store.put(_FOLDER + name, data, durable=durable)

    def delete(self, name: str) -> None:
        self._store.delete(_FOLDER + name)

    def list(self, prefix: str) -> Iterator[Listed]:
        for entry in self._store.list(_FOLDER + prefix):
            yield replace(entry, name=entry.name.removeprefix(_FOLDER))
