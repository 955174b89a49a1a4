"""Folders below a root, opened one inside the other: no link on the way down is followed, whoever plants one and when.

A path is looked up by the kernel anew each time, and whoever may write into one of its folders can put a link there
between a check and the use. So there is no check: each folder is opened from the one above it, without following links,
and everything is read, written and deleted by a name inside an open folder.
"""

from __future__ import annotations

import errno
import os
import stat
from types import TracebackType

_ROOT = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY
_BELOW = _ROOT | os.O_NOFOLLOW
_PASSED = _BELOW | getattr(os, "O_PATH", 0)
"""For a folder in which one name is looked up; on Linux it costs less not to open it for reading."""


class Descent:
    """Open folders from a root down to one of them. The next one that is asked for reuses what it shares with it.

    For one thread, and to be closed: it is a context manager.
    """

    def __init__(self, root: str) -> None:
        """The root itself may be a link. Raises `OSError`."""
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
        """The folder (`a/b`, empty for the root), open until the next call; with `make` it is made if it is missing.

        Raises `OSError`: `FileNotFoundError` where it is missing, `ELOOP` where a link is in its place.
        """
        if folder != self._at:
            wanted = folder.split("/") if folder else []
            pairs = enumerate(zip(self._names, wanted, strict=False))
            self._up(next((i for i, (a, b) in pairs if a != b), min(len(self._names), len(wanted))))
            for name in wanted[len(self._names) :]:
                self._down(name, make)
        return self._files[-1]

    def open(self, name: str, flags: int) -> int:
        """The file `name`, opened. Quick where names are in folders beside each other. Raises as `to`."""
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
        """Every open folder, the deepest first and the root last."""
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
                pass  # another writer was quicker
            self.made.append(place)
            file = os.open(name, _BELOW, dir_fd=above)
        except NotADirectoryError:
            raise _no_folder(above, name) from None
        self._files.append(file)
        self._names.append(name)
        self._at = place


def _no_folder(above: int, name: str) -> OSError:
    """What it means that a folder cannot be opened because it is none: of a link, too, some systems say that."""
    try:
        is_link = stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode)
    except FileNotFoundError as error:
        return error  # it is gone
    code = errno.ELOOP if is_link else errno.ENOTDIR
    return OSError(code, os.strerror(code), name)
