"""Digests of input files, for keys that contain their content."""

from __future__ import annotations

import os

from penstock.checksums import new_hash
from penstock.errors import ParameterError

DIGEST_BYTES = 20


def file_digest(path: str) -> str:
    """Return the digest of a file's content: 40 hex digits. Raises `ParameterError` if it cannot be read."""
    try:
        hasher = new_hash(nbytes=os.path.getsize(path))
        hasher.update_mmap(path)
    except OSError as error:
        raise ParameterError(
            f"cannot read the input file {path}",
            because=error.strerror or str(error),
            hint="create the file before the task is called: its content is part of the cache key",
        ) from None
    return hasher.hexdigest(length=DIGEST_BYTES)
