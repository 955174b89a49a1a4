"""Files whose content is part of keys: what they contribute, and whether they have changed since.

The files of `Files(pattern)` are read for the first call of a task and count for its further calls as long as a
`FileWitness` finds them unchanged. It compares stamps. Only if one differs, it reads the file or lists the
folder again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from penstock.digests.python import combine
from penstock.errors import ParameterError

_WILDCARDS = frozenset("*?[")
_MOST_FILES = 500
"""The stamps of more files are only compared after the flow has asked for a value."""

Read = Sequence[tuple[str, str]]
"""Paths and digests of files."""


class FileAccess(Protocol):
    """How files are read; the graph itself opens none."""

    @property
    def file_digest(self) -> Callable[[str], str]: ...
    @property
    def expand(self) -> Callable[[str], list[str]]: ...


def read_files(
    pattern: str, access: FileAccess, unmatched: Callable[[str], None] | None = None
) -> tuple[str, list[tuple[str, str]]]:
    """Return the digest of a file, or of all files that match a pattern and their names below the first wildcard.

    The paths and digests of these files come with it. Calls `unmatched` with a pattern that no file matches.
    """
    if not _is_wild(pattern):
        known = access.file_digest(pattern)
        return known, [(pattern, known)]
    read = [(path, access.file_digest(path)) for path in sorted(access.expand(pattern))]
    if not read and unmatched is not None:
        unmatched(pattern)
    fixed = pattern[: min(pattern.index(wildcard) for wildcard in _WILDCARDS if wildcard in pattern)]
    names = [text for path, known in read for text in (_below(fixed, path), known)]
    return combine("files of pattern", names), read


def files_of_patterns(
    patterns: Iterable[str], access: FileAccess, unmatched: Callable[[str], None] | None = None
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Return the components of keys for the files of a policy, and the paths and digests of these. See `read_files`."""
    components, read = {}, list[tuple[str, str]]()
    for pattern in patterns:
        components[f"files.{pattern}"], found = read_files(pattern, access, unmatched)
        read += found
    return components, read


@contextmanager
def reading_files_of(task: str, parameter: str = "") -> Iterator[None]:
    """Name the task, and the parameter with the path, in errors about files that cannot be read in the block."""
    try:
        yield
    except ParameterError as error:
        error.where = error.where or f"task {task}" + (f", arguments[{parameter!r}]" if parameter else "")
        if parameter and "unreadable" in error.data:
            error.hint += "; if a task writes it, also pass wait_for=[future of that task]"
        raise


def files_changed(
    patterns: Iterable[str], read: Read, file_digest: Callable[[str], str], expand: Callable[[str], list[str]]
) -> bool:
    """Return whether one of these files has other content now, or patterns match other files. Raises like these."""
    if any(file_digest(path) != known for path, known in read):
        return True
    found = {path for pattern in patterns for path in (expand(pattern) if _is_wild(pattern) else [pattern])}
    return found != {path for path, _ in read}


class FileWitness:
    """Reads files, and knows later whether reading them again would find the same."""

    __slots__ = ("_access", "_asked", "_listed", "_read", "_stamp")

    def __init__(self, access: FileAccess, stamp: Callable[[str], object]) -> None:
        """Create a witness of nothing.

        Args:
            access: How files are read.
            stamp: Returns a value that equals a later one only if a file, or the list of files in a folder, did not
                change in between. None if there is none.
        """
        self._access, self._stamp = access, stamp
        self._listed: dict[str, tuple[object, list[str]]] = {}
        self._read: dict[str, tuple[object, str]] = {}
        self._asked = -1

    def file_digest(self, path: str) -> str:
        stamp = self._stamp(path)  # before the content, so that no change falls in between
        known = self._access.file_digest(path)
        self._read[path] = stamp, known
        return known

    def expand(self, pattern: str) -> list[str]:
        folder = _folder(pattern)
        stamp = self._stamp(folder) if folder is not None else None
        found = sorted(self._access.expand(pattern))
        self._listed[pattern] = stamp, found
        return found

    def changed(self, asked: int) -> bool:
        """Return whether files were changed, added or removed.

        Args:
            asked: How often the flow has asked for values so far. If it has again, everything is compared.
        """
        everything, self._asked = asked != self._asked, asked
        if any(self._lists_others(pattern, everything) for pattern in self._listed):
            return True
        return (everything or len(self._read) <= _MOST_FILES) and any(map(self._is_other, self._read))

    def _lists_others(self, pattern: str, everything: bool) -> bool:
        stamp, found = self._listed[pattern]
        folder = _folder(pattern)
        if not everything and (folder is None or self._stamp(folder) == stamp):
            return False
        return self.expand(pattern) != found

    def _is_other(self, path: str) -> bool:
        stamp, known = self._read[path]
        now = self._stamp(path)
        return now is None or (now != stamp and self.file_digest(path) != known)


def _is_wild(pattern: str) -> bool:
    return not _WILDCARDS.isdisjoint(pattern)


def _folder(pattern: str) -> str | None:
    """Return the folder that contains all files of a pattern; None if they may be in several."""
    folder = os.path.dirname(pattern)
    return None if _is_wild(folder) or "**" in pattern else folder or os.curdir


def _below(fixed: str, path: str) -> str:
    """Return the name of a file without the pattern's fixed prefix, so that it is the same on every machine."""
    if not path.startswith(fixed):
        raise ValueError(f"KeyContext.expand returned {path!r}, which does not begin with its pattern's {fixed!r}")
    return path[len(fixed) :].replace("\\", "/")
