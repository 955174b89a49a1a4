"""Results that are or contain paths: facts about the files, and checking whether these are unchanged.

For a `Path` to an existing file, the record contains the size and modification time of the file and, if it is small, a
digest of its content. If a lookup finds a different file or none, it is a miss; so also on a machine without the file.
A str is never treated as a path.
"""

from __future__ import annotations

import json
import os
import pathlib
import stat
from collections.abc import Iterable
from typing import Any

from blake3 import blake3

_SMALL = 1 << 20
"""The content of files up to this size is digested, so that one that was only touched counts as unchanged."""
_MOST = 100
"""How many paths of a result are recorded; further ones are ignored."""


def facts_of_paths(paths: Iterable[pathlib.Path]) -> dict[str, str]:
    """Return the facts for the record about the files and folders of a value's paths as they are now."""
    states = {os.fsdecode(path): state for path in list(paths)[:_MOST] if (state := _state(path)) is not None}
    return {"files": json.dumps(states, ensure_ascii=True)} if states else {}


def merged_facts(facts: Iterable[dict[str, str]]) -> dict[str, str]:
    """Merge the facts about several parts into one about the whole value."""
    merged: dict[str, str] = {}
    for each in facts:
        files = json.loads(merged.get("files", "{}")) | json.loads(each.get("files", "{}"))
        merged |= each | ({"files": json.dumps(files, ensure_ascii=True)} if files else {})
    return merged


def lost_path(recorded: str) -> str | None:
    """Return the reason why a result cannot be used, based on the states of its files; None if all are unchanged."""
    for path, (kind, size, changed, digest) in json.loads(recorded).items():
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            return f"{path} no longer exists"
        if _kind(found) != kind:
            return f"{path} is no longer a {kind}"
        touched = kind == "file" and (found.st_size, found.st_mtime_ns) != (size, changed)
        if touched and (found.st_size != size or not digest or _digest(path, size) != digest):
            return f"{path} has changed"
    return None


def _state(path: pathlib.Path) -> list[Any] | None:
    try:
        found = os.stat(path)
        kind = _kind(found)
        if kind != "file":
            return [kind, 0, 0, ""] if kind else None
        return [kind, found.st_size, found.st_mtime_ns, _digest(os.fspath(path), found.st_size)]
    except (OSError, ValueError):
        return None  # missing or inaccessible, so there is nothing to check later


def _kind(found: os.stat_result) -> str:
    return "file" if stat.S_ISREG(found.st_mode) else "folder" if stat.S_ISDIR(found.st_mode) else ""


def _digest(path: str, size: int) -> str:
    """Return the digest of a small file's content; empty for a large file."""
    if size > _SMALL:
        return ""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:  # also where a test replaces `open`
        return blake3(file.read(_SMALL + 1)).hexdigest()
