"""What users may give as `result_storage=`, told apart before anything is opened."""

from __future__ import annotations

import os
from typing import Any

from penstock.errors import ConfigurationError


def storage_of(given: Any) -> Any:
    """Return the address, path or store that a `result_storage=` argument stands for.

    Accepts an object with a `store` or `result_storage` attribute, and Prefect's file system blocks (by `basepath`).
    Raises `ConfigurationError` for anything else.
    """
    if given is None or isinstance(given, os.PathLike):
        return given
    if isinstance(given, str):
        if given.partition("/")[0] in _BLOCKS and given.count("/") == 1:
            raise ConfigurationError(
                f"result_storage cannot be {given!r}",
                because="it is the name of one of Prefect's saved blocks, which Penstock does not have",
                hint='pass an address such as "s3://bucket/folder", or the path of a folder',
            )
        return given
    for name in ("store", "result_storage"):
        if hasattr(given, name):  # a result store of Penstock or Prefect
            return storage_of(getattr(given, name))
    if isinstance(getattr(given, "basepath", None), str | os.PathLike):
        return os.path.abspath(os.path.expanduser(os.fspath(given.basepath)))
    if isinstance(getattr(given, "url", None), str) and hasattr(given, "put_if_absent"):
        return given
    raise ConfigurationError(
        f"result_storage cannot be a {type(given).__name__}",
        because="it must be an address, a path or a store",
        hint='pass "s3://bucket/folder", a path, or an object such as LocalStore(folder)',
    )


_BLOCKS = frozenset(
    {
        "azure-blob-storage-container",
        "azure-blob-storage-credentials",
        "gcs",
        "gcs-bucket",
        "github",
        "local-file-system",
        "remote-file-system",
        "s3",
        "s3-bucket",
        "smb",
    }
)
"""The types of Prefect's blocks that can hold results."""
