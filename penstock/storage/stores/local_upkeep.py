"""Maintenance of a store's folder: leftovers of killed writers, empty folders, disk usage."""

from __future__ import annotations

import contextlib
import os
import time

from penstock.storage.stores.folders import Descent

_BLOCK = 512
"""The unit of `st_blocks` in bytes, independent of the file system."""


def sweep(root: str, temporary: str, *, older_than: float) -> int:
    """Remove files in the folder `temporary` that are older than a number of seconds. Return how many."""
    removed = 0
    with Descent(root) as descent:
        folder = descent.to(temporary)
        with os.scandir(folder) as found:
            names = [entry.name for entry in found if not entry.is_dir(follow_symlinks=False)]
        for name in names:
            try:
                modified = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime
                if time.time() - modified >= older_than:
                    os.unlink(name, dir_fd=folder)
                    removed += 1
            except FileNotFoundError:
                continue  # removed meanwhile by its writer or another sweep
    return removed


def prune(root: str, *, older_than: float) -> int:
    """Remove folders below the root that have been empty for a number of seconds. Return how many.

    Writers recreate folders that are missing.
    """
    removed = 0
    with contextlib.suppress(FileNotFoundError):  # removed by another process
        for path, folders, _, here in os.fwalk(root, topdown=False):
            for name in folders:
                if "/." in f"{path}/{name}"[len(root) :]:
                    continue  # the store's own
                with contextlib.suppress(OSError):  # not empty, or removed meanwhile
                    found = os.stat(name, dir_fd=here, follow_symlinks=False)
                    if time.time() - found.st_mtime >= older_than:
                        os.rmdir(name, dir_fd=here)
                        removed += 1
    return removed


def disk_bytes(path: str) -> int:
    """Return the disk usage of a folder and everything below it; 0 if it does not exist."""
    total = 0
    with contextlib.suppress(FileNotFoundError):
        for _, _, files, here in os.fwalk(path):
            total += os.fstat(here).st_blocks
            for name in files:
                with contextlib.suppress(FileNotFoundError):
                    total += os.stat(name, dir_fd=here, follow_symlinks=False).st_blocks
    return total * _BLOCK
