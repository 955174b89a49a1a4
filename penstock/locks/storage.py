"""Locks in a result store: SERIALIZABLE with nothing but a folder or a bucket."""

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
"""Requests under way at once, where many keys are locked in a store far away."""


class StorageLockManager(SlotLockManager):
    """Locks as small objects in the folder `locks` of a store.

    Guarantee: at most one session that is not `lost` holds a key, among all that use the store, if its
    `put_if_absent` is atomic and its listings show what was written before they began. The first session tries the
    former and raises `LockError` where it is not so. A killed holder's keys are free within its lease plus one poll;
    a holder paused past its lease finds itself `lost`. No clocks are compared.

    A session costs one small write in a third of its lease, a lock three or four requests, and each waiter a few
    requests per poll. `poll_seconds` is the pause between two polls of a waiter: the first, doubling up to the last.
    So a release is noticed after half a second at the soonest: where many wait for short work, Redis is better.

    The folder `locks` of a local store is what locks its keys by default, too: the two exclude each other, and are
    the same (see `FileSystemLockManager`).

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
        """`store` is a store, its address or its folder. Raises `ConfigurationError` for an address of no known
        kind."""
        self._whole: Store = open_store(store) if isinstance(store, str | os.PathLike) else store
        folder = self._whole.local_path("locks")
        self.near = folder is not None or self._whole.reach == "process"
        """Whether asking it costs no requests over a network."""
        # Whoever reaches the store shares its locks, and workers that do not reach it can run nothing anyway.
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
    """The part of a store below `locks/`, as a `SlotStore` of its own."""

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
