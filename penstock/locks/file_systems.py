"""Detect whether a folder is on a file system that only this machine can access."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

_LOCAL = frozenset(
    (
        *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "nilfs2", "reiserfs"),
        *("tmpfs", "ramfs", "overlay", "ecryptfs"),
    )
)
"""File systems that only one kernel writes to at a time. Any other one may be a network file system."""
_MNT_LOCAL = 0x00001000
_FLAGS_AT = 64
"""The offset of the flags in the structure that `statfs` fills in on macOS."""


_OCTAL = rb"\\([0-3][0-7]{2})"


def is_local(folder: str) -> bool:
    """Return True only if the folder is certainly local. For a missing folder, its first existing parent counts."""
    try:
        place = os.path.realpath(folder)
        while not os.path.isdir(place):
            place = os.path.dirname(place)
        if sys.platform == "darwin":
            return _is_local_on_macos(place)
        return _kind(place) in _LOCAL
    except OSError:
        return False


def _kind(place: str) -> str:
    """Return the type of the file system of a folder; empty if it is unknown."""
    longest, kind = -1, ""
    with Path("/proc/self/mountinfo").open("rb") as mounts:  # also where a test replaces `open`
        for line in mounts:
            before, _, after = line.partition(b" - ")
            # Blanks and similar characters are escaped as \040. Of several mounts in one place, the last is visible.
            point = os.fsdecode(re.sub(_OCTAL, lambda found: bytes([int(found[1], 8)]), before.split()[4]))
            inside = place == point or place.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= longest:
                longest, kind = len(point), after.split()[0].decode()
    return kind


def _is_local_on_macos(place: str) -> bool:
    import ctypes  # slow to import, and not needed on Linux

    library = ctypes.CDLL(None, use_errno=True)
    # On Intel machines the plain name returns the old structure.
    statfs = getattr(library, "statfs$INODE64", None) or library.statfs
    filled = ctypes.create_string_buffer(4096)
    if statfs(os.fsencode(place), filled) != 0:
        return False
    return bool(int.from_bytes(filled.raw[_FLAGS_AT : _FLAGS_AT + 4], sys.byteorder) & _MNT_LOCAL)
