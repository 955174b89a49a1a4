"""Locks in a folder, for the processes of one machine: `FileSystemLockManager`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from penstock.clocks import SYSTEM_CLOCK, Clock
from penstock.locks.base import Damage, Holder, Session
from penstock.locks.folders import FolderLocks
from penstock.locks.sessions import checked_lease
from penstock.storage.stores.base import Reach


class FileSystemLockManager:
    """Locks in a folder.

    Guarantee: at most one session that is not `lost` holds a key, among all processes of this machine that use the
    folder. The keys of a killed holder are free at once (Linux) or within the lease. A holder that was stopped for
    longer than its lease finds its session `lost` when it continues. Waiters poll.

    On a local disk each session has one file, which is removed with the session; thousands of keys are locked with a
    few system calls. On any other file system (such as NFS) each key has a numbered file. Machines that share such a
    folder exclude each other if `link` is atomic there and listings are current, which has not been measured. Sessions
    of the two kinds refuse to work beside each other.

    Nothing is synced to disk, because a power cut also ends the holders. Files that a power cut damaged hold no locks.

    Pickles to its settings. A worker that unpickles it can call `join_session`.

    Args:
        lock_files_directory: The folder. It is created on first use.
        lease_seconds: The lease of sessions that are opened without one; by default `DEFAULT_LEASE_SECONDS`.
        poll_seconds: The pause between two polls of a waiter: the first, doubled after each poll up to the second.
        clock: The clock, for tests.

    Raises:
        ConfigurationError: The lease is not a positive number of seconds.
    """

    reach: Reach = "host"

    def __init__(
        self,
        lock_files_directory: str | os.PathLike[str],
        *,
        lease_seconds: float | None = None,
        poll_seconds: tuple[float, float] = (0.005, 0.1),
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        # Absolute, because a worker that unpickles it may run in another folder.
        self._directory = os.path.abspath(os.path.expanduser(os.fspath(lock_files_directory)))
        self._lease_seconds = None if lease_seconds is None else checked_lease(lease_seconds)
        self._poll_seconds = poll_seconds
        self._locks = FolderLocks(
            self._directory,
            reach=self.reach,
            lease_seconds=self._lease_seconds,
            poll_seconds=poll_seconds,
            clock=clock,
        )

    @property
    def lock_files_directory(self) -> str:
        return self._directory

    @property
    def lease_seconds(self) -> float | None:
        """The lease that the manager was given, in seconds; None if it was given none."""
        return self._lease_seconds

    @property
    def batched(self) -> bool:
        """Whether locks are taken in batches, because the folder is on a local disk."""
        return self._locks.by_tables

    def open_session(
        self,
        *,
        info: dict[str, str] | None = None,
        lease_seconds: float | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> Session:
        return self._locks.open_session(info=info, lease_seconds=lease_seconds, on_lost=on_lost)

    def ping(self) -> None:
        self._locks.ping()

    def join_session(self, session_id: str) -> Session:
        return self._locks.join_session(session_id)

    def ls(self) -> list[Holder]:
        return self._locks.ls()

    def break_lock(self, key: str, fencing_token: int) -> bool:
        return self._locks.break_lock(key, fencing_token)

    def repair(self, *, dry_run: bool = False) -> list[Damage]:
        return self._locks.repair(dry_run=dry_run)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self._directory, self._lease_seconds, self._poll_seconds)

    def __repr__(self) -> str:
        return f"FileSystemLockManager({self._directory!r})"


def _rebuilt(directory: str, lease_seconds: float | None, poll_seconds: tuple[float, float]) -> FileSystemLockManager:
    return FileSystemLockManager(directory, lease_seconds=lease_seconds, poll_seconds=poll_seconds)
