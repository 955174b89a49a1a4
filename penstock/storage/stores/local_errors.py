"""Translating errors of the operating system for stores in folders."""

from __future__ import annotations

import errno
import os

from penstock.errors import StoreError, StoreFull, StoreNotWritable, StoreUnreachable

NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_FILE = {errno.ENXIO, errno.EISDIR, errno.EAGAIN, errno.EOPNOTSUPP}
_FULL = {errno.ENOSPC, errno.EDQUOT}


class NoOrdinaryFile(StoreError):
    """There is a link, pipe, folder or the like in place of a file."""


def translated(error: OSError, doing: str, path: str) -> StoreError:
    """Translate an OSError to an error of the store."""
    because = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in _FULL:
        return StoreFull(
            "the store is full",
            where=path,
            because=because,
            hint="free some space, then run it again",
        )
    if error.errno == errno.ELOOP:
        return NoOrdinaryFile(
            "refused to follow a symbolic link in the store",
            where=path,
            hint="remove the link",
        )
    if error.errno in _NO_FILE:
        return NoOrdinaryFile(
            "refused an entry of the store that is not a regular file",
            where=path,
            because="there is a pipe, socket, device or folder in place of a file",
            hint="remove it",
        )
    if error.errno == errno.ENOTDIR or (doing == "writing" and error.errno in _READ_ONLY):
        return StoreNotWritable(
            "the store is not writable",
            where=path,
            because=because,
            hint="grant this user write permission, or choose another store with PENSTOCK_STORE",
        )
    return StoreUnreachable(f"{doing} failed", where=path, because=because)
