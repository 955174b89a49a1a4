"""Locks in a folder, for the processes of one machine."""

from __future__ import annotations

import os
from typing import Any

from penstock.clocks import SYSTEM_CLOCK, Clock
from penstock.locks.slots import SlotLockManager
from penstock.storage.local import LocalStore

_LEFTOVER_SECONDS = 3600.0
"""A temporary file of this age belongs to a writer that was killed."""


class FileSystemLockManager(SlotLockManager):
    """Locks as small files below `lock_files_directory`, which is made when it is first used.

    Guarantee: at most one session that is not `lost` holds a key, among all processes of this machine that use the
    folder. A killed holder's keys are free at once (Linux) or within the lease; a holder that is stopped past its
    lease finds itself `lost` when it goes on. Waiters poll: `poll_seconds` is their first pause, doubling up to the
    last.

    Needs hard links; the first session tries them and raises `LockError` where there are none. Nothing is synced to
    disk: after a power cut there are no holders anyway. Machines that share the folder by NFS are kept apart as far
    as its `link` is atomic and its listings are fresh, which was not measured.

    Pickles to its settings; a worker that unpickles it can `join_session`.
    """

    def __init__(
        self,
        lock_files_directory: str | os.PathLike[str],
        *,
        lease_seconds: float | None = None,
        poll_seconds: tuple[float, float] = (0.01, 0.25),
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        # Absolute, because a worker that unpickles it may run in another folder.
        self._directory = os.path.abspath(os.path.expanduser(os.fspath(lock_files_directory)))
        self._files = LocalStore(self._directory, durable=False)
        super().__init__(
            self._files,
            reach="host",
            lease_seconds=lease_seconds,
            poll_seconds=poll_seconds,
            clock=clock,
        )

    def _prepare(self) -> None:
        super()._prepare()
        self._files.sweep(older_than=_LEFTOVER_SECONDS)

    @property
    def lock_files_directory(self) -> str:
        return self._directory

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self._directory, self._lease_seconds, self._poll_seconds)

    def __repr__(self) -> str:
        return f"FileSystemLockManager({self._directory!r})"


def _rebuilt(directory: str, lease_seconds: float, poll_seconds: tuple[float, float]) -> FileSystemLockManager:
    return FileSystemLockManager(directory, lease_seconds=lease_seconds, poll_seconds=poll_seconds)
