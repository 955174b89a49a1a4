"""Locks in a folder: by tables if only this machine can access it, otherwise by epochs; never by both at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from penstock.clocks import Clock
from penstock.errors import LockError
from penstock.locks.base import Damage, Holder, Session
from penstock.locks.file_systems import is_local
from penstock.locks.slots import SlotLockManager, store_failures_are_lock_errors
from penstock.locks.table_files import TableFiles
from penstock.locks.table_sessions import TableLocks
from penstock.storage.stores.base import Reach
from penstock.storage.stores.local import LocalStore

_CLAIMS = "claims"
_LEFTOVER_SECONDS = 3600.0
"""The age at which a temporary file is taken to belong to a killed writer, in seconds."""


class FolderLocks:
    """The locks of one folder.

    A folder on a local disk may be a network folder for another machine. So each session, after it opened by one kind,
    looks for living sessions of the other kind. If two sessions open at the same time, at least one sees the other.
    """

    def __init__(
        self,
        folder: str,
        *,
        reach: Reach,
        lease_seconds: float | None,
        poll_seconds: tuple[float, float],
        clock: Clock,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._by_tables: bool | None = None
        self._swept = False
        self.tables = TableLocks(
            TableFiles(os.path.join(folder, _CLAIMS)),
            lease_seconds=lease_seconds,
            poll_seconds=poll_seconds,
            clock=clock,
        )
        self._files = LocalStore(folder, durable=False)
        self.epochs = SlotLockManager(
            self._files, reach=reach, lease_seconds=lease_seconds, poll_seconds=poll_seconds, clock=clock
        )

    @property
    def by_tables(self) -> bool:
        """Whether the folder is on a file system that only this machine can access."""
        if self._by_tables is None:
            self._by_tables = is_local(self._folder)
        return self._by_tables

    def open_session(
        self,
        *,
        info: dict[str, str] | None = None,
        lease_seconds: float | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> Session:
        if not self.by_tables:
            self._sweep()
        session = self._kind().open_session(info=info, lease_seconds=lease_seconds, on_lost=on_lost)
        try:
            self._refuse_the_other_kind()
        except BaseException:
            session.close()
            raise
        return session

    @store_failures_are_lock_errors
    def _sweep(self) -> None:
        if not self._swept:
            self._files.sweep(older_than=_LEFTOVER_SECONDS)
            self._swept = True

    def ping(self) -> None:
        self._kind().ping()

    def join_session(self, session_id: str) -> Session:
        return self._kind().join_session(session_id)

    def ls(self) -> list[Holder]:
        return self._kind().ls()

    def break_lock(self, key: str, fencing_token: int) -> bool:
        return self._kind().break_lock(key, fencing_token)

    def repair(self, *, dry_run: bool = False) -> list[Damage]:
        """Repair the objects of both kinds. Those of the unused kind block nothing, but would stay for ever."""
        return self.tables.repair(dry_run=dry_run) + self.epochs.repair(dry_run=dry_run)

    def _kind(self) -> TableLocks | SlotLockManager:
        return self.tables if self.by_tables else self.epochs

    def _refuse_the_other_kind(self) -> None:
        others = self._others()
        if others:
            # Sessions without a heartbeat for a full lease are dead.
            self._clock.wait(threading.Event(), 1.1 * max(others.values()))
            others = self._others()
        if others:
            raise LockError(
                "the lock folder is used locally and over a network at the same time",
                where=self._folder,
                because="the two kinds of access do not see each other's locks",
                hint="use Redis for the locks (PENSTOCK_LOCKS=redis://…), or a folder that is local to all or to none",
            )

    def _others(self) -> dict[str, float]:
        """Return the sessions of the other kind that may be alive, with the seconds for which they may be."""
        return self.epochs.living() if self.by_tables else self.tables.living()
