"""Input files whose content is part of keys: digests, matches of patterns, and stamps that show changes."""

from __future__ import annotations

import os
import time

from penstock.checksums import new_hash
from penstock.errors import ParameterError

DIGEST_BYTES = 20
_TICK = 50_000_000
"""Nanoseconds within which two changes of a file may get the same time."""
_COARSE_TICK = 2_100_000_000
"""The same for file systems that store no fractions of a millisecond; FAT stores every second second."""


def file_digest(path: str) -> str:
    """Return the digest of a file's content: 40 hex digits. Raises `ParameterError` if it cannot be read."""
    try:
        hasher = new_hash(nbytes=os.path.getsize(path))
        hasher.update_mmap(path)
    except OSError as error:
        if os.path.isdir(path):
            raise ParameterError(
                f"the input file {path} is a folder",
                hint="pass the list of its files, or name them in the policy by a pattern: Files('folder/*.csv')",
            ) from None
        raise ParameterError(
            f"cannot read the input file {path}",
            because=error.strerror or str(error),
            hint="create the file before the task is called: its content is part of the cache key",
            unreadable=path,
        ) from None
    return hasher.hexdigest(length=DIGEST_BYTES)


def matching_files(pattern: str) -> list[str]:
    """Return the files that match a `Files(...)` pattern, sorted."""
    import glob  # only needed by tasks that use Files

    return sorted(p for p in glob.glob(pattern, recursive=True) if os.path.isfile(p))


def file_stamp(path: str) -> object:
    """Return a value that equals a later one only if a file, or the list of files in a folder, did not change since.

    A file that was changed a moment ago may change again within the resolution of its time. Its stamp equals no other.
    """
    now = time.time_ns()
    try:
        found = os.stat(path)
    except OSError:
        return None
    changed = found.st_ctime_ns  # unlike the time of modification, it cannot be set
    if abs(now - changed) < (_TICK if changed % 1_000_000 else _COARSE_TICK):
        return object()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, changed
