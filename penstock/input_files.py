"""Digests of users' input files, for keys that follow what a file holds."""

from __future__ import annotations

import os

from penstock.checksums import new_hash
from penstock.errors import ParameterError

DIGEST_BYTES = 20


def file_digest(path: str) -> str:
    """The digest of a file's content: 40 hex digits. Raises `ParameterError` if it cannot be read."""
    try:
        hasher = new_hash(nbytes=os.path.getsize(path))
        hasher.update_mmap(path)
    except OSError as error:
        raise ParameterError(
            f"cannot read the input file {path}",
            because=error.strerror or str(error),
            hint="the cache key is made of what the file holds, so it has to be there when the task is called",
        ) from None
    return hasher.hexdigest(length=DIGEST_BYTES)
