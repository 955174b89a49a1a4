"""Looking after the folder of a store: what killed writers left, folders that became empty, what it takes on disk."""

from __future__ import annotations

import contextlib
import os
import time

from penstock.storage.stores.folders import Descent

_BLOCK = 512
"""Bytes of `st_blocks`, whatever the file system's own are."""


def sweep(root: str, temporary: str, *, older_than: float) -> int:
    """Remove files of the folder `temporary` that were last written so many seconds ago; returns how many."""
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
                continue  # its writer, or another sweep, was quicker
    return removed


def prune(root: str, *, older_than: float) -> int:
    """Remove folders below the root that have been empty for so many seconds; returns how many.

    A writer that finds its folder gone makes it again.
    """
    removed = 0
    with contextlib.suppress(FileNotFoundError):  # somebody else prunes as well
        for path, folders, _, here in os.fwalk(root, topdown=False):
            for name in folders:
                if "/." in f"{path}/{name}"[len(root) :]:
                    continue  # the store's own
                with contextlib.suppress(OSError):  # it is not empty, or gone
                    found = os.stat(name, dir_fd=here, follow_symlinks=False)
                    if time.time() - found.st_mtime >= older_than:
                        os.rmdir(name, dir_fd=here)
                        removed += 1
    return removed


def disk_bytes(path: str) -> int:
    """What a folder and all that is below it take on disk; nothing if it is not there."""
    total = 0
    with contextlib.suppress(FileNotFoundError):
        for _, _, files, here in os.fwalk(path):
            total += os.fstat(here).st_blocks
            for name in files:
                with contextlib.suppress(FileNotFoundError):
                    total += os.stat(name, dir_fd=here, follow_symlinks=False).st_blocks
    return total * _BLOCK
