"""Folders below a root, opened one inside the other, so that symbolic links below the root are never followed.

The kernel resolves a path anew on every use, so a user who can write to one of its folders could place a link there
between a check and the use. Instead of checking, each folder is opened relative to its parent without following links,
and files are read, written and deleted by name inside an open folder.
"""

from __future__ import annotations

import errno
import os
import stat
from types import TracebackType

_ROOT = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY
_BELOW = _ROOT | os.O_NOFOLLOW
_PASSED = _BELOW | getattr(os, "O_PATH", 0)
"""For a folder in which a single name is looked up; on Linux, O_PATH is cheaper than opening it for reading."""


class Descent:
    """A chain of open folders from a root downwards. Going to another folder reuses the common part of the chain.

    A context manager, for use by one thread.
    """

    def __init__(self, root: str) -> None:
        """Open the root, which may itself be a link. Raises `OSError`."""
        self._files = [os.open(root, _ROOT)]
        self._names: list[str] = []
        self._at = ""
        self.made: list[str] = []
        """The folders that were missing, and are there now."""

    def __enter__(self) -> Descent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._up(-1)

    def to(self, folder: str, *, make: bool = False) -> int:
        """Return the descriptor of a folder (`a/b`; empty for the root), valid until the next call.

        `make` creates missing folders. Raises `OSError`: `FileNotFoundError` if the folder is missing, `ELOOP` if it is
        a link.
        """
        if folder != self._at:
            wanted = folder.split("/") if folder else []
            pairs = enumerate(zip(self._names, wanted, strict=False))
            self._up(next((i for i, (a, b) in pairs if a != b), min(len(self._names), len(wanted))))
            for name in wanted[len(self._names) :]:
                self._down(name, make)
        return self._files[-1]

    def open(self, name: str, flags: int) -> int:
        """Open a file. Fast for successive names in sibling folders. Raises the errors of `to`."""
        folder, _, last = name.rpartition("/")
        above, _, own = folder.rpartition("/")
        file = self._files[-1] if above == self._at else self.to(above)
        if not own:
            return os.open(last, flags, dir_fd=file)
        try:
            inner = os.open(own, _PASSED, dir_fd=file)
        except NotADirectoryError:
            raise _no_folder(file, own) from None
        try:
            return os.open(last, flags, dir_fd=inner)
        finally:
            os.close(inner)

    def opened(self) -> list[int]:
        """Return the descriptors of all open folders, from the deepest to the root."""
        return self._files[::-1]

    def _up(self, depth: int) -> None:
        del self._names[max(depth, 0) :]
        self._at = "/".join(self._names)
        while len(self._files) > depth + 1:
            os.close(self._files.pop())

    def _down(self, name: str, make: bool) -> None:
        above, place = self._files[-1], f"{self._at}/{name}" if self._at else name
        try:
            file = os.open(name, _BELOW, dir_fd=above)
        except FileNotFoundError:
            if not make:
                raise
            try:
                os.mkdir(name, 0o700, dir_fd=above)
            except FileExistsError:
                pass  # created by another writer meanwhile
            self.made.append(place)
            file = os.open(name, _BELOW, dir_fd=above)
        except NotADirectoryError:
            raise _no_folder(above, name) from None
        self._files.append(file)
        self._names.append(name)
        self._at = place


def _no_folder(above: int, name: str) -> OSError:
    """Return the error for a name that is not a folder. Some systems report ENOTDIR for a link, too."""
    try:
        is_link = stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode)
    except FileNotFoundError as error:
        return error  # deleted meanwhile
    code = errno.ELOOP if is_link else errno.ENOTDIR
    return OSError(code, os.strerror(code), name)
