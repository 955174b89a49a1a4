"""Whether a folder lies on a file system that only this machine reaches."""

from __future__ import annotations

import os
import re
import sys

_LOCAL = frozenset(
    (
        *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "nilfs2", "reiserfs"),
        *("tmpfs", "ramfs", "overlay", "ecryptfs"),
    )
)
"""Kinds that one kernel writes at a time. What is not among them may be a network's."""
_MNT_LOCAL = 0x00001000
_FLAGS_AT = 64
"""Where macOS has the flags in what its `statfs` fills in."""


_OCTAL = rb"\\([0-3][0-7]{2})"


def is_local(folder: str) -> bool:
    """True only if it certainly is; of a folder that is not there yet, where it would be made."""
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
    """The kind of file system a folder lies on, empty where nobody says."""
    longest, kind = -1, ""
    with open("/proc/self/mountinfo", "rb") as mounts:
        for line in mounts:
            before, _, after = line.partition(b" - ")
            # Blanks and the like are written as \040. Of several in one place the last is the one that is seen.
            point = os.fsdecode(re.sub(_OCTAL, lambda found: bytes([int(found[1], 8)]), before.split()[4]))
            inside = place == point or place.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= longest:
                longest, kind = len(point), after.split()[0].decode()
    return kind


def _is_local_on_macos(place: str) -> bool:
    import ctypes  # takes longer to import than this file, and Linux has no use for it

    library = ctypes.CDLL(None, use_errno=True)
    # Intel machines have the old structure under the plain name.
    statfs = getattr(library, "statfs$INODE64", None) or library.statfs
    filled = ctypes.create_string_buffer(4096)
    if statfs(os.fsencode(place), filled) != 0:
        return False
    return bool(int.from_bytes(filled.raw[_FLAGS_AT : _FLAGS_AT + 4], sys.byteorder) & _MNT_LOCAL)
