"""Who but this user (and root) can change a file or a folder of this machine: what is theirs is read with caution.

The group's right to write counts as others', but for a user's own private group: where each user has a group of
the same name with nobody else in it, systems let the group write by default, and that gives nothing to anybody.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from functools import cache

_MOST_LINKS = 40


def others_can_change(found: os.stat_result) -> str:
    """Why somebody else can change what was found there, in words; empty if nobody can."""
    if reason := _owned_by_another(found):
        return reason
    mode = stat.S_IMODE(found.st_mode)
    if mode & stat.S_IWOTH:
        return f"everybody may write to it (its mode is {mode:04o})"
    # The set-group-id bit makes what is created there the group's: the mark of a folder that is meant to be shared.
    if mode & stat.S_IWGRP and (mode & stat.S_ISGID or not _is_private_group(found.st_gid, found.st_uid)):
        return f"the group {_group(found.st_gid)} may write to it (its mode is {mode:04o})"
    return ""


def others_can_lead_elsewhere(path: str) -> str:
    """Why somebody else can change what lies at an absolute path, or what the path leads to; empty if nobody can.

    Every folder on the way counts, and so does every link: who may write to a folder can put another one in the place
    of what is in it. Only of a sticky one, as /tmp is, others cannot take away what is not theirs. Nothing is said of
    what is missing. Raises `OSError` for what cannot be looked at.
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
    """Every folder and link that the kernel passes on its way, as far as they are there."""
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
    """Whether this is the group of that user alone, by the convention of systems that make one for each user."""
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
