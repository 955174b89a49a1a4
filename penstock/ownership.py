"""Checks whether users other than this one (and root) can change a file or folder.

Group write permission counts, except for a user's private group: many systems create a group of the same name for each
user, without other members, and make files writable by it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from functools import cache

_MOST_LINKS = 40


def others_can_change(found: os.stat_result) -> str:
    """Return the reason why another user can change a file or folder, or an empty string if none can."""
    if reason := _owned_by_another(found):
        return reason
    mode = stat.S_IMODE(found.st_mode)
    if mode & stat.S_IWOTH:
        return f"everyone may write to it (its mode is {mode:04o})"
    # The set-group-id bit passes the group on to new files, which marks a folder that is meant to be shared.
    if mode & stat.S_IWGRP and (mode & stat.S_ISGID or not _is_private_group(found.st_gid, found.st_uid)):
        return f"the group {_group(found.st_gid)} may write to it (its mode is {mode:04o})"
    return ""


def others_can_lead_elsewhere(path: str) -> str:
    """Return the reason why another user can change what an absolute path leads to, or an empty string if none can.

    Checks every folder and link on the way, since write permission in a folder allows replacing its entries, except in
    a sticky folder such as /tmp. Parts of the path that do not exist are ignored. Raises `OSError` for parts that
    cannot be inspected.
    """
    for place, found in _way_to(path):
        if stat.S_ISLNK(found.st_mode):
            reason = _owned_by_another(found)
        else:
            reason = _owned_by_another(found) if found.st_mode & stat.S_ISVTX else others_can_change(found)
        if reason:
            return f"{place}: {reason}"
    try:
        reason = others_can_change(os.stat(path))
    except FileNotFoundError:
        return ""
    return f"{path}: {reason}" if reason else ""


def _owned_by_another(found: os.stat_result) -> str:
    return "" if found.st_uid in (os.geteuid(), 0) else f"it belongs to the user {_user(found.st_uid)}"


def _way_to(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield every folder and link that the kernel visits when it resolves the path, as far as they exist."""
    at, links, left = "/", 0, path.split("/")[::-1]
    yield at, os.lstat(at)
    while left:
        name = left.pop()
        if name in ("", "."):
            continue
        if name == "..":
            at = os.path.dirname(at)
            continue
        here = os.path.join(at, name)
        try:
            found = os.lstat(here)
        except FileNotFoundError:
            return
        yield here, found
        if not stat.S_ISLNK(found.st_mode):
            at = here
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink(here)
        at = "/" if target.startswith("/") else at
        left += target.split("/")[::-1]


@cache
def _is_private_group(gid: int, uid: int) -> bool:
    """Return whether the group is the private group of the user: same name, no other members."""
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(uid), grp.getgrgid(gid)
    except KeyError:
        return False
    if uid == 0 or user.pw_gid != gid or group.gr_name != user.pw_name or set(group.gr_mem) - {user.pw_name}:
        return False
    return not any(other.pw_gid == gid and other.pw_uid != uid for other in pwd.getpwall())


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
