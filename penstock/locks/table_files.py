"""Create, extend, read and remove the files of claims in a folder of this machine.

Each addition is one write to the end of a file that is opened by name each time, so that no file stays open or is
inherited by a fork. Only files that a session may have created are accessed, because the folder may contain others.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from collections.abc import Iterator

from penstock.errors import LockError, LocksUnreachable

_NAME = re.compile(r"[0-9a-f]{32}")
_TRIES = 10
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class TableFiles:
    """The files that `locks/tables` needs: a read that begins after a write returned shows that write."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    @property
    def folder(self) -> str:
        return self._folder

    def names(self) -> list[str]:
        """Return the sessions that have a file throughout this call, and possibly others."""
        with self._opened() as folder:
            return [] if folder is None else [name for name in os.listdir(folder) if _NAME.fullmatch(name)]

    def create(self, name: str, data: bytes) -> None:
        """Create a file with this content. Raises `LockError` if it exists or cannot be created."""
        for _ in range(_TRIES):
            with self._told("writing"):
                os.makedirs(self._folder, 0o700, exist_ok=True)
            # A clean-up may remove the folder while it is empty.
            with self._opened() as folder, contextlib.suppress(FileNotFoundError):
                if folder is not None:
                    self._write(folder, name, data, os.O_CREAT | os.O_EXCL)
                    return
        raise LocksUnreachable("the lock folder was removed", where=self._folder)

    def append(self, name: str, data: bytes) -> bool:
        """Add to a file. Returns False if it does not exist or was removed meanwhile; then nobody sees the addition."""
        with self._opened() as folder:
            try:
                return folder is not None and self._write(folder, name, data, 0)
            except FileNotFoundError:
                return False

    def read(self, name: str, start: int) -> bytes | None:
        """Return the bytes of a file from `start` on; None if it does not exist."""
        with self._opened() as folder:
            if folder is None:
                return None
            try:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if not stat.S_ISREG(found.st_mode):
                    return None  # no session created it
                if found.st_size == start:
                    return b""
                file = os.open(name, os.O_RDONLY | _FILE, dir_fd=folder)
            except FileNotFoundError:
                return None
            try:
                found = os.fstat(file)
                data = b""
                while start + len(data) < found.st_size:
                    if not (more := os.pread(file, found.st_size - start - len(data), start + len(data))):
                        break
                    data += more
                return data
            finally:
                os.close(file)

    def remove(self, name: str) -> None:
        """Remove the file of a session, which ends it. Does nothing if it does not exist."""
        with self._opened() as folder, contextlib.suppress(FileNotFoundError):
            if folder is not None:
                os.unlink(name, dir_fd=folder)

    def age(self, name: str) -> float:
        """Return the seconds since the last addition, by the machine's clock; 0 if the file does not exist."""
        with self._opened() as folder, contextlib.suppress(FileNotFoundError):
            if folder is not None:
                return time.time() - os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime
        return 0.0

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int | None]:
        """Yield the descriptor of the folder, or None if it does not exist. A link in its place is not followed."""
        with self._told("reading"):
            try:
                folder = os.open(self._folder, _FOLDER)
            except FileNotFoundError:
                folder = None
        try:
            with self._told("writing"):
                yield folder
        finally:
            if folder is not None:
                os.close(folder)

    def _write(self, folder: int, name: str, data: bytes, flags: int) -> bool:
        file = os.open(name, os.O_WRONLY | os.O_APPEND | _FILE | flags, 0o600, dir_fd=folder)
        try:
            # One call, so that additions of several processes do not mix.
            if os.write(file, data) < len(data):
                raise OSError(errno.ENOSPC, "only a part was written")
            return os.fstat(file).st_nlink > 0
        finally:
            os.close(file)

    @contextlib.contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            because = os.strerror(error.errno) if error.errno else str(error)
            if error.errno in _REFUSED:
                raise LockError(
                    "the lock folder cannot be written",
                    where=self._folder,
                    because=because,
                    hint="set PENSTOCK_LOCKS to a folder that this user can write to",
                ) from error
            raise LocksUnreachable(f"{doing} the locks failed", where=self._folder, because=because) from error


_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENXIO}
