"""What an error of the operating system means for a store in a folder."""

from __future__ import annotations

import errno
import os

from penstock.errors import StoreError, StoreFull, StoreNotWritable, StoreUnreachable

NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_FILE = {errno.ENXIO, errno.EISDIR, errno.EAGAIN, errno.EOPNOTSUPP}
_FULL = {errno.ENOSPC, errno.EDQUOT}


class NoOrdinaryFile(StoreError):
    """A link, a pipe, a folder or the like lies where a file has to be: nothing that a store writes."""


def translated(error: OSError, doing: str, path: str) -> StoreError:
    """What an OSError means for the store: the one place that decides."""
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
            "refused what is no ordinary file in the store",
            where=path,
            because="a pipe, a socket, a device or a folder lies where a file has to be",
            hint="remove it",
        )
    if error.errno == errno.ENOTDIR or (doing == "writing" and error.errno in _READ_ONLY):
        return StoreNotWritable(
            "the store cannot be written",
            where=path,
            because=because,
            hint="choose a folder that this user may write",
        )
    return StoreUnreachable(f"{doing} failed", where=path, because=because)
